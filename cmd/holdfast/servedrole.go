package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

// role finds out whether etcd lets a cluster's controller do what it has to.
// Much of it is needed only when something is to be removed, at which time it is
// late to learn of it. Like permissions it holds up nothing but readiness. It is
// safe for concurrent use.
type role struct {
	cluster string
	check   func(context.Context) error
	log     *slog.Logger

	mu      sync.Mutex
	asked   bool  // etcd has answered
	lacking error // its last answer; nil: all is allowed
}

func newRole(c *state.Cluster, log *slog.Logger) *role {
	return &role{cluster: c.Name(), check: c.CheckRole, log: log}
}

// run asks until ctx ends: often while something is refused, and now and then
// when nothing is.
func (r *role) run(ctx context.Context) error {
	said, at := "", time.Time{}
	for {
		err := r.check(ctx)
		if err == nil || errors.Is(err, state.ErrBeyondRole) {
			r.note(err)
		}
		text := r.text()
		if text != said || text != "" && time.Since(at) >= permissionsAgain {
			if said, at = text, time.Now(); text != "" {
				r.log.Error("etcd refuses what the controller needs; nothing is removed until it does not", "error", text)
			} else {
				r.log.Info("etcd allows all that the controller needs")
			}
		}
		again := permissionsAgain
		if err != nil {
			again = lastRetryPause
		}
		if err := pauseFor(ctx, again); err != nil {
			return err
		}
	}
}

func (r *role) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked, r.lacking = true, err
}

// text is what is refused, and what to do; empty if nothing is.
func (r *role) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lacking == nil {
		return ""
	}
	own := strings.ReplaceAll(r.lacking.Error(), ": "+state.ErrBeyondRole.Error(), "")
	return cli.OneLine(own) + "; '" + command("etcd-role", nil, "--cluster", r.cluster) + "' prints the role"
}

// missing is for readiness.
func (r *role) missing() []string {
	r.mu.Lock()
	asked := r.asked
	r.mu.Unlock()
	if !asked {
		return []string{"etcd's word on the role"}
	}
	if text := r.text(); text != "" {
		return []string{"the etcd role: " + text}
	}
	return nil
}
