package holdfast_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// The table in CONTRIBUTING.md that says which file holds what.
const changeTable = "## Which file to change"

// The files of the table exist, so that it can be trusted by whoever is new.
// A <word> in a name stands for any.
func TestContributingNamesRealFiles(t *testing.T) {
	_, section, ok := strings.Cut(read(t, "CONTRIBUTING.md"), changeTable+"\n")
	if !ok {
		t.Fatalf("CONTRIBUTING.md has no section %q", changeTable)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	quoted, anyWord := regexp.MustCompile("`([^`]+)`"), regexp.MustCompile(`<[a-z]+>`)
	named := 0
	for _, line := range strings.Split(section, "\n") {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		if !strings.HasPrefix(line, "|") || len(cells) < 2 {
			continue
		}
		for _, m := range quoted.FindAllStringSubmatch(cells[len(cells)-1], -1) {
			named++
			found, err := filepath.Glob(anyWord.ReplaceAllString(m[1], "*"))
			if err != nil {
				t.Errorf("%s: %v", m[1], err)
			}
			if len(found) == 0 {
				t.Errorf("CONTRIBUTING.md sends %q to %s, which does not exist", strings.TrimSpace(cells[0]), m[1])
			}
		}
	}
	if named < 20 {
		t.Errorf("the table names %d files; expected a row for every part of the system", named)
	}
}

// Each ADR is in the index, has a number of its own, and all four parts.
func TestDecisionRecords(t *testing.T) {
	const dir = "docs/adr/"
	index := read(t, dir+"README.md")
	names, err := filepath.Glob(dir + "[0-9]*.md")
	if err != nil || len(names) == 0 {
		t.Fatalf("no ADRs in %s: %v", dir, err)
	}
	for i, name := range names {
		base, text := filepath.Base(name), read(t, name)
		if want := fmt.Sprintf("%04d-", i+1); !strings.HasPrefix(base, want) {
			t.Errorf("%s: want number %s; the numbers run without gaps", name, want)
		}
		if !strings.Contains(index, "]("+base+")") {
			t.Errorf("%sREADME.md has no link to %s", dir, base)
		}
		for _, part := range []string{"Status: ", "## Context\n", "## Decision\n", "## Alternatives\n", "## Consequences\n"} {
			if !strings.Contains(text, "\n"+part) {
				t.Errorf("%s has no %q", name, strings.TrimSpace(part))
			}
		}
		if n := len(strings.Fields(text)); n > 700 {
			t.Errorf("%s has %d words; an ADR is one page", name, n)
		}
	}
}

// Links between our own documents lead somewhere, down to the heading.
func TestMarkdownLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	checked := 0
	for _, name := range files(t, func(p string) bool { return strings.HasSuffix(p, ".md") }) {
		for _, m := range link.FindAllStringSubmatch(prose(read(t, name)), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			checked++
			file := name
			if target != "" {
				file = path.Join(path.Dir(name), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
				continue
			}
			if anchor != "" && strings.HasSuffix(file, ".md") && !slices.Contains(anchors(read(t, file)), anchor) {
				t.Errorf("%s links to %s; %s has no such heading", name, m[1], file)
			}
		}
	}
	if checked == 0 {
		t.Error("no local link found in any document")
	}
}

// prose is a document without its code blocks.
func prose(text string) string {
	var kept []string
	code := false
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
			continue
		}
		if !code {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// anchors lists what a document's headings are linked by: lower case, words
// joined by hyphens, punctuation dropped.
func anchors(text string) []string {
	var found []string
	for _, line := range strings.Split(prose(text), "\n") {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		found = append(found, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(title)))
	}
	return found
}

// The tests that SECURITY.md gives as its reasons exist.
func TestSecurityNamesRealTests(t *testing.T) {
	var sources strings.Builder
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != ".":
			return fs.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			sources.WriteString(read(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test[A-Za-z_]+)`").FindAllStringSubmatch(read(t, "SECURITY.md"), -1)
	for _, m := range named {
		if !strings.Contains(sources.String(), "func "+m[1]+"(") {
			t.Errorf("SECURITY.md names %s, which does not exist", m[1])
		}
	}
	if len(named) < 15 {
		t.Errorf("SECURITY.md names %d tests; expected one for each thing that it says can or cannot be done", len(named))
	}
}
