package holdfast_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// incidents is how many reported incidents of others docs/track-record.md lists.
const incidents = 22

// Each row of the track record names a test, and each test it names is there.
func TestTrackRecord(t *testing.T) {
	elsewhere, here, ok := strings.Cut(read(t, "docs/track-record.md"), "\n## Here\n")
	if !ok {
		t.Fatal("docs/track-record.md has no part called Here")
	}
	if n := checkRows(t, elsewhere); n < incidents {
		t.Errorf("docs/track-record.md lists %d incidents of others, expected %d", n, incidents)
	}
	if n := checkRows(t, here); n == 0 {
		t.Error("docs/track-record.md lists no fault of our own")
	}
}

// checkRows returns how many rows a part of the page has, the heads left out.
func checkRows(t *testing.T, part string) (rows int) {
	t.Helper()
	command := regexp.MustCompile("`(?:make e2e RUN=|go test (?:-tags failpoints )?-run )((?:Test|Fuzz)[A-Za-z0-9_]+)(/[^ `]+)?(?: \\./([^ `]*))?`")
	for _, line := range strings.Split(part, "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") || strings.HasSuffix(line, "| test |") {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		last := cells[len(cells)-1]
		found := command.FindAllStringSubmatch(last, -1)
		if len(found) == 0 || len(found) != strings.Count(last, "<br>")+1 {
			t.Errorf("docs/track-record.md: no test, or one in a form that is not known, in the row %q", line)
		}
		for _, m := range found {
			dir := m[3]
			if strings.HasPrefix(m[0], "`make e2e") {
				dir = "e2e"
			}
			if dir == "" || !hasTest(t, dir, m[1]) {
				t.Errorf("docs/track-record.md names %s, which is not there", m[0])
			}
			if script := filepath.Join(dir, "testdata/script", m[2]+".txtar"); m[2] != "" && !exists(script) {
				t.Errorf("docs/track-record.md names %s, whose script %s is not there", m[0], script)
			}
		}
	}
	return rows
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	tests, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tests {
		if text := read(t, file); strings.Contains(text, "\nfunc "+name+"(t *testing.T) {") || strings.Contains(text, "\nfunc "+name+"(f *testing.F) {") {
			return true
		}
	}
	return false
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
