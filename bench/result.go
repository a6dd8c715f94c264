package bench

import (
	"math"
	"slices"
	"time"
)

// Result is a whole run.
type Result struct {
	Header Header `json:"header"`
	// Summary is the figures by name, and Figures how each came about.
	Summary map[string]float64 `json:"summary"`
	Figures map[string]Figure  `json:"figures"`
	Rows    []Row              `json:"rows"`
	Curves  []Curve            `json:"curves,omitempty"`
	// Skipped says of each workload, or part of one, that could not be measured why.
	Skipped map[string]string `json:"skipped,omitempty"`
	// Partial says why the run is not a whole one; empty where it is.
	Partial string `json:"partial,omitempty"`
}

// Header is where and on what a run was made.
type Header struct {
	Version  string    `json:"version"` // Holdfast's
	Began    time.Time `json:"began"`
	Took     float64   `json:"took_seconds"`
	Sizes    string    `json:"sizes"`
	Seed     uint64    `json:"seed"`
	Etcd     string    `json:"etcd"` // the server's version
	Members  int       `json:"members"`
	Embedded bool      `json:"embedded"`
	Fsync    string    `json:"fsync"` // on, off, or unknown for an etcd of somebody else's
	Auth     bool      `json:"auth"`
	Go       string    `json:"go"`
	OS       string    `json:"os"`
	CPU      string    `json:"cpu"`
	Cores    int       `json:"cores"`
	MemoryGB float64   `json:"memory_gb"`
}

// Row is one round of one side.
type Row struct {
	Workload string  `json:"workload"`
	Side     string  `json:"side"`
	Params   []Param `json:"params,omitempty"`
	Round    int     `json:"round"`
	// Calls is how many calls, or records, the metrics are about.
	Calls   int            `json:"calls"`
	Errors  map[string]int `json:"errors,omitempty"`
	Metrics []Metric       `json:"metrics"`
	// Latency is where the calls' latencies stand, for a plot.
	Latency []Quantile `json:"latency,omitempty"`
}

// Quantile is a latency that the share Q of all calls, 0 to 1, stayed within.
type Quantile struct {
	Q  float64 `json:"q"`
	NS int64   `json:"ns"`
}

// Param is a size that a row was measured at, such as callers=256.
type Param struct {
	Name  string `json:"name"`
	Value int    `json:"value"`
}

// Metric is a value in a unit, as Go's benchmark format has them.
type Metric struct {
	Unit  string  `json:"unit"` // ops/s, p50-ns, late-p99-s, B/attachment …
	Value float64 `json:"value"`
	// More says that more is better; less is, otherwise.
	More bool `json:"more_is_better,omitempty"`
}

// Figure is a figure of the summary.
type Figure struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // ratio, s, ms, B or count
	// Samples are what Value is the median, or as About says, of.
	Samples []float64 `json:"samples,omitempty"`
	About   string    `json:"about"`
	Goal    Goal      `json:"goal"`
}

// Goal is what a figure is meant to reach, and what it must not be worse than, at
// the sizes of a full run. It is no verdict on other sizes or another machine.
type Goal struct {
	Reach float64 `json:"reach"`
	Least float64 `json:"least"`
	More  bool    `json:"more_is_better,omitempty"`
}

// Met says how a value stands to the goal: reached, at least, or missed.
func (g Goal) Met(v float64) string {
	beyond := func(bound float64) bool {
		if g.More {
			return v >= bound
		}
		return v <= bound
	}
	switch {
	case beyond(g.Reach):
		return "reached"
	case beyond(g.Least):
		return "at least"
	}
	return "missed"
}

// Curve is a line of a plot.
type Curve struct {
	Plot   string    `json:"plot"` // the plot's title
	Series string    `json:"series"`
	XLabel string    `json:"x_label"`
	YLabel string    `json:"y_label"`
	LogX   bool      `json:"log_x,omitempty"`
	LogY   bool      `json:"log_y,omitempty"`
	X      []float64 `json:"x"`
	Y      []float64 `json:"y"`
}

// Median of what is there; NaN of nothing.
func Median(of []float64) float64 {
	if len(of) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(of))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
