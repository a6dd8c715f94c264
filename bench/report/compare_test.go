package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-storage/holdfast/bench"
)

// save writes a result into a file of its own.
func save(t *testing.T, write func(io.Writer, *bench.Result) error, r *bench.Result) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "result")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := write(f, r); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// several are runs that differ a little, each from the other, and all of them by
// times from what is measured otherwise. Those of another day differ otherwise.
func several(t *testing.T, write func(io.Writer, *bench.Result) error, times float64, day int) []string {
	var files []string
	for run := range 6 {
		r := sample(times)
		for i := range r.Rows {
			for j := range r.Rows[i].Metrics {
				r.Rows[i].Metrics[j].Value *= 1 + 0.001*float64((7*run+day)%11)
			}
		}
		files = append(files, save(t, write, r))
	}
	return files
}

func TestCompare_FindsWhatIsPlanted(t *testing.T) {
	one := func(write func(io.Writer, *bench.Result) error) func(float64) []string {
		return func(times float64) []string { return []string{save(t, write, sample(times))} }
	}
	for name, files := range map[string]func(times float64) []string{
		"the rounds of one run": one(JSON),
		"several runs":          func(times float64) []string { return several(t, JSON, times, int(10*times)) },
		"several runs of Go":    func(times float64) []string { return several(t, Go, times, int(10*times)) },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Compare(files(1.3), files(1))
			if err != nil {
				t.Fatal(err)
			}
			if c.Few || len(c.Apart) > 0 {
				t.Errorf("few = %v, apart = %q; want neither", c.Few, c.Apart)
			}
			found := 0
			for _, ch := range c.Changes {
				attaches := strings.HasPrefix(ch.Name, "Attach/side=holdfast")
				switch ch.Unit {
				case "ops/s":
					if attaches != (ch.Worse() > 0.2 && ch.Worse() < 0.25) {
						t.Errorf("%s %s: worse by %.2f; want 0.23 of attaches, and 0 of puts: %+v", ch.Name, ch.Unit, ch.Worse(), ch)
					}
				case "p50-sec":
					if attaches != (ch.Worse() > 0.25 && ch.Worse() < 0.35) {
						t.Errorf("%s %s: worse by %.2f; want 0.3 of attaches, and 0 of puts: %+v", ch.Name, ch.Unit, ch.Worse(), ch)
					}
				default:
					continue
				}
				found++
			}
			if found != 2*6 {
				t.Errorf("%d rows of ops/s and p50; want 12", found)
			}
		})
	}
}

func TestCompare_FindsNothingInWhatIsEqual(t *testing.T) {
	c, err := Compare(several(t, JSON, 1.2, 0), several(t, JSON, 1.2, 4))
	if err != nil {
		t.Fatal(err)
	}
	differ := 0
	for _, ch := range c.Changes {
		if ch.Old != ch.New {
			differ++
		}
		if ch.Significant || ch.Worse() != 0 {
			t.Errorf("%+v is significant", ch)
		}
	}
	if differ < 10 {
		t.Errorf("the medians of %d rows differ; expected some, so that they could be taken for a change", differ)
	}
	var b bytes.Buffer
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	if n, rows := strings.Count(b.String(), " ~ "), len(c.Changes); n != rows || rows == 0 {
		t.Errorf("%d of %d rows say ~:\n%s", n, rows, b.String())
	}
}

func TestCompare_SaysWhatIsNotTheSame(t *testing.T) {
	other := sample(1.2)
	other.Header.Members, other.Header.Cores = 3, 8
	other.Rows = other.Rows[:10]
	c, err := Compare([]string{save(t, Go, sample(1.2))}, []string{save(t, Go, other)})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"not the same: members: 1 → 3", " gone ", "Too few samples"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the comparison does not say %q:\n%s", want, b.String())
		}
	}
	// The number of cores is no part of what a benchmark is called.
	if strings.Contains(b.String(), " new ") && strings.Contains(b.String(), "0+1") {
		t.Errorf("the comparison takes the same for something new:\n%s", b.String())
	}
}

func TestCompare_RefusesWhatIsNoResult(t *testing.T) {
	good := save(t, JSON, sample(1))
	for name, text := range map[string]string{
		"empty": "", "other": "# A title\n", "broken": `{"rows": 1}`, "half": "BenchmarkAttach 1 2\n", "no rows": `{"header": {}}`,
	} {
		bad := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Compare([]string{good}, []string{bad})
		if err == nil || !strings.Contains(fmt.Sprint(err), bad) {
			t.Errorf("%s: error %v; want one that names the file", name, err)
		}
	}
}
