package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// do sends an operation about a volume (or a key that is no volume's) until its
// outcome is known, ctx ends, or half a grace has passed.
func (l *Ledger) do(ctx context.Context, g guard, about string, op operation) (attempt, error) {
	if err := l.writable(); err != nil {
		return attempt{}, err
	}
	return l.pursue(ctx, g, about, op, attempt{r: l.seen.Load()})
}

// pursue is do from an attempt on; one that is a resend has an unknown outcome.
func (l *Ledger) pursue(ctx context.Context, g guard, about string, op operation, a attempt) (attempt, error) {
	until := time.Now().Add(l.patience())
	var wait backoff
	unknown := a.resent
	a.asks = a.asks || unknown
	for tries := 0; ; tries++ {
		if err := g.ready(ctx, l); err != nil {
			return a, outcome(unknown, err)
		}
		c := &call{about: about, op: op, guard: g, attempt: a, done: make(chan struct{})}
		err := l.writer.submit(ctx, c)
		if err == nil {
			a = c.attempt
			err = c.settle()
			if err == nil || unknown || !errors.Is(err, errPast) && !errors.Is(err, errUnasked) {
				// After an unanswered send no refusal is the last word: what stands
				// in the way may go, and the first send still arrive.
				return a, outcome(unknown && err != nil, err)
			}
			// Nothing that was sent is in doubt, so the call may begin anew from here.
			a.r, a.asks = a.revision, true
			if errors.Is(err, errUnasked) {
				continue
			}
		} else if final, sent := c.verdict(ctx, err); final {
			l.lookAfter(c, g, err)
			return a, outcome(unknown || sent, err)
		} else {
			unknown = unknown || sent
			a.resent, a.asks = unknown, a.asks || unknown
		}
		if time.Now().After(until) {
			return a, outcome(unknown, fmt.Errorf("%w: %w", ErrUnavailable, err))
		}
		if !errors.Is(err, errGuard) && !errors.Is(err, errPast) || tries > 0 {
			if werr := wait.wait(ctx); werr != nil {
				return a, outcome(unknown, werr)
			}
		}
	}
}

// lasting is an operation whose record is a wait.
type lasting interface {
	wait() (begun, waitPut)
}

// lookAfter sees to the wait of a call whose caller is gone before the answer:
// carried out too late for its lease, the wait would be cut short. It goes on
// for as long as the caller's own call would have.
func (l *Ledger) lookAfter(c *call, g guard, err error) {
	var gone *sentError
	op, lasts := c.op.(lasting)
	if !lasts || !errors.As(err, &gone) {
		return
	}
	l.writer.background(func(ctx context.Context) {
		<-c.done
		err := c.err
		switch {
		case err == nil:
			err = c.settle()
		case c.fate == ambiguous:
			_, err = l.pursue(ctx, g, c.about, c.op, attempt{r: c.attempt.r, resent: true})
		}
		b, put := op.wait()
		if err != nil || put.key == "" {
			return
		}
		if err := l.wholeWait(ctx, g, b, put); err != nil {
			l.log.Warn("a wait may end early", "key", put.key, "error", err)
		}
	})
}

// verdict says of a call that got no answer whether it is to be sent no more,
// and whether it may have been carried out.
func (c *call) verdict(ctx context.Context, err error) (final, sent bool) {
	var gone *sentError
	switch {
	case errors.As(err, &gone), errors.Is(err, ErrRestored):
		return true, true
	case errors.Is(err, errGuard):
		return ctx.Err() != nil, false
	}
	return c.fate == refused || ctx.Err() != nil, c.fate == ambiguous
}

// outcome says of an error whether the operation may have happened all the same.
func outcome(unknown bool, err error) error {
	if unknown && !failpoint.Planted(failpoint.UnknownAsFailed) {
		return fmt.Errorf("%w: it was sent, and may or may not be carried out: %w", ErrUnknownOutcome, err)
	}
	return err
}
