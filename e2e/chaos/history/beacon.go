package history

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Bounds are times between which something happened.
type Bounds struct {
	Lower time.Duration `json:"lower"`
	Upper time.Duration `json:"upper"`
}

// Beacon is a request whose revision and times are known.
type Beacon struct {
	Segment  int           `json:"segment"`
	Revision int64         `json:"beacon"`
	Start    time.Duration `json:"start"`
	Answered time.Duration `json:"answered"`
}

// beacons of one segment, in order. They are made one after the other, so that
// start, answer and revision all ascend. It is safe for concurrent use.
type beacons struct {
	mu  sync.Mutex
	all []Beacon
}

func (b *beacons) add(one Beacon) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, one)
}

func (b *beacons) last() Beacon {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.all) == 0 {
		return Beacon{}
	}
	return b.all[len(b.all)-1]
}

// bounds of the revision's commit: after the start of the last beacon below it,
// and before the answer of the first that is not. No beacon below: the segment's
// own beginning, as its list is the first. received is another upper bound.
func (b *beacons) bounds(revision int64, received time.Duration) Bounds {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, _ := slices.BinarySearchFunc(b.all, revision, func(one Beacon, revision int64) int { return cmp.Compare(one.Revision, revision) })
	out := Bounds{Upper: received}
	if at > 0 {
		out.Lower = b.all[at-1].Start
	}
	if at < len(b.all) {
		out.Upper = min(out.Upper, b.all[at].Answered)
	}
	return out
}

// beacon puts beacons until ctx ends. One that fails, or is not answered within
// its own short time, widens the bounds and no more: what it may still put is
// an event like any other.
func (o *Observer) beacon(ctx context.Context, l *life) {
	tick := time.NewTicker(o.cfg.BeaconEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		start := o.cfg.Now()
		own, cancel := context.WithTimeout(ctx, o.cfg.BeaconTimeout)
		resp, err := o.beaconClient.Put(own, o.cfg.BeaconKey, start.String())
		cancel()
		if err != nil || ctx.Err() != nil {
			continue
		}
		one := Beacon{Segment: l.segment, Revision: resp.Header.Revision, Start: start, Answered: o.cfg.Now()}
		if one.Revision <= l.beacons.last().Revision {
			return // another etcd: this life is over, and the run will say so
		}
		l.beacons.add(one)
		o.log.write(one)
	}
}
