package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/perf/benchfmt"

	"github.com/holdfast-storage/holdfast/bench"
)

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := Table(&b, sample(1.2)); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.golden", b.String())
}

// What the goals say holds at their sizes: on others a figure is a figure.
func TestTable_JudgesOnlyFullRuns(t *testing.T) {
	r := sample(1.2)
	r.Header.Sizes, r.Partial = "smoke", "stopped at workload attach: interrupted"
	var b bytes.Buffer
	if err := Table(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"verdict", "reached", "missed", "≥"} {
		if strings.Contains(b.String(), word) {
			t.Errorf("the table of a smoke run says %q:\n%s", word, b.String())
		}
	}
	if !strings.Contains(b.String(), "PARTIAL: stopped at workload attach") {
		t.Errorf("the table does not say that it is partial:\n%s", b.String())
	}
}

func TestGo(t *testing.T) {
	var b bytes.Buffer
	if err := Go(&b, sample(1.2)); err != nil {
		t.Fatal(err)
	}
	golden(t, "go.golden", b.String())
	reader := benchfmt.NewReader(&b, "go.golden")
	found := 0
	for reader.Scan() {
		switch record := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			t.Error(record)
		case *benchfmt.Result:
			found++
			if got := record.GetConfig("fsync"); got != "on" {
				t.Errorf("%s: fsync = %q, want on", record.Name, got)
			}
			if strings.HasPrefix(record.Name.String(), "Attach/side=put/callers=256") {
				if _, ok := record.Value("ops/s"); !ok {
					t.Errorf("%s has no ops/s", record.Name)
				}
			}
		}
	}
	if err := reader.Err(); err != nil {
		t.Error(err)
	}
	if want := 2*3 + 1 + 4; found != want {
		t.Errorf("benchfmt finds %d benchmarks, want %d: one for each side at each size, and one for each figure", found, want)
	}
	if got := reader.Units().GetBetter("ops/s"); got != 1 {
		t.Errorf("better of ops/s = %d, want 1", got)
	}
}

func TestJSON(t *testing.T) {
	want := sample(1.2)
	var b bytes.Buffer
	if err := JSON(&b, want); err != nil {
		t.Fatal(err)
	}
	var got bench.Result
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Errorf("what is read is not what was written (-want +got):\n%s", diff)
	}
	var names struct{ Summary map[string]float64 }
	if err := json.Unmarshal(b.Bytes(), &names); err != nil || names.Summary["resync_ms"] != 700 {
		t.Errorf("summary = %v, %v; want a flat map with resync_ms of 700", names, err)
	}
}

func TestValues(t *testing.T) {
	for _, test := range []struct {
		unit string
		of   float64
		want string
	}{
		{"ops/s", 12345.6, "12,346"},
		{"ops/s", 0, "0"},
		{"ratio", 1.234, "1.23"},
		{"ratio", 0.01234, "0.0123"},
		{"ms", 45.67, "45.7"},
		{"count", 1000, "1,000"},
		{"count", -1234567, "-1,234,567"},
		{"p50-ns", 999, "999ns"},
		{"p50-ns", 1500, "1.50µs"},
		{"p50-ns", 15.25e6, "15.2ms"},
		{"p50-ns", 3e9, "3.00s"},
		{"max-ns", 150e9, "150s"},
	} {
		if got := show(test.unit, test.of); got != test.want {
			t.Errorf("show(%q, %v) = %q, want %q", test.unit, test.of, got, test.want)
		}
	}
}
