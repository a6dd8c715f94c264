package watch

import "time"

// freshness keeps the clocks of last contact, on the monotonic clock. A source
// that has died looks synced for ever; its clock is how that is noticed.
type freshness struct {
	after time.Duration
	nodes contact
	etcd  [parts]contact
	told  [2]bool // what changed last found: nodes, etcd
}

// contact is when a source was last heard of, and the error that was its last
// word. The zero value is a source that was never heard of.
type contact struct {
	at  time.Time
	err error
}

func (f *freshness) fresh(c contact, now time.Time) bool {
	return c.err == nil && !c.at.IsZero() && now.Sub(c.at) < f.after
}

// worst is the part of etcd's view that was not heard of for the longest time.
func (f *freshness) worst() contact {
	worst := f.etcd[0]
	for _, c := range f.etcd[1:] {
		if c.at.Before(worst.at) {
			worst = c
		}
	}
	return worst
}

// changed says whether a source has become fresh or stale since changed was last called.
func (f *freshness) changed(now time.Time) bool {
	is := [2]bool{f.fresh(f.nodes, now), f.fresh(f.worst(), now)}
	changed := is != f.told
	f.told = is
	return changed
}

// next is how long it takes until a source can become stale at the earliest,
// if nothing more is heard of any. One that is stale now takes at least as long
// as f.after.
func (f *freshness) next(now time.Time) time.Duration {
	next := f.after
	for _, c := range [2]contact{f.nodes, f.worst()} {
		if f.fresh(c, now) {
			next = min(next, c.at.Add(f.after).Sub(now))
		}
	}
	return next
}
