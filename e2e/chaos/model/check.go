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
	s := &search{partition: p, budget: searchBytes / (len(p.steps)/8 + bytesAStep)}
	result := porcupine.CheckOperationsTimeout(s.model(), p.operations(), timeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case result == porcupine.Ok && s.deepest == nil:
		return nil, 0
	case result == porcupine.Ok:
		return nil, s.deepest.expiries
	case result == porcupine.Unknown || s.budget == 0:
		return &Violation{Volume: p.volume, Undecided: true, Reason: fmt.Sprintf("not decided within %s and %d MiB; %s", timeout, searchBytes>>20, s.stuck())}, 0
	}
	return &Violation{Volume: p.volume, Reason: s.stuck()}, 0
}

const (
	// searchBytes bounds the memory of one search, which keeps each volume and
	// set of steps that it has met; bytesAStep is what of it a step may cost.
	searchBytes = 1 << 30
	bytesAStep  = 2 << 10
)

// search is one search for an order of a partition's steps.
type search struct {
	*partition

	mu      sync.Mutex
	budget  int
	deepest *volume // after the longest order so far
}

// try is step, within the budget.
func (s *search) try(v *volume, next *step) []any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.budget == 0 {
		return nil
	}
	var out []any
	for _, t := range s.step(v, next) {
		s.budget = max(s.budget-1, 0)
		t.v.last, t.v.by, t.v.depth, t.v.expiries = v, next, v.depth+1, v.expiries+t.expiries
		if s.deepest == nil || t.v.depth > s.deepest.depth {
			s.deepest = t.v
		}
		out = append(out, t.v)
	}
	return out
}

func (s *search) model() porcupine.Model {
	nm := porcupine.NondeterministicModel{
		Init:              func() []any { return []any{&volume{known: s.known}} },
		Step:              func(v, next, _ any) []any { return s.try(v.(*volume), next.(*step)) },
		Equal:             equal,
		Hash:              hash,
		DescribeOperation: func(next, _ any) string { return next.(*step).String() },
		DescribeState:     func(v any) string { return v.(*volume).String() },
	}
	return nm.ToModel()
}

// stuck tells of the longest order that was found, and what may not follow it.
func (s *search) stuck() string {
	done := map[*step]bool{}
	now := &volume{known: s.known}
	if s.deepest != nil {
		now = s.deepest
	}
	for v := s.deepest; v != nil && v.by != nil; v = v.last {
		done[v.by] = true
	}
	var next *step
	for _, o := range s.steps {
		if !done[o] && (next == nil || o.end < next.end) {
			next = o
		}
	}
	return fmt.Sprintf("%d of %d steps have an order; then it is [%s], and this can't follow: %s", len(done), len(s.steps), now, next)
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
