package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// liveGood is how long a live check is good for, counted from before the
// look-up. A removal that it allows has that as its deadline.
const liveGood = 5 * time.Second

// live looks a node up past every cache: a watch.NodeSource does.
type live interface {
	Live(ctx context.Context, name string) (watch.Node, error)
}

// proof is what one live check found. It serves all orphans of its node.
type proof struct {
	began time.Time // with the monotonic clock, from before the look-up
	found bool
	node  watch.Node
}

// deadline is the end of what the proof is good for.
func (p proof) deadline(good time.Duration) time.Time { return p.began.Add(good) }

// prove makes a live check. Only a definite answer is a proof: every other
// failure is an error, and the node counts as present.
func prove(ctx context.Context, nodes live, name string, good time.Duration) (proof, error) {
	p := proof{began: time.Now()}
	ctx, cancel := context.WithDeadline(ctx, p.deadline(good))
	defer cancel()
	n, err := nodes.Live(ctx, name)
	switch {
	case errors.Is(err, watch.ErrNodeNotFound):
		return p, nil
	case err != nil:
		return p, fmt.Errorf("live check of node %s: %w", name, err)
	}
	p.found, p.node = true, n
	return p, nil
}

// confirms says whether the reason for the orphan still holds.
func (p proof) confirms(o Orphan, matchUID bool) bool {
	switch o.Reason {
	case state.NodeGone:
		return !p.found
	case state.NodeReplaced:
		return p.found && p.node.UID != "" && p.node.UID != o.Attachment.NodeUID
	case state.OutOfService:
		another := matchUID && p.node.UID != "" && o.Attachment.NodeUID != "" && p.node.UID != o.Attachment.NodeUID
		return p.found && p.node.OutOfService && !another
	}
	return false
}

// String says what was found, for a log.
func (p proof) String() string {
	switch {
	case !p.found:
		return "there is no such node"
	case p.node.OutOfService:
		return fmt.Sprintf("the node is there, out of service, with UID %q", p.node.UID)
	}
	return fmt.Sprintf("the node is there with UID %q", p.node.UID)
}
