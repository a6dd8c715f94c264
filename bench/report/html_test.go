package report

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-storage/holdfast/bench"
)

func htmlOf(t *testing.T, r *bench.Result) string {
	t.Helper()
	var b bytes.Buffer
	if err := HTML(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// HOLDFAST_REPORT_HTML is a file that the page is put into, to be looked at.
func TestHTML(t *testing.T) {
	r := sample(1.2)
	r.Rows = append(r.Rows, bench.Row{
		Workload: "coldstart", Side: "holdfast", Params: []bench.Param{{Name: "records", Value: 10_000}}, Calls: 10_000,
		Metrics: []bench.Metric{{Unit: "ready-ns", Value: 0.2e9}, {Unit: "B/attachment", Value: 450}},
	})
	r.Curves = append(r.Curves, bench.Curve{Plot: "attach: throughput against callers", Series: "the workload's own", X: []float64{1, 2}, Y: []float64{1, 2}})
	html := htmlOf(t, r)
	if path := os.Getenv("HOLDFAST_REPORT_HTML"); path != "" {
		if err := os.WriteFile(path, []byte(html), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		"attach: throughput against callers", "attach: latency quantiles, callers=256",
		"coldstart: ready against records", "Lateness of graces that end together",
	} {
		if n := strings.Count(html, `aria-label="`+want+`"`); n != 1 {
			t.Errorf("%d plots %q, want 1", n, want)
		}
	}
	if svgs := strings.Count(html, "<svg "); svgs != 4 || strings.Count(html, "<path") < 20 {
		t.Errorf("%d plots, want 4, with lines in them", svgs)
	}
	for _, want := range []string{"etcd 3.7.3, 1 member", "22,706", "attach_vs_put", `class="verdict least">at least`, "2 × etcd is full", "--kubeconfig names one"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(html, "ZgotmplZ") {
		t.Error("html/template took something for dangerous")
	}
}

// Who has looked at one plot need not look up the colours of the next.
func TestCharts_HaveTheSameColours(t *testing.T) {
	r := &bench.Result{Curves: []bench.Curve{
		{Plot: "one", Series: "put", X: []float64{1}, Y: []float64{1}},
		{Plot: "one", Series: "holdfast", X: []float64{1}, Y: []float64{1}},
		{Plot: "two", Series: "range", X: []float64{1}, Y: []float64{1}},
		{Plot: "two", Series: "put", X: []float64{1}, Y: []float64{1}},
	}}
	got := map[string]int{}
	for _, c := range charts(r) {
		for _, k := range c.legend() {
			if had, ok := got[k.Name]; ok && had != k.Color {
				t.Errorf("%s has colours %d and %d", k.Name, had, k.Color)
			}
			got[k.Name] = k.Color
		}
	}
	if got["holdfast"] != 0 || got["put"] == got["range"] {
		t.Errorf("colours %v; want the first for holdfast, and others for others", got)
	}
}

func TestDecades_AreNeverTooFew(t *testing.T) {
	for _, test := range [][2]float64{{1.6, 1.9}, {1, 1000}, {3e6, 9e11}} {
		labels := 0
		for _, tick := range decades(test[0], test[1]) {
			if tick.Label != "" {
				labels++
			}
		}
		if labels < 2 || labels > 12 {
			t.Errorf("from %v to %v: %d labels", test[0], test[1], labels)
		}
	}
}

// A quantile of which a round has no call is not drawn.
func TestCharts_QuantilesEndWithTheCalls(t *testing.T) {
	r := sample(1)
	for i := range r.Rows {
		r.Rows[i].Calls = 100
	}
	for _, c := range charts(r) {
		for _, s := range c.Series {
			if strings.Contains(c.Title, "quantiles") && (len(s.X) != 4 || s.X[3] != 100) {
				t.Errorf("%s, %s: ends at %v, want 99 %%", c.Title, s.Name, s.X)
			}
		}
	}
	for i := range r.Rows {
		r.Rows[i].Calls = 1
	}
	for _, c := range charts(r) {
		if strings.Contains(c.Title, "quantiles") {
			t.Errorf("%s is drawn of a single call", c.Title)
		}
	}
}

// The page can be kept, sent and opened anywhere.
func TestHTML_FetchesNothing(t *testing.T) {
	html := htmlOf(t, sample(1.2))
	for _, bad := range []string{`://`, `src=`, `href=`, `url(`, `@import`, `<link`, `<script`, `<iframe`, `xmlns`} {
		if at := strings.Index(html, bad); at >= 0 {
			t.Errorf("the page has %q: %s", bad, html[max(0, at-40):min(len(html), at+60)])
		}
	}
	// Every colour of a plot is one of the page's, which there is by night too.
	for _, svg := range regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAllString(html, -1) {
		if found := regexp.MustCompile(`#[0-9A-Fa-f]{6}`).FindAllString(svg, -1); len(found) > 0 {
			t.Errorf("a plot has colours of its own: %q", found)
		}
	}
}

// What is in a result need not be harmless, and a result need not be whole.
func TestHTML_OfAnything(t *testing.T) {
	html := htmlOf(t, &bench.Result{Partial: "<script>alert(1)</script>", Curves: []bench.Curve{
		{Plot: `"><b>`, Series: "<i>x</i>", X: []float64{1, 1}, Y: []float64{0, 0}, LogX: true, XLabel: "<u>"},
		{Plot: "steep", Series: "s", X: []float64{0, 1, 10}, Y: []float64{0, 5, 1e9}, LogX: true, LogY: true},
		{Plot: "flat", Series: "s", X: []float64{1, 2}, Y: []float64{7, 7}, LogY: true},
		{Plot: "none", Series: "s"},
	}})
	if n := strings.Count(html, "<svg "); n != 3 {
		t.Errorf("%d plots, want 3: one has no points", n)
	}
	for _, bad := range []string{"<script>", "<i>x", "<u>", `"><b>`} {
		if strings.Contains(html, bad) {
			t.Errorf("%q is in the page as it is", bad)
		}
	}
}
