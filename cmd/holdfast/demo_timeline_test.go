package main

import (
	"bytes"
	"os"
	"regexp"
	"testing"
	"time"
)

func TestTimeline(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	line := newTimeline(&out)
	line.act("Attach", "What it shows.")
	line.event(12, "east attaches %s", "vol-1")
	line.event(0, "nobody asked etcd")
	line.checked("the hold is there")
	line.refused("no")
	line.detail("one\ntwo\n")
	line.failed("Attach", os.ErrNotExist)
	want := `
 1. Attach
    What it shows.
   0.00s  r12    east attaches vol-1
   0.00s         nobody asked etcd
                 ✓ the hold is there
                 ✗ no
                 one
                 two
                 ✗ this did not happen: Attach: file does not exist
`
	if got := regexp.MustCompile(`\d\.\d\ds`).ReplaceAllString(out.String(), "0.00s"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if line.elapsed() > time.Minute {
		t.Errorf("elapsed: %v", line.elapsed())
	}
}

// A terminal is a character device; so is this one.
func TestTimelineColours(t *testing.T) {
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	for name, c := range map[string]struct {
		noColor, term string
		want          bool
	}{
		"a terminal":      {"", "xterm", true},
		"NO_COLOR":        {"1", "xterm", false},
		"a dumb terminal": {"", "dumb", false},
		"no TERM":         {"", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NO_COLOR", c.noColor)
			t.Setenv("TERM", c.term)
			if got := colourful(device); got != c.want {
				t.Errorf("colourful: %v, want %v", got, c.want)
			}
		})
	}
	if colourful(&bytes.Buffer{}) {
		t.Error("a buffer is coloured")
	}
}
