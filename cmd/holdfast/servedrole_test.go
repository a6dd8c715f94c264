package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// What the role lacks is said at readiness for as long as it does, and in the
// log when it changes. An etcd that is away says nothing about it.
func TestRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		lacks := fmt.Errorf("user %q may not write journal/east/: %w", "east", state.ErrBeyondRole)
		answers := []error{errors.New("away"), lacks, lacks, errors.New("away"), nil, errors.New("away"), lacks}
		var asked atomic.Int32
		r := &role{cluster: "east", log: slog.New(slog.NewTextHandler(&log, nil)), check: func(context.Context) error {
			return answers[min(int(asked.Add(1)), len(answers))-1]
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.run(ctx) }()
		for i, want := range []string{"etcd's word", "may not write", "may not write", "may not write", "", "", "may not write"} {
			for synctest.Wait(); int(asked.Load()) <= i; synctest.Wait() {
				<-time.After(lastRetryPause)
			}
			got := strings.Join(r.missing(), "; ")
			if want == "" && got != "" || !strings.Contains(got, want) {
				t.Errorf("after answer %d: %q, want %q", i, got, want)
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v, want its context's end", err)
		}
		if got := strings.Join(r.missing(), ""); !strings.Contains(got, "holdfast etcd-role --cluster east") || strings.Contains(got, "beyond") {
			t.Errorf("it says %q; want what to do, and the rest once", got)
		}
		if refused, allowed := strings.Count(log.String(), "etcd refuses"), strings.Count(log.String(), "etcd allows"); refused != 2 || allowed != 1 {
			t.Errorf("%d lines of refusals and %d of all being well, want 2 and 1:\n%s", refused, allowed, log.String())
		}
	})
}
