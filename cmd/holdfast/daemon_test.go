package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTogether(t *testing.T) {
	t.Parallel()
	waits := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	wrong := errors.New("wrong")

	t.Run("until the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begun := func(ctx context.Context) error { cancel(); return waits(ctx) }
		wraps := func(ctx context.Context) error { return fmt.Errorf("etcd is away: %w", waits(ctx)) }
		if err := together(ctx, begun, waits, wraps); err != nil {
			t.Errorf("together: %v, want none", err)
		}
	})
	t.Run("until one fails, and all have ended", func(t *testing.T) {
		var ended atomic.Int32
		counts := func(ctx context.Context) error { defer ended.Add(1); return waits(ctx) }
		err := together(t.Context(), counts, func(context.Context) error { return wrong }, counts)
		if !errors.Is(err, wrong) || ended.Load() != 2 {
			t.Errorf("together: %v, with %d others ended; want the failure, and both", err, ended.Load())
		}
	})
	t.Run("until one ends that should not", func(t *testing.T) {
		if err := together(t.Context(), waits, func(context.Context) error { return nil }); err == nil {
			t.Error("together: no error, and a part has ended by itself")
		}
	})
	t.Run("a failure on the way out", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := together(ctx, func(ctx context.Context) error { <-ctx.Done(); return wrong }); !errors.Is(err, wrong) {
			t.Errorf("together: %v, want the failure", err)
		}
	})
}

// What is away is waited for, with longer and longer pauses and a word for
// whoever asks; what is wrong for good is not.
func TestPatiently(t *testing.T) {
	t.Parallel()
	away, wrong := errors.New("away"), errors.New("wrong")
	forNow := func(err error) bool { return errors.Is(err, away) }
	synctest.Test(t, func(t *testing.T) {
		d := &waiting{log: slog.New(slog.DiscardHandler)}
		began, tries := time.Now(), 0
		err := d.patiently(t.Context(), "etcd", forNow, func(context.Context) error {
			if tries++; tries > 1 && !strings.Contains(strings.Join(d.ready.list(), " "), "etcd: away") {
				t.Errorf("try %d: waiting for %q, want the reason", tries, d.ready.list())
			}
			if tries <= 8 {
				return away
			}
			return nil
		})
		if want := (500 + 1000 + 2000 + 4000 + 8000 + 3*15000) * time.Millisecond; err != nil || time.Since(began) != want {
			t.Errorf("patiently: %v after %v, want none after %v", err, time.Since(began), want)
		}
		if err := d.patiently(t.Context(), "etcd", forNow, func(context.Context) error { return wrong }); !errors.Is(err, wrong) {
			t.Errorf("patiently: %v, want what is wrong for good", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.patiently(ctx, "etcd", forNow, func(context.Context) error { return away }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("patiently: %v, want the end of its context", err)
		}
	})
}
