package model

import (
	"cmp"
	"slices"
	"time"
)

// bounds bracket a revision in time, by the answers whose revision is told.
type bounds struct {
	// exact answers were true at their revision and at one moment of their call;
	// later answers were true at their revision or a later one.
	exact, later []bound
}

type bound struct {
	rev  int64
	time time.Duration
}

func newBounds(calls []*Call) *bounds {
	b := &bounds{}
	for _, c := range calls {
		if !c.tells() {
			continue
		}
		rev := c.Result.Revision
		if rev > 0 {
			b.exact = append(b.exact, bound{rev, c.Begin})
		} else {
			rev = c.made().Revision()
		}
		if rev > 0 {
			b.later = append(b.later, bound{rev, c.End})
		}
	}
	byRevision := func(x, y bound) int { return cmp.Compare(x.rev, y.rev) }
	slices.SortFunc(b.exact, byRevision)
	slices.SortFunc(b.later, byRevision)
	for i := 1; i < len(b.exact); i++ {
		b.exact[i].time = max(b.exact[i].time, b.exact[i-1].time)
	}
	for i := len(b.later) - 2; i >= 0; i-- {
		b.later[i].time = min(b.later[i].time, b.later[i+1].time)
	}
	return b
}

// after is the latest begin of an answer from before a revision: what was
// written at it was written no earlier.
func (b *bounds) after(rev int64) time.Duration {
	i, _ := slices.BinarySearchFunc(b.exact, rev, func(x bound, rev int64) int { return cmp.Compare(x.rev, rev) })
	if i == 0 {
		return 0
	}
	return b.exact[i-1].time
}

// before is the earliest end of an answer from a revision on.
func (b *bounds) before(rev int64) time.Duration {
	i, _ := slices.BinarySearchFunc(b.later, rev, func(x bound, rev int64) int { return cmp.Compare(x.rev, rev) })
	if i == len(b.later) {
		return Never
	}
	return b.later[i].time
}
