package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/adopt"
	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

// imported is what import prints.
type imported struct {
	Cluster  string `json:"cluster"`
	UID      string `json:"uid"`
	Attacher string `json:"attacher"`
	Imported bool   `json:"imported"` // false: only listed
	// Items are the attacher's VolumeAttachments, those that ask for somebody's
	// attention last.
	Items []adopt.Item `json:"items"`
	// Counts are how many items have each result.
	Counts map[adopt.Result]int `json:"counts"`
	// Hints are a sentence each, for people.
	Hints []string `json:"hints,omitempty"`
}

func (r *imported) hint(format string, args ...any) {
	r.Hints = append(r.Hints, fmt.Sprintf(format, args...))
}

func (r *imported) has(result adopt.Result) bool {
	return slices.ContainsFunc(r.Items, func(i adopt.Item) bool { return i.Result == result })
}

// count sorts the items by their results, and counts those.
func (r *imported) count() {
	r.Counts = map[adopt.Result]int{}
	for _, i := range r.Items {
		r.Counts[i.Result]++
	}
	order := adopt.Results()
	slices.SortStableFunc(r.Items, func(a, b adopt.Item) int {
		return cmp.Compare(slices.Index(order, a.Result), slices.Index(order, b.Result))
	})
}

// verdict is the error that the results make.
func (r *imported) verdict() error {
	switch {
	case r.Counts[adopt.Failed]+r.Counts[adopt.Left] > 0:
		return fmt.Errorf("%d of %d VolumeAttachments could not be imported, and %d have gone and left their holds",
			r.Counts[adopt.Failed], len(r.Items), r.Counts[adopt.Left])
	case r.Counts[adopt.Conflict] > 0:
		return fmt.Errorf("%w: %d of %d VolumeAttachments stand against what is held or attached otherwise, and were left alone",
			state.ErrConflict, r.Counts[adopt.Conflict], len(r.Items))
	}
	return nil
}

func (r *imported) print(w io.Writer) {
	if len(r.Items) > 0 {
		t := newTable(w, "VOLUME", "NODE", "MODE", "RESULT", "DETAIL")
		for _, i := range r.Items {
			volume := i.Volume
			if volume == "" {
				volume = "(VolumeAttachment " + i.Name + ")"
			}
			t.row(volume, i.Node, string(i.Mode), string(i.Result), cmp.Or(i.Detail, "-"))
		}
		t.flush()
		fmt.Fprintln(w)
	}
	var left []string
	for _, i := range r.Items {
		if i.Result == adopt.Left {
			left = append(left, command("detach", []string{i.Volume, i.Node}, "--cluster", r.Cluster, "--token", i.Token.String()))
		}
	}
	if len(left) > 0 {
		fmt.Fprintf(w, "Once you are sure that these nodes are done with their volumes, end what was left:\n  %s\n\n", strings.Join(left, "\n  "))
	}
	for _, h := range r.Hints {
		fmt.Fprintf(w, "%s\n", cli.OneLine(h))
	}
	switch n := r.Counts[adopt.ToAttach]; {
	case r.Imported:
		fmt.Fprintf(w, "cluster %s: %s\n", r.Cluster, r.summary())
	case n > 0:
		fmt.Fprintf(w, "nothing was changed: add --yes to attach these %d (cluster %s: %s)\n", n, r.Cluster, r.summary())
	default:
		fmt.Fprintf(w, "nothing to attach (cluster %s: %s)\n", r.Cluster, r.summary())
	}
}

// summary counts the results in one line.
func (r *imported) summary() string {
	var parts []string
	for _, result := range adopt.Results() {
		if n := r.Counts[result]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, result))
		}
	}
	if parts == nil {
		return "no VolumeAttachments"
	}
	return strings.Join(parts, ", ")
}

// Below longList an import is over before anybody has read how far it is; and
// more often than everyTick nobody reads it.
const (
	longList  = 1000
	everyTick = 200 * time.Millisecond
)

// progress says on a terminal how far a long import is.
type progress struct {
	w     io.Writer
	total int

	mu   sync.Mutex
	last time.Time
	most int
}

// newProgress returns nil where w is no terminal; that says nothing.
func newProgress(w io.Writer) *progress {
	if file, ok := w.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return &progress{w: w}
		}
	}
	return nil
}

func (p *progress) begin(items []adopt.Item) {
	if p == nil {
		return
	}
	for _, i := range items {
		if i.Result == adopt.ToAttach {
			p.total++
		}
	}
}

// done is called from several goroutines, so that n may come late.
func (p *progress) done(n int) {
	if p == nil || p.total < longList {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n <= p.most || time.Since(p.last) < everyTick {
		return
	}
	p.last, p.most = time.Now(), n
	fmt.Fprintf(p.w, "\r%s", p.line(n))
}

func (p *progress) line(n int) string { return fmt.Sprintf("attaching: %d of %d", n, p.total) }

// end takes the line away again.
func (p *progress) end() {
	if p != nil && p.most > 0 {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", len(p.line(p.total))))
	}
}
