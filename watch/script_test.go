package watch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A script is a file of cases: lines of input, a line "----", and the lines
// that the input is to give, up to an empty one. What stands before the first
// line of input of a case and begins with "#" is its comment.
const divider = "----"

// runScripts gives the input of each case, a line at a time, to what start
// returned for the file, and compares the output. With -rewrite it puts the
// output into the file instead.
func runScripts(t *testing.T, pattern string, start func(t *testing.T) func(line string) string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts at %s (%v)", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := string(data)
			got := runScript(want, start(t))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("%s: -want +got (go test -rewrite writes what it got):\n%s", file, diff)
			}
		})
	}
}

func runScript(script string, run func(line string) string) string {
	var out strings.Builder
	lines := strings.Split(strings.TrimRight(script, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line != divider {
			out.WriteString(line + "\n")
			continue
		}
		out.WriteString(divider + "\n")
		for begin := caseBegins(lines, i); begin < i; begin++ {
			out.WriteString(run(lines[begin]))
		}
		for i+1 < len(lines) && lines[i+1] != "" {
			i++ // what the case is to give: written anew
		}
	}
	return out.String()
}

// caseBegins is the first line of input of the case whose divider is at i.
func caseBegins(lines []string, i int) int {
	for i > 0 && lines[i-1] != "" && !strings.HasPrefix(lines[i-1], "#") {
		i--
	}
	return i
}
