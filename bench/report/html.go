package report

import (
	_ "embed"
	"html/template"
	"io"
	"maps"
	"slices"

	"github.com/holdfast-storage/holdfast/bench"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// HTML writes a result as one page, with plots, that needs nothing else.
func HTML(w io.Writer, r *bench.Result) error {
	about := map[string]string{}
	for _, wl := range bench.Workloads() {
		about[wl.Name] = wl.About
	}
	v := view{
		Result: r, On: onWhat(r.Header), Figures: figures(r), Judged: r.Header.Sizes == bench.Full.Name,
	}
	for _, s := range sections(r) {
		v.Sections = append(v.Sections, sectionView{s.Workload, about[s.Workload], s.grid(), complaints(s)})
	}
	for _, c := range charts(r) {
		drawing, err := c.svg()
		if err != nil {
			return err
		}
		v.Plots = append(v.Plots, plotView{c.Title, drawing, c.legend()})
	}
	for _, what := range slices.Sorted(maps.Keys(r.Skipped)) {
		v.Skipped = append(v.Skipped, [2]string{what, r.Skipped[what]})
	}
	return page.Execute(w, v)
}

// view is what the page shows.
type view struct {
	*bench.Result
	On       []string
	Figures  []figure
	Judged   bool // the goals are about a run like this
	Sections []sectionView
	Plots    []plotView
	Skipped  [][2]string
}

type sectionView struct {
	Name, About string
	grid        grid
	Complaints  []string
}

// Headings and Rows are the section's table, for the template.
func (s sectionView) Headings() []string { return s.grid.headings }
func (s sectionView) Rows() [][]string   { return s.grid.rows }

type plotView struct {
	Title  string
	SVG    template.HTML
	Legend []key
}

// key is an entry of a legend.
type key struct {
	Color int
	Name  string
}

func (c chart) legend() []key {
	var keys []key
	for _, s := range c.Series {
		keys = append(keys, key{s.Color, s.Name})
	}
	return keys
}
