package reconcile

import (
	"context"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

const (
	// thinRecords: a lease of fewer records is thin. A command that attaches
	// and ends leaves one a lease.
	thinRecords = 8
	// thinLeases: fewer thin leases than these are left as they are. It keeps
	// the keepers of two replicas from moving the same few to and fro.
	thinLeases = 4
	// gatherAtOnce bounds the attachments that one look moves: there is no hurry.
	gatherAtOnce = 256
)

// gather moves the attachments of thin leases together, once each third of a
// session. A lease that is thin because it is just being filled is not: it has
// to be found the same twice.
func (k *Keeper) gather(ctx context.Context) error {
	look := time.NewTicker(k.session / 3)
	defer look.Stop()
	var before map[state.LeaseID]int
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		leases := k.cfg.Watcher.Leases()
		thin := thinSince(before, leases)
		before = leases
		if len(thin) < thinLeases || k.cfg.Watcher.Sources().Check() != nil {
			continue
		}
		moved, err := k.cfg.Cluster.Gather(ctx, k.gatherable(thin))
		k.metrics.gathered.Add(float64(moved))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case forGood(err):
			return err
		case err != nil:
			k.log.Warn("gathering attachments of thin leases failed; trying again later", "moved", moved, "error", err)
		case moved > 0:
			k.log.Info("attachments of thin leases gathered", "leases", len(thin), "moved", moved)
		}
	}
}

// thinSince are the leases that are thin now and were so, with as many records, before.
func thinSince(before, now map[state.LeaseID]int) map[state.LeaseID]bool {
	thin := map[state.LeaseID]bool{}
	for id, n := range now {
		if id != 0 && n < thinRecords && before[id] == n {
			thin[id] = true
		}
	}
	return thin
}

// gatherable are attachments of thin leases. Those of a node that there is
// something to decide about stay as they are: a removal compares them.
func (k *Keeper) gatherable(thin map[state.LeaseID]bool) []state.Attachment {
	suspect := map[string]bool{}
	for _, name := range k.cfg.Watcher.Suspects() {
		suspect[name] = true
	}
	var out []state.Attachment
	for a := range k.cfg.Watcher.Attachments() {
		if thin[a.Lease] && !suspect[a.Node] && a.Broken == nil {
			out = append(out, a)
		}
		if len(out) == gatherAtOnce {
			break
		}
	}
	return out
}
