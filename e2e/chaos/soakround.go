package chaos

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// churnAndRest makes the rounds, and measures at rest after each.
func (s *soak) churnAndRest(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var aside sync.WaitGroup
	defer aside.Wait()
	defer cancel()
	aside.Go(func() { s.samplePeaks(ctx) })
	if s.cfg.Leaks {
		aside.Go(func() { s.leaks.run(ctx, s.raw) })
	}
	steps := schedule(s.cfg.Seed, s.cfg.Time, s.tracks())
	for round := range s.cfg.Rounds {
		s.churn(ctx, round, steps)
		if err := s.rest(ctx); err != nil {
			return fmt.Errorf("the rest after round %d: %w", round+1, err)
		}
		s.cfg.Progress(fmt.Sprintf("round %d of %d: %s", round+1, s.cfg.Rounds, s.progress()))
	}
	return nil
}

// ofRound are the steps that begin in a round, by the time since its begin.
// They are healed when it ends.
func ofRound(steps []step, round int, d time.Duration) []step {
	var out []step
	for _, st := range steps {
		if st.at -= time.Duration(round) * d; st.at >= 0 && st.at < d {
			st.lasts = min(st.lasts, d-st.at)
			out = append(out, st)
		}
	}
	return out
}

// churn has drivers work while faults are made, for as long as a round takes.
func (s *soak) churn(ctx context.Context, round int, steps []step) {
	d := s.cfg.Time / time.Duration(s.cfg.Rounds)
	working, stop := context.WithCancel(ctx)
	defer stop()
	var driving sync.WaitGroup
	driving.Go(func() { s.offer(working) })
	for worker := range soakWorkers {
		driving.Go(func() { s.work(working, round*soakWorkers+worker) })
	}
	from := s.now()
	play(ctx, func() time.Duration { return s.now() - from }, ofRound(steps, round, d), func(st step, err error) {
		s.count("fault "+st.kind.name, 1)
		if err != nil && ctx.Err() == nil {
			s.problem(fmt.Errorf("fault %s: %w", st.kind.name, err))
		}
	})
	sleep(ctx, d-(s.now()-from))
	stop()
	driving.Wait()
}

// rest waits until nothing is left to do, and measures.
func (s *soak) rest(ctx context.Context) error {
	if err := s.oneLife(); err != nil {
		return err
	}
	err := s.quiet(ctx, s.run.cfg.Settle, func(ctx context.Context) error {
		if err := s.left(ctx); err != nil {
			return err
		}
		l, err := s.stands(ctx)
		return errors.Join(err, l.crowded(len(clusterNames)))
	})
	if err != nil {
		return err
	}
	return s.measure(ctx)
}

// quiet takes all faults back, and waits until nothing is left of what left
// finds, and no controller has a node to judge.
func (s *soak) quiet(ctx context.Context, within time.Duration, left func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within+time.Minute)
	defer cancel()
	if err := s.etcd.HealAll(ctx); err != nil {
		return fmt.Errorf("etcd does not recover: %w", err)
	}
	for _, l := range s.lists {
		s.returnAll(l)
	}
	var still error
	for deadline := time.Now().Add(within); time.Now().Before(deadline) && ctx.Err() == nil; sleep(ctx, settleLook) {
		if still = errors.Join(left(ctx), s.queued(ctx)); still == nil {
			return nil
		}
	}
	return fmt.Errorf("after %v without a fault there is still something to do: %w", within, still)
}
