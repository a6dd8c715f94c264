package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/holdfast-storage/holdfast/state"
)

// Reporter is told what the owners of volumes, and whoever runs the cluster,
// want to know of. It is told by one goroutine, behind whatever it is about, so
// that it can neither delay nor fail a decision; but while it blocks, no more
// than a bounded number of reports waits, and the rest goes untold.
type Reporter interface {
	// OrphanRemoved: this leader has removed an attachment and its hold.
	OrphanRemoved(a state.Attachment, d state.Departure)
	// Brake: the brake has just engaged, or lets removals go on again.
	Brake(engaged bool, verdict string)
	// MigrationOverdue: a volume that involves the cluster has two exclusive
	// holds, the migration's source first, and no window any more. It is told
	// once by each leader, and again about once an hour.
	MigrationOverdue(v *state.Volume)
}

// LapseReporter is told of holds that the keeper has found lapsed, as a Reporter is.
type LapseReporter interface {
	// HoldLapsed: a hold had lapsed, and is armed again; or it is not, and trying
	// again would not help. After a long outage all holds have, so of many only
	// the first few come one by one.
	HoldLapsed(h state.Hold, armed bool)
	// HoldsLapsed: so many more, armed again or not.
	HoldsLapsed(armed, stuck int)
}

const (
	// reportsWaiting bounds what a Reporter that is slow has still to be told.
	reportsWaiting = 1024
	// reportsGrace is how long the end of a run waits for a Reporter.
	reportsGrace = time.Second
)

// reports tells a Reporter, from one goroutine. Nothing that it does waits for
// the Reporter, nor fails with it.
type reports struct {
	log    *slog.Logger
	queue  chan func()
	stop   chan struct{}
	done   chan struct{}
	untold sync.Once
}

// newReports starts telling; end stops it.
func newReports(log *slog.Logger) *reports {
	r := &reports{log: log, queue: make(chan func(), reportsWaiting), stop: make(chan struct{}), done: make(chan struct{})}
	go r.tell()
	return r
}

// add has a report told in its turn, if there is room.
func (r *reports) add(report func()) {
	select {
	case r.queue <- report:
	default:
		r.untold.Do(func() {
			r.log.Warn("reports go untold: whoever is to be told does not keep up", "waiting", reportsWaiting)
		})
	}
}

func (r *reports) tell() {
	defer close(r.done)
	for {
		select {
		case report := <-r.queue:
			r.one(report)
		case <-r.stop:
			for {
				select {
				case report := <-r.queue:
					r.one(report)
				default:
					return
				}
			}
		}
	}
}

func (r *reports) one(report func()) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("a report has failed", "panic", fmt.Sprint(p))
		}
	}()
	report()
}

// end has told what was added before it. A Reporter that does not return is left behind.
func (r *reports) end() {
	if r == nil {
		return
	}
	close(r.stop)
	timer := time.NewTimer(reportsGrace)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
		r.log.Warn("whoever is told of reports does not return, and is left behind")
	}
}

const (
	// Of holds that have lapsed, so many are told of one by one, and then one more
	// at each interval; the others are summed up once in a while.
	lapsesOneByOne = 10
	lapseAgain     = time.Minute
	lapsesSummedUp = 30 * time.Second
)

// lapseNews bounds what is told of lapsed holds. It is safe for concurrent use.
type lapseNews struct {
	to      LapseReporter
	reports *reports
	single  *rate.Limiter

	mu           sync.Mutex
	armed, stuck int // not told of yet
}

func newLapseNews(to LapseReporter, log *slog.Logger) *lapseNews {
	return &lapseNews{to: to, reports: newReports(log), single: rate.NewLimiter(rate.Every(lapseAgain), lapsesOneByOne)}
}

// note is for each hold that had lapsed. Without a Reporter there is no news.
func (n *lapseNews) note(h state.Hold, armed bool) {
	if n == nil {
		return
	}
	if n.single.Allow() {
		n.reports.add(func() { n.to.HoldLapsed(h, armed) })
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if armed {
		n.armed++
	} else {
		n.stuck++
	}
}

// end tells of all that there is to tell.
func (n *lapseNews) end() {
	n.sumUp()
	n.reports.end()
}

// tellNews sums up the news once in a while.
func (k *Keeper) tellNews(ctx context.Context) error {
	again := time.NewTicker(k.sumUp)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			k.news.sumUp()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sumUp tells of those that were not told of one by one.
func (n *lapseNews) sumUp() {
	n.mu.Lock()
	armed, stuck := n.armed, n.stuck
	n.armed, n.stuck = 0, 0
	n.mu.Unlock()
	if armed+stuck > 0 {
		n.reports.add(func() { n.to.HoldsLapsed(armed, stuck) })
	}
}
