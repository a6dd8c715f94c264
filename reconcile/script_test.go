package reconcile

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata give as what they expect")

// block is one case of a script: comments, input, "----", output. An empty line
// ends it.
type block struct {
	comments, input []string
	output          string
}

// script runs each file of a folder of testdata through run, one block after
// the other, and compares the outputs. Start begins a file.
func script(t *testing.T, folder string, start func() func(t *testing.T, input []string) string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata/%s: %v", folder, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			run := start()
			var out strings.Builder
			for _, b := range blocks(t, string(data)) {
				for _, c := range b.comments {
					out.WriteString(c + "\n")
				}
				if len(b.input) > 0 {
					for _, in := range b.input {
						out.WriteString(in + "\n")
					}
					out.WriteString("----\n" + run(t, b.input))
				}
				out.WriteString("\n")
			}
			got := strings.TrimRight(out.String(), "\n") + "\n"
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(data), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("%s (-want +got), rewrite it with -rewrite:\n%s", file, diff)
			}
		})
	}
}

func blocks(t *testing.T, data string) []block {
	t.Helper()
	var out []block
	for text := range strings.SplitSeq(data, "\n\n") {
		var b block
		input := true
		for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
			switch {
			case line == "----":
				input = false
			case !input:
				b.output += line + "\n"
			case strings.HasPrefix(line, "#"):
				b.comments = append(b.comments, line)
			case line != "":
				b.input = append(b.input, line)
			}
		}
		out = append(out, b)
	}
	return out
}

// fields splits a line of a script into its verb, its bare words and its
// key=value pairs.
func fields(line string) (verb string, words map[string]bool, pairs map[string]string) {
	words, pairs = map[string]bool{}, map[string]string{}
	all := strings.Fields(line)
	for _, f := range all[1:] {
		if k, v, ok := strings.Cut(f, "="); ok {
			pairs[k] = v
		} else {
			words[f] = true
		}
	}
	return all[0], words, pairs
}
