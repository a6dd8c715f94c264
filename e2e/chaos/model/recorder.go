package model

import (
	"slices"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// Recorder records the calls of a run. Its methods may be called at any time
// by any number of clients.
type Recorder struct {
	now func() time.Duration

	mu    sync.Mutex
	calls []*Call
	aways []*Away
	cuts  []*Cut
}

// NewRecorder returns a recorder on the run's monotonic clock.
func NewRecorder(now func() time.Duration) *Recorder { return &Recorder{now: now} }

// Pending is a call under way.
type Pending struct {
	rec  *Recorder
	call *Call
}

// Begin records that a call begins. The caller sends nothing before it returns.
func (r *Recorder) Begin(client int, op Op) *Pending {
	c := &Call{Client: client, End: Never, Op: op, Result: Result{Outcome: Unknown}}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.Begin = r.now()
	r.calls = append(r.calls, c)
	return &Pending{rec: r, call: c}
}

// End records the answer. A call that is never ended counts as Unknown.
func (p *Pending) End(res Result) {
	p.rec.mu.Lock()
	defer p.rec.mu.Unlock()
	p.call.End, p.call.Result = p.rec.now(), res
}

// Away records that controllers may remove the holds of a node from now on,
// until the function that it returns is called: after the last moment at which
// a removal that was judged before may still be sent. wait is the grace that
// they leave, or 0.
func (r *Recorder) Away(place state.Place, wait time.Duration) (back func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &Away{Place: place, From: r.now(), To: Never, Wait: wait}
	r.aways = append(r.aways, a)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		a.To = r.now()
	}
}

// Cut records that etcd is about to be set back to an older state. The function
// that it returns is called once the restored etcd serves.
func (r *Recorder) Cut() (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &Cut{From: r.now(), To: Never}
	r.cuts = append(r.cuts, c)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		c.To = r.now()
	}
}

// History returns what was recorded so far. Calls that are under way count as
// Unknown in it.
func (r *Recorder) History() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return History{Calls: values(r.calls), Aways: values(r.aways), Cuts: values(r.cuts)}
}

func values[T any](pointers []*T) []T {
	out := make([]T, 0, len(pointers))
	for _, p := range pointers {
		out = append(out, *p)
	}
	return slices.Clip(out)
}
