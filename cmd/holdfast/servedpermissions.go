package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/watch"
)

// permissionsAgain is how often permissions that sufficed are looked at again,
// and how often those that do not are spoken of again.
const permissionsAgain = 5 * time.Minute

// permissionChecker is what a source of nodes is that needs permissions. A file
// of nodes needs none.
type permissionChecker interface {
	CheckPermissions(ctx context.Context) error
}

// permissions find out whether a cluster's API server lets its controller do
// what it has to. Nothing waits for them but readiness: a live check that is
// refused removes nothing, and keeping attachments alive needs none. They are
// safe for concurrent use.
type permissions struct {
	nodes   watch.NodeSource
	sources func() watch.Sources
	log     *slog.Logger

	mu     sync.Mutex
	proven bool
	why    error // of the last try, while they are not proven; nil before the first
}

// run tries until ctx ends: often while something is refused, and now and then
// when nothing is.
func (p *permissions) run(ctx context.Context) error {
	checker, needed := p.nodes.(permissionChecker)
	if !needed {
		<-ctx.Done()
		return ctx.Err()
	}
	var said spoken
	pause, due := firstRetryPause, time.Now()
	for {
		// What the watch is refused may not be all.
		if watch := p.refusedWatch(); watch != nil || !time.Now().Before(due) {
			if p.note(checker.CheckPermissions(ctx)) && watch == nil {
				pause, due = firstRetryPause, time.Now().Add(permissionsAgain)
			} else {
				due = time.Now().Add(pause)
			}
		}
		if ctx.Err() == nil {
			said.say(p.log, p.lacking())
		}
		if err := pauseFor(ctx, min(pause, time.Until(due))); err != nil {
			return err
		}
		pause = min(2*pause, lastRetryPause)
	}
}

// note takes in what came of a try, and says whether the permissions are proven.
// An API server that is away says nothing about those that were.
func (p *permissions) note(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proven = err == nil || p.proven && !turnedAway(err)
	p.why = nil
	if !p.proven {
		p.why = err
	}
	return p.proven
}

// refusedWatch is why the Node list cannot be read, if that is a permission.
func (p *permissions) refusedWatch() error {
	if err := p.sources().Nodes.Err; turnedAway(err) {
		return err
	}
	return nil
}

// lacking is what is refused, or could not be asked for yet; nil if nothing is.
func (p *permissions) lacking() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why != nil {
		return p.why
	}
	return p.refusedWatch()
}

// missing is for readiness, which the watch's own failures have a line of.
func (p *permissions) missing() []string {
	if _, needed := p.nodes.(permissionChecker); !needed {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.proven:
		return nil
	case p.why == nil:
		return []string{"the permissions of live checks"}
	}
	return []string{"the permissions of live checks: " + advised(p.why)}
}

// spoken is what was said last of permissions, so that the same is not said at
// each try.
type spoken struct {
	text string
	at   time.Time
}

func (s *spoken) say(log *slog.Logger, lacking error) {
	text := ""
	switch {
	case turnedAway(lacking):
		text = advised(lacking)
	case lacking != nil:
		text = "the API server is away" // each time in other words
	}
	now := time.Now()
	if text == s.text && (text == "" || now.Sub(s.at) < permissionsAgain) {
		return
	}
	switch {
	case text == "":
		log.Info("the API server allows all that the controller needs")
	case turnedAway(lacking):
		log.Error("the API server refuses what the controller needs; nothing is removed until it does not", "error", text)
	default:
		log.Warn("the API server cannot be asked what it allows; trying again", "error", cli.OneLine(lacking.Error()))
	}
	s.text, s.at = text, now
}
