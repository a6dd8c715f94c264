package model

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// checkers is how many volumes are checked at one time.
const checkers = 2

// Violation is a volume, or the ledger, whose history no order explains.
type Violation struct {
	// Volume is empty for a breach of a freeze.
	Volume string `json:"volume,omitempty"`
	// Segment counts the cuts before it.
	Segment int `json:"segment"`
	// Reason is what is known of it.
	Reason string `json:"reason"`
	// Undecided: the time was up before an order was found or excluded.
	Undecided bool `json:"undecided,omitempty"`
}

func (v Violation) String() string {
	if v.Volume == "" {
		return v.Reason
	}
	return fmt.Sprintf("volume %q, after %d cuts: %s", v.Volume, v.Segment, v.Reason)
}

// Report is what a check found.
type Report struct {
	Violations []Violation `json:"violations,omitempty"`
	// Calls counts them by kind and outcome.
	Calls map[Kind]map[Outcome]int `json:"calls"`
	// Expiries counts the steps, in the orders that were found, which were
	// possible only because a grace or a window had ended by itself.
	Expiries int `json:"expiries"`
	// Arrivals counts the holds that a call may have made whose answer was lost.
	Arrivals int `json:"arrivals"`
	// Volumes are those with any call, and Slowest the longest check of one.
	Volumes int           `json:"volumes"`
	Slowest time.Duration `json:"slowest"`

	history History
}

// OK says that every volume was decided and none broke the model.
func (r *Report) OK() bool { return len(r.Violations) == 0 }

// Count is the number of calls of a kind with one of the outcomes.
func (r *Report) Count(k Kind, outcomes ...Outcome) int {
	n := 0
	for _, o := range outcomes {
		n += r.Calls[k][o]
	}
	return n
}

// String is the report for people: one line a kind, then what is wrong.
func (r *Report) String() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(r.Calls)) {
		fmt.Fprintf(&b, "%s:", k)
		for _, o := range slices.Sorted(maps.Keys(r.Calls[k])) {
			fmt.Fprintf(&b, " %d %s", r.Calls[k][o], o)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%d volumes, %d expiries, %d arrivals, slowest check %s\n", r.Volumes, r.Expiries, r.Arrivals, r.Slowest.Round(time.Millisecond))
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "VIOLATION: %s\n", v)
	}
	return b.String()
}

// Check looks for an order of each volume's calls that the model allows. A
// volume that is not decided within timeout counts as a violation.
func Check(h History, timeout time.Duration) *Report {
	r := &Report{Calls: map[Kind]map[Outcome]int{}, history: h}
	for _, c := range h.Calls {
		if r.Calls[c.Op.Kind] == nil {
			r.Calls[c.Op.Kind] = map[Outcome]int{}
		}
		r.Calls[c.Op.Kind][c.Result.Outcome]++
	}
	r.Violations = frozenBreaches(h)
	partitions := partitionsOf(h)
	r.Volumes = len(partitions)

	var (
		mu     sync.Mutex
		joined sync.WaitGroup
		work   = make(chan string)
	)
	for range checkers {
		joined.Go(func() {
			for volume := range work {
				for i, p := range partitions[volume] {
					begun := time.Now()
					v, expiries := p.check(timeout)
					mu.Lock()
					r.Slowest = max(r.Slowest, time.Since(begun))
					r.Expiries += expiries
					r.Arrivals += len(p.arrives)
					if v != nil {
						v.Segment = i
						r.Violations = append(r.Violations, *v)
					}
					mu.Unlock()
				}
			}
		})
	}
	for volume := range partitions {
		work <- volume
	}
	close(work)
	joined.Wait()
	slices.SortFunc(r.Violations, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Segment, b.Segment))
	})
	return r
}

// partitionsOf cuts a history by volume and by cut.
func partitionsOf(h History) map[string][]*partition {
	byVolume := map[string][]*Call{}
	for i := range h.Calls {
		if c := &h.Calls[i]; c.Op.Kind != Freeze && c.Op.Kind != Unfreeze {
			byVolume[c.Op.Volume] = append(byVolume[c.Op.Volume], c)
		}
	}
	cuts := slices.SortedFunc(slices.Values(h.Cuts), func(a, b Cut) int { return cmp.Compare(a.From, b.From) })
	out := map[string][]*partition{}
	for volume, calls := range byVolume {
		from := time.Duration(0)
		for i := range len(cuts) + 1 {
			to := Never
			if i < len(cuts) {
				to = cuts[i].From
			}
			within, before := segment(calls, from, to)
			out[volume] = append(out[volume], newPartition(volume, i == 0, within, before, h.Aways))
			if i < len(cuts) {
				from = cuts[i].To
			}
		}
	}
	return out
}

// segment takes the calls of one segment, and those that began before its end
// and may still be carried out in it. Revisions begin anew at a cut, so no
// revision that such a call knew keeps it from anything.
func segment(calls []*Call, from, to time.Duration) (within, before []*Call) {
	for _, c := range calls {
		whole := c.Begin >= from && (c.End <= to || c.Result.Outcome == Unknown)
		switch {
		case c.Begin > to:
		case whole:
			within = append(within, c)
		case c.Result.Outcome == Unknown || c.End > from || c.resent():
			unknown := *c
			unknown.Result, unknown.End = Result{Outcome: Unknown}, Never
			before = append(before, &unknown)
		}
	}
	return within, before
}

// check decides one partition, and counts what had to expire in the order found.
func (p *partition) check(timeout time.Duration) (*Violation, int) {
	if p.impossible != "" {
		return &Violation{Volume: p.volume, Reason: p.impossible}, 0
	}
	result, info := porcupine.CheckOperationsVerbose(p.model(), p.operations(), timeout)
	switch result {
	case porcupine.Ok:
		return nil, p.expiries(info)
	case porcupine.Unknown:
		return &Violation{Volume: p.volume, Undecided: true, Reason: fmt.Sprintf("not decided within %s: %d calls", timeout, len(p.calls))}, 0
	}
	return &Violation{Volume: p.volume, Reason: p.stuck(info)}, 0
}

func (p *partition) model() porcupine.Model {
	nm := porcupine.NondeterministicModel{
		Init: func() []any { return []any{&volume{known: p.known}} },
		Step: func(v, s, _ any) []any {
			trials := p.step(v.(*volume), s.(*step))
			next := make([]any, 0, len(trials))
			for _, t := range trials {
				next = append(next, t.v)
			}
			return next
		},
		Equal:             equal,
		Hash:              hash,
		DescribeOperation: func(s, _ any) string { return s.(*step).String() },
		DescribeState:     func(v any) string { return v.(*volume).String() },
	}
	return nm.ToModel()
}

func (p *partition) operations() []porcupine.Operation {
	clients := 0
	for _, c := range p.calls {
		clients = max(clients, c.Client+1)
	}
	ops := make([]porcupine.Operation, 0, len(p.steps))
	for _, s := range p.steps {
		client := s.call.Client
		if client < 0 {
			client = clients
		}
		ops = append(ops, porcupine.Operation{ClientId: client, Input: s, Call: int64(s.begin), Return: int64(s.end)})
	}
	return ops
}

// orders are the longest orders that were found.
func orders(info porcupine.LinearizationInfo) [][]porcupine.Operation {
	var out [][]porcupine.Operation
	for _, partition := range info.PartialLinearizationsOperations() {
		out = append(out, partition...)
	}
	return slices.SortedFunc(slices.Values(out), func(a, b []porcupine.Operation) int { return cmp.Compare(len(b), len(a)) })
}

// expiries replays the order that was found.
func (p *partition) expiries(info porcupine.LinearizationInfo) int {
	found := orders(info)
	if len(found) == 0 {
		return 0
	}
	needed := map[*volume]int{{known: p.known}: 0}
	for _, op := range found[0] {
		next := map[*volume]int{}
		for v, n := range needed {
			for _, t := range p.step(v, op.Input.(*step)) {
				next[t.v] = n + t.expiries
			}
		}
		needed = next
	}
	return slices.Min(slices.Collect(maps.Values(needed)))
}

// stuck tells of the longest order that was found, and what may not follow it.
func (p *partition) stuck(info porcupine.LinearizationInfo) string {
	found := orders(info)
	if len(found) == 0 {
		return fmt.Sprintf("none of its %d calls can be the first", len(p.calls))
	}
	states, done := []*volume{{known: p.known}}, map[*step]bool{}
	for _, op := range found[0] {
		var next []*volume
		for _, v := range states {
			for _, t := range p.step(v, op.Input.(*step)) {
				next = append(next, t.v)
			}
		}
		states, done[op.Input.(*step)] = next, true
	}
	left := slices.DeleteFunc(slices.Clone(p.steps), func(s *step) bool { return done[s] })
	slices.SortFunc(left, func(a, b *step) int { return cmp.Compare(a.end, b.end) })
	return fmt.Sprintf("%d of %d steps have an order; then it is %v, and this can't follow: %s", len(done), len(p.steps), states, left[0])
}
