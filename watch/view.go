package watch

import (
	"fmt"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// NodeView is all that the join has of one node, at one moment. It is a copy.
type NodeView struct {
	Name string
	// Present: the Node list has it. Node is zero if not.
	Present bool
	Node    Node
	// Attachments are in the order of their volumes. One whose record does not
	// decode has Broken set.
	Attachments []state.Attachment
	// Departure is nil if there is none. One whose record does not decode has
	// Broken set, and no reason.
	Departure *state.Departure
	// DepartureSeen is when this process first saw Departure as it is, on its
	// monotonic clock: never before it was put.
	DepartureSeen time.Time
	// Returned: the Node list has contradicted Departure since it was put, be it
	// for a moment only. Whoever decides may be late, and not see the node itself.
	Returned bool
	// Quarantined: a quarantine is there, or the view of quarantines has not
	// yet reached the departure, which is put together with its quarantine.
	Quarantined bool
	// InGrace has the volumes for which WatchGrace was called and whose
	// detachment by this node is there, or has not been looked for yet.
	InGrace map[string]bool
	// ContinuousSince is the ledger's revision since which no change to the
	// Node list has gone unseen; 0 while there is no list.
	ContinuousSince int64
}

// ClusterView is what the gates and the brake ask of the join. It is a copy,
// but for Missing, which several views may share and nobody may change.
type ClusterView struct {
	Sources Sources
	// Ledger is the ledger's own record, and Identity the cluster's. They are
	// zero where etcd has none, and have Broken set where one does not decode.
	Ledger   state.LedgerRecord
	Identity state.ClusterRecord
	// Freezes are those of whoever noticed that etcd was restored, by cluster.
	Freezes []state.RestoreFreeze
	// Pause is nil unless removal is paused.
	Pause *state.Pause
	// Nodes counts the Node list.
	Nodes int
	// Attachments counts the cluster's, WithAttachments the nodes that have
	// any, in the Node list or not.
	Attachments     int
	WithAttachments int
	// Missing are the nodes that have attachments and are not in the Node list, sorted.
	Missing []string
}

// Frozen says who has frozen the ledger: an operator, or whoever noticed a
// restore first in the order of clusters. nil if it is not frozen.
func (c ClusterView) Frozen() *state.Freeze {
	if c.Ledger.Frozen != nil || len(c.Freezes) == 0 {
		return c.Ledger.Frozen
	}
	f := c.Freezes[0].Freeze()
	return &f
}

// Sources are the two that are joined.
type Sources struct {
	Nodes Source
	// Etcd is all the ranges of records that are watched, taken as one: as
	// synced and as fresh as the worst of them.
	Etcd Source
	// ContinuousSince is the ledger's revision since which no change to the
	// Node list has gone unseen; 0 while there is no list.
	ContinuousSince int64
}

// Source says how much a source can be relied on.
type Source struct {
	// Loaded: it has given a whole list at some time. Synced: and is not
	// giving a new one just now.
	Loaded bool
	Synced bool
	// Fresh: heard of within Config.StaleAfter, and its last word was no error.
	Fresh bool
	// LastContact is zero before the first.
	LastContact time.Time
	// Err is the error that was its last word.
	Err error
}

// Check is nil if both sources are synced and fresh. Otherwise it says, in one
// line, which is not and why: an ErrNotSynced or an ErrStale.
func (s Sources) Check() error {
	if err := s.Nodes.check("the Node list"); err != nil {
		return err
	}
	return s.Etcd.check("the view of etcd")
}

// notLoaded says, in one line, which source has not given a whole list yet.
func (s Sources) notLoaded() error {
	s.Nodes.Synced, s.Etcd.Synced = s.Nodes.Loaded, s.Etcd.Loaded
	return s.Check()
}

// Loaded says whether both sources have given a whole list at some time: what
// a readiness probe asks.
func (s Sources) Loaded() bool { return s.Nodes.Loaded && s.Etcd.Loaded }

func (s Source) check(name string) error {
	switch {
	case !s.Synced && s.Err != nil:
		return fmt.Errorf("%s is %w: %w", name, ErrNotSynced, s.Err)
	case !s.Synced:
		return fmt.Errorf("%s is %w", name, ErrNotSynced)
	case s.Err != nil:
		return fmt.Errorf("%s is %w: %w", name, ErrStale, s.Err)
	case !s.Fresh:
		return fmt.Errorf("%s is %w: last heard of %s ago", name, ErrStale, time.Since(s.LastContact).Round(time.Second))
	}
	return nil
}
