package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/e2e/chaos/history"
	"github.com/holdfast-storage/holdfast/failpoint"
	"github.com/holdfast-storage/holdfast/state"
)

const (
	settleLook = 100 * time.Millisecond
	// finalOrphans are what each cluster's lost node leaves behind.
	finalOrphans = 5
	lastVolume   = "last-"
)

// errPassedOver: who removes does not know of it.
var errPassedOver = errors.New("an orphan was passed over, and its node's last ones were removed")

// settle takes all faults back, has each cluster lose a node for good, and
// waits until nothing is left to do: it returns what is.
func (r *run) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Settle+time.Minute)
	defer cancel()
	failpoint.SetOffset(0)
	if err := r.etcd.HealAll(ctx); err != nil {
		return fmt.Errorf("etcd does not recover: %w", err)
	}
	for _, l := range r.lists {
		if err := l.say(nil); err != nil {
			return err
		}
		r.returnAll(l)
	}
	for _, c := range r.controllers {
		c.comeBack()
	}
	if r.cfg.EndEarly && len(r.observer.Report().Violations) > 0 {
		return nil // it has what it is for
	}
	for name, l := range r.lists {
		if err := r.loseNode(ctx, name, l); err != nil {
			return fmt.Errorf("losing a node of cluster %s: %w", name, err)
		}
	}
	var left error
	begun := time.Now()
	passedOver := begun
	for ; time.Since(begun) < r.cfg.Settle; sleep(ctx, settleLook) {
		if left = r.left(ctx); left == nil {
			return nil
		}
		if !errors.Is(left, errPassedOver) {
			passedOver = time.Now()
		} else if r.cfg.EndEarly && time.Since(passedOver) > 2*grace {
			break // its own grace is over, if it had one
		}
	}
	return fmt.Errorf("after %v without a fault there is still something to do: %w", time.Since(begun).Round(time.Second), left)
}

// loseNode takes the last node away for good, with a few volumes on it.
func (r *run) loseNode(ctx context.Context, name string, l *nodeList) error {
	as, err := r.operator.Cluster(ctx, state.Identity{Name: name, UID: uidOf(name)})
	if err != nil {
		return err
	}
	node := l.names[len(l.names)-1]
	for i := range finalOrphans {
		v := fmt.Sprintf("%s%s-%d", lastVolume, name, i)
		b := r.facts.Begin(history.Call{Kind: history.CallAttach, Volume: v, Cluster: name, Node: node})
		if _, err := as.Attach(ctx, state.AttachRequest{Volume: v, Node: node}); err != nil {
			return err
		}
		b.Succeeded()
	}
	r.mu.Lock()
	r.given[node] = true
	r.mu.Unlock()
	r.recorder.Away(placeOf(name, node), r.wait(grace))
	return l.remove(node)
}

// left says what is still to be done: waits that have not ended, orphans that
// have not been removed, holds that their clusters do not stand by.
func (r *run) left(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := r.raw.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	holds, attachments, late := 0, 0, 0
	var orphan, wait string
	for _, kv := range resp.Kvs {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(string(kv.Key), prefix), "/")
		switch kind {
		case "detachments", "migrations", "quarantines", "freezes":
			wait = string(kv.Key)
		case "holds":
			holds++
		case "attachments":
			attachments++
			if parts := strings.Split(rest, "/"); len(parts) == 3 && r.lost(parts[1]) {
				orphan = string(kv.Key)
				if strings.HasPrefix(parts[2], lastVolume) {
					late++
				}
			}
		}
	}
	switch {
	case orphan != "" && late == 0:
		return fmt.Errorf("%w: %s", errPassedOver, orphan)
	case orphan != "":
		return fmt.Errorf("an orphan: %s", orphan)
	case wait != "":
		return errors.New(wait)
	}
	if holds != attachments {
		return fmt.Errorf("%d holds, and %d attachments that stand by them", holds, attachments)
	}
	if holds == 0 && len(resp.Kvs) == 0 {
		return errors.New("there is nothing at all")
	}
	return nil
}
