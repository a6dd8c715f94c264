package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"regexp"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours that a plot is drawn in stand for variables of the page's style,
// which are others by day and by night, and on paper.
var (
	ink  = color.RGBA{R: 1, A: 255}
	grey = color.RGBA{R: 2, A: 255}
)

// seriesColors is how many there are; more lines take them again.
const seriesColors = 6

func seriesColor(i int) color.RGBA {
	return color.RGBA{R: 3, B: uint8(i % seriesColors), A: 255} //nolint:gosec // below seriesColors
}

// variables put the page's in the place of the colours.
func variables() *strings.Replacer {
	pairs := []string{"#010000", "var(--ink)", "#020000", "var(--grid)"}
	for i := range seriesColors {
		pairs = append(pairs, fmt.Sprintf("#0300%02X", i), fmt.Sprintf("var(--s%d)", i))
	}
	return strings.NewReplacer(pairs...)
}

// The size of a plot, in points; a page shows it as wide as it can.
const (
	plotWidth  = 6.4 * vg.Inch
	plotHeight = 3.6 * vg.Inch
)

// svg draws the chart as an element of an HTML page.
func (c chart) svg() (template.HTML, error) {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	dress(p)
	c.X.dress(&p.X, c.values(func(s series) []float64 { return s.X }))
	c.Y.dress(&p.Y, c.values(func(s series) []float64 { return s.Y }))
	if !c.Y.Log {
		p.Y.Min = min(0, p.Y.Min)
	}
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = grey, grey
	p.Add(grid)
	for _, s := range c.Series {
		points := c.points(s)
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return "", fmt.Errorf("plot %q: %w", c.Title, err)
		}
		line.Color, line.Width = seriesColor(s.Color), vg.Points(2)
		dots.Color, dots.Shape, dots.Radius = seriesColor(s.Color), draw.CircleGlyph{}, vg.Points(2.6)
		p.Add(line)
		if len(points) <= 24 {
			p.Add(dots)
		}
	}
	canvas := vgsvg.New(plotWidth, plotHeight)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return "", fmt.Errorf("plot %q: %w", c.Title, err)
	}
	return inline(b.String(), c.Title), nil
}

// points are those of a series that can stand on both axes.
func (c chart) points(s series) plotter.XYs {
	var points plotter.XYs
	for j := range min(len(s.X), len(s.Y)) {
		if c.X.takes(s.X[j]) && c.Y.takes(s.Y[j]) {
			points = append(points, plotter.XY{X: s.X[j], Y: s.Y[j]})
		}
	}
	return points
}

// values are those of all series, that an axis has to have room for.
func (c chart) values(of func(series) []float64) []float64 {
	var all []float64
	for _, s := range c.Series {
		all = append(all, of(s)...)
	}
	return all
}

func dress(p *plot.Plot) {
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.Tick.Color, a.Label.TextStyle.Color, a.Tick.Label.Color = ink, grey, ink, ink
		a.LineStyle.Width, a.Tick.LineStyle.Width = vg.Points(0.7), vg.Points(0.5)
		a.Label.TextStyle.Font.Variant, a.Tick.Label.Font.Variant = "Sans", "Sans"
		a.Label.TextStyle.Font.Size, a.Tick.Label.Font.Size = vg.Points(11), vg.Points(10)
		a.Label.Padding = vg.Points(4)
	}
}

// takes tells whether a value can stand on the axis.
func (a axis) takes(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && (!a.Log || v > 0)
}

func (a axis) dress(to *plot.Axis, values []float64) {
	to.Label.Text = a.Label
	values = slices.DeleteFunc(values, func(v float64) bool { return !a.takes(v) })
	if a.Log {
		to.Scale = plot.LogScale{}
	}
	to.Tick.Marker = plot.TickerFunc(func(low, high float64) []plot.Tick { return a.ticks(low, high) })
	if len(values) == 0 {
		return
	}
	// The plot itself makes room for its points; a line needs more where all of
	// its points are the same.
	if low, high := slices.Min(values), slices.Max(values); low == high {
		to.Min, to.Max = low*0.5, high*1.5
		if low == 0 {
			to.Max = 1
		}
	}
}

func (a axis) ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	switch {
	case len(a.Ticks) > 0:
		for i, at := range a.Ticks {
			if at < low || at > high {
				continue
			}
			name := a.name(at)
			if len(a.Names) > 0 {
				name = a.Names[i]
			}
			ticks = append(ticks, plot.Tick{Value: at, Label: name})
		}
	case a.Log:
		ticks = decades(low, high)
	default:
		ticks = plot.DefaultTicks{}.Ticks(low, high)
	}
	for i, t := range ticks {
		if t.Label != "" && len(a.Names) == 0 {
			ticks[i].Label = a.name(t.Value)
		}
	}
	return ticks
}

// decades are 1, 2 and 5 of each, or of many decades only 1.
func decades(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	first, last := int(math.Floor(math.Log10(low))), int(math.Ceil(math.Log10(high)))
	for d := first; d <= last; d++ {
		for _, of := range []float64{1, 2, 5} {
			v := of * math.Pow10(d)
			if v < low || v > high {
				continue
			}
			t := plot.Tick{Value: v, Label: "+"}
			if of != 1 && last-first > 3 {
				t.Label = ""
			}
			ticks = append(ticks, t)
		}
	}
	if len(ticks) < 2 { // a range too narrow for them is nearly even
		return plot.DefaultTicks{}.Ticks(low, high)
	}
	return ticks
}

// name is how a value is called at an axis, where there is little room.
func (a axis) name(v float64) string {
	if a.Unit == "ns" || strings.HasSuffix(a.Unit, "-ns") {
		return shortDuration(v)
	}
	for _, u := range []struct {
		of   float64
		name string
	}{{1e9, " G"}, {1e6, " M"}, {1e3, " k"}} {
		if math.Abs(v) >= u.of {
			return short(v/u.of) + u.name
		}
	}
	return short(v)
}

func short(v float64) string { return fmt.Sprintf("%.3g", v) }

func shortDuration(ns float64) string {
	for _, u := range []struct {
		of   float64
		name string
	}{{1e9, " s"}, {1e6, " ms"}, {1e3, " µs"}} {
		if ns >= u.of {
			return short(ns/u.of) + u.name
		}
	}
	return short(ns) + " ns"
}

var (
	prelude = regexp.MustCompile(`(?s)\A.*?<svg [^>]*viewBox="([^"]*)"[^>]*>`)
	fonts   = regexp.MustCompile(`font-family:[^;]*;font-variant:[^;]*;`)
)

// inline makes an SVG document an element of a page: as wide as there is room, in
// the page's own colours and font, with nothing to fetch.
func inline(svg, title string) template.HTML {
	svg = prelude.ReplaceAllString(svg, `<svg viewBox="$1" role="img" aria-label="`+template.HTMLEscapeString(title)+`">`)
	return template.HTML(variables().Replace(fonts.ReplaceAllString(svg, ""))) //nolint:gosec // gonum escapes its texts
}
