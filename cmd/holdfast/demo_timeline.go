package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

// timeline prints what a demo does as it happens: one line an event, with the
// seconds since the start and the etcd revision that it was read at.
//
//	2.31s  r14    east attaches vol-1 to node-1
//	              ✓ the hold is in etcd, and its token is 14
type timeline struct {
	w       io.Writer
	started time.Time
	colours bool
	acts    int
}

// The colours of a terminal; none where there is none.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func newTimeline(w io.Writer) *timeline {
	return &timeline{w: w, started: time.Now(), colours: colourful(w)}
}

// colourful says whether w is a terminal of somebody who has not said no to
// colours (no-color.org).
func colourful(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || slices.Contains([]string{"", "dumb"}, os.Getenv("TERM")) {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (t *timeline) paint(colour, text string) string {
	if !t.colours || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (t *timeline) line(format string, args ...any) { fmt.Fprintf(t.w, format+"\n", args...) }

// title is the first thing that is said.
func (t *timeline) title(text, about string) {
	t.line("%s", t.paint(bold, text))
	for _, l := range strings.Split(about, "\n") {
		t.line("%s", t.paint(dim, l))
	}
}

// act begins a step, and says what it is there to show.
func (t *timeline) act(title, about string) {
	t.acts++
	t.line("\n%s", t.paint(bold, fmt.Sprintf("%2d. %s", t.acts, title)))
	t.line("    %s", t.paint(dim, about))
}

const indent = "                 "

// event is something that was done, or has happened. A revision of 0 is left out.
func (t *timeline) event(revision int64, format string, args ...any) {
	at := fmt.Sprintf("%7.2fs", time.Since(t.started).Seconds())
	rev := ""
	if revision > 0 {
		rev = fmt.Sprintf("r%d", revision)
	}
	t.line("%s  %s %s", t.paint(dim, at), t.paint(cyan, fmt.Sprintf("%-6s", rev)), fmt.Sprintf(format, args...))
}

// checked is what was found in etcd, as it should be.
func (t *timeline) checked(format string, args ...any) {
	t.line("%s%s %s", indent, t.paint(green, "✓"), fmt.Sprintf(format, args...))
}

// refused is a refusal that was meant to be.
func (t *timeline) refused(format string, args ...any) {
	t.line("%s%s %s", indent, t.paint(yellow, "✗"), fmt.Sprintf(format, args...))
}

// detail is more about the event before it, a line each.
func (t *timeline) detail(text string) {
	for _, l := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		t.line("%s%s", indent, t.paint(dim, l))
	}
}

// failed is why the demo ends here.
func (t *timeline) failed(act string, err error) {
	t.line("%s%s %s", indent, t.paint(red, "✗ this did not happen: "+act+":"), cli.OneLine(err.Error()))
}

func (t *timeline) elapsed() time.Duration { return time.Since(t.started) }
