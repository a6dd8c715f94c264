package chaos

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// kind is a sort of fault. It is applied, lasts, and is healed.
type kind struct {
	name   string
	weight int
	// least and most bound how long it lasts; both 0 for one that is over at once.
	least, most time.Duration
	// apply makes the fault. pick is a number to choose by, of the schedule's own,
	// so that a seed makes the same choice again. heal may be nil.
	apply func(ctx context.Context, pick uint64, lasts time.Duration) (heal func(context.Context) error, err error)
}

// track is a row of faults of which one is on at a time. Tracks run side by side.
type track struct {
	name string
	// gap is the mean time between the end of a fault and the next.
	gap   time.Duration
	kinds []kind
}

// step is one fault of a schedule.
type step struct {
	at, lasts time.Duration
	track     string
	kind      kind
	pick      uint64
}

func (s step) String() string {
	if s.lasts == 0 {
		return fmt.Sprintf("%6.1fs          %-11s %s", s.at.Seconds(), s.track, s.kind.name)
	}
	return fmt.Sprintf("%6.1fs +%5.1fs  %-11s %s", s.at.Seconds(), s.lasts.Seconds(), s.track, s.kind.name)
}

// schedule is which fault comes when: all of it follows from the seed.
func schedule(seed uint64, total time.Duration, tracks []track) []step {
	var steps []step
	for i, t := range tracks {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		for at := gap(r, t.gap); at < total; {
			k := choose(r, t.kinds)
			s := step{at: at, track: t.name, kind: k, pick: r.Uint64()}
			if k.most > 0 {
				s.lasts = k.least + time.Duration(r.Int64N(int64(k.most-k.least)+1))
			}
			// Healed before the end: what is left of a run is for the recovery.
			if s.at+s.lasts <= total {
				steps = append(steps, s)
			}
			at += s.lasts + gap(r, t.gap)
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return steps
}

// gap is between half and three halves of the mean.
func gap(r *rand.Rand, mean time.Duration) time.Duration {
	return mean/2 + time.Duration(r.Int64N(int64(mean)+1))
}

func choose(r *rand.Rand, kinds []kind) kind {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	n := r.IntN(total)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			return k
		}
	}
	panic("chaos: no kind was chosen")
}

func describe(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

// play applies the steps at their times and heals each at its own, until ctx
// ends. told is called for each that was applied, with what came of it.
func play(ctx context.Context, now func() time.Duration, steps []step, told func(step, error)) {
	done := make(chan struct{})
	running := 0
	for _, s := range steps {
		sleep(ctx, s.at-now())
		if ctx.Err() != nil {
			break
		}
		running++
		go func() {
			defer func() { done <- struct{}{} }()
			told(s, s.make(ctx))
		}()
	}
	for range running {
		<-done
	}
}

// make applies one step, waits and heals it, also where ctx has ended.
func (s step) make(ctx context.Context) error {
	heal, err := s.kind.apply(ctx, s.pick, s.lasts)
	if err == nil && heal != nil {
		sleep(ctx, s.lasts)
	}
	if heal != nil {
		healing, cancel := context.WithTimeout(context.WithoutCancel(ctx), healWithin)
		defer cancel()
		if herr := heal(healing); err == nil {
			err = herr
		}
	}
	return err
}

// healWithin bounds the end of one fault: an etcd that has to serve again.
const healWithin = 45 * time.Second
