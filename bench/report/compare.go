package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
	"golang.org/x/perf/benchproc"

	"github.com/holdfast-storage/holdfast/bench"
)

// Comparison is what is different between two sets of results.
type Comparison struct {
	Changes []Change
	// Apart says in what the sets differ that is no figure, such as etcd's version.
	Apart []string
	// Few says that there are too few samples for any difference to be significant.
	Few bool
}

// Change is one benchmark in one unit. Times are in seconds.
type Change struct {
	Name, Unit string
	// Old and New are medians, P how likely it is that both are of one kind and
	// differ only by chance, and Significant whether that is too unlikely.
	Old, New    float64
	P           float64
	Significant bool
	// Better is 1 where more is, -1 where less is, and 0 where nobody knows.
	Better int
	// N is how many samples each side has; 0 for what only the other has.
	N [2]int
}

// Delta is by how much of Old the value has grown.
func (c Change) Delta() float64 { return c.New/c.Old - 1 }

// Worse is by which share the value has become worse; 0 if it has not, or if
// that may be chance.
func (c Change) Worse() float64 {
	switch {
	case !c.Significant:
		return 0
	case c.Better > 0:
		return max(0, -c.Delta())
	case c.Better < 0:
		return max(0, c.Delta())
	}
	return 0
}

// Compare compares files, each a result as JSON or in Go's benchmark format. Of
// several files of JSON a run is a sample; of a single one a round is.
func Compare(before, after []string) (*Comparison, error) {
	s := newSamples()
	for side, paths := range [2][]string{before, after} {
		for _, path := range paths {
			if err := s.read(side, path, len(paths) == 1); err != nil {
				return nil, err
			}
		}
	}
	return s.compare(), nil
}

// samples are the values of both sides, by benchmark and unit.
type samples struct {
	rows    *benchproc.Projection
	unit    *benchproc.Field
	order   []benchproc.Key
	values  map[benchproc.Key]*[2][]float64
	config  [2]map[string][]string
	keys    []string // of config, as they first come
	units   benchfmt.UnitMetadataMap
	results [2]int
}

func newSamples() *samples {
	var parser benchproc.ProjectionParser
	// What a benchmark is, without on how many cores: that is told apart.
	must(parser.Parse("/gomaxprocs", nil))
	rows, unit, err := parser.ParseWithUnit(".fullname", nil)
	must(rows, err)
	return &samples{
		rows: rows, unit: unit, values: map[benchproc.Key]*[2][]float64{},
		config: [2]map[string][]string{{}, {}}, units: benchfmt.UnitMetadataMap{},
	}
}

// must is for projections, which are constants.
func must(_ *benchproc.Projection, err error) {
	if err != nil {
		panic(err)
	}
}

func (s *samples) read(side int, path string, rounds bool) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		var r bench.Result
		if err := json.Unmarshal(data, &r); err != nil {
			return fmt.Errorf("%s: expected the JSON of a result: %w", path, err)
		}
		if data, err = asGo(&r, rounds); err != nil {
			return err
		}
	}
	had := s.results[side]
	reader := benchfmt.NewReader(bytes.NewReader(data), path)
	for reader.Scan() {
		switch record := reader.Result().(type) {
		case *benchfmt.Result:
			s.results[side]++
			s.add(side, record)
		case *benchfmt.SyntaxError:
			return record
		}
	}
	if err := reader.Err(); err != nil {
		return err
	}
	for k, v := range reader.Units() {
		s.units[k] = v
	}
	if s.results[side] == had {
		return fmt.Errorf("%s: expected a result as JSON, or in Go's benchmark format, and there is no benchmark in it", path)
	}
	return nil
}

func asGo(r *bench.Result, rounds bool) ([]byte, error) {
	if rounds {
		return []byte(goRounds(r)), nil
	}
	var b bytes.Buffer
	err := Go(&b, r)
	return b.Bytes(), err
}

func (s *samples) add(side int, r *benchfmt.Result) {
	for _, c := range r.Config {
		if !slices.Contains(s.keys, c.Key) {
			s.keys = append(s.keys, c.Key)
		}
		if v := string(c.Value); !slices.Contains(s.config[side][c.Key], v) {
			s.config[side][c.Key] = append(s.config[side][c.Key], v)
		}
	}
	for i, key := range s.rows.ProjectValues(r) {
		of := s.values[key]
		if of == nil {
			of = &[2][]float64{}
			s.values[key], s.order = of, append(s.order, key)
		}
		of[side] = append(of[side], r.Values[i].Value)
	}
}

func (s *samples) compare() *Comparison {
	c := &Comparison{Few: len(s.order) > 0}
	for _, key := range s.order {
		change, few := s.change(key)
		c.Changes = append(c.Changes, change)
		c.Few = c.Few && few
	}
	for _, k := range s.keys {
		if a, b := s.config[0][k], s.config[1][k]; !slices.Equal(a, b) {
			c.Apart = append(c.Apart, fmt.Sprintf("%s: %s → %s", k, strings.Join(a, ", "), strings.Join(b, ", ")))
		}
	}
	return c
}

// fewest is how many samples a side needs for the test to find anything at all.
const fewest = 4

// change also tells whether there are too few samples to find one.
func (s *samples) change(key benchproc.Key) (Change, bool) {
	unit := key.Get(s.unit)
	name := key.Get(s.rows.Fields()[0])
	of := s.values[key]
	c := Change{Name: name, Unit: unit, Better: s.units.GetBetter(unit), N: [2]int{len(of[0]), len(of[1])}}
	if c.N[0] == 0 || c.N[1] == 0 {
		c.Old, c.New = bench.Median(of[0]), bench.Median(of[1])
		return c, true
	}
	assume := s.units.GetAssumption(unit)
	before := benchmath.NewSample(of[0], &benchmath.DefaultThresholds)
	after := benchmath.NewSample(of[1], &benchmath.DefaultThresholds)
	compared := assume.Compare(before, after)
	c.Old, c.New = assume.Summary(before, 0.95).Center, assume.Summary(after, 0.95).Center
	c.P = compared.P
	c.Significant = compared.P <= compared.Alpha && c.Old != c.New
	return c, max(c.N[0], c.N[1]) < fewest
}
