package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/watch"
)

// waiting is what has to wait for others, and says for whom: in the log, and to
// whoever asks whether it is ready.
type waiting struct {
	ready readiness
	log   *slog.Logger
}

// retryPauses are the pauses between the tries to reach what is away.
const (
	firstRetryPause = 500 * time.Millisecond
	lastRetryPause  = 15 * time.Second
)

// patiently tries until it succeeds, fails for good, or ctx ends.
func (w *waiting) patiently(ctx context.Context, what string, forNow func(error) bool, try func(context.Context) error) error {
	w.ready.waitFor(what)
	for pause := firstRetryPause; ; pause = min(2*pause, lastRetryPause) {
		err := try(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !forNow(err):
			return err
		}
		why := advised(err)
		w.log.Warn("waiting for "+what, "error", why, "again_in", pause)
		w.ready.waitFor(what + ": " + why)
		if err := pauseFor(ctx, pause); err != nil {
			return err
		}
	}
}

// pauseFor returns when d has passed, or with ctx's error when that ends before.
func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// advised is an error as one line, with what an operator of a controller can do
// about it.
func advised(err error) string {
	way := wayOut(err)
	switch {
	case watch.IsForbidden(err):
		way = "apply the ClusterRole holdfast-controller of deploy/ in that cluster, and bind it to whom its API server names here"
	case watch.IsUnauthorized(err):
		way = "its API server does not accept the credentials: expected a service account's, or a kubeconfig with a valid token or certificate"
	}
	text := err.Error()
	if way != "" {
		text += "; " + way
	}
	return cli.OneLine(text)
}

// turnedAway: an API server refuses to say, and will until somebody sees to it.
func turnedAway(err error) bool { return watch.IsForbidden(err) || watch.IsUnauthorized(err) }
