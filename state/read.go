package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// VolumeState is what a volume's keys say of it. The set is closed.
type VolumeState string

// The states of a volume.
const (
	// StateFree: no hold and no detachment.
	StateFree VolumeState = "free"
	// StateGrace: no hold; its own cluster may attach it, another when the grace is over.
	StateGrace VolumeState = "grace"
	// StateAttached: held, and its cluster stands by it.
	StateAttached VolumeState = "attached"
	// StateMigrating: two exclusive holds and an open window.
	StateMigrating VolumeState = "migrating"
	// StateOverdue: two exclusive holds and no window left. An alarm.
	StateOverdue VolumeState = "overdue"
	// StateLapsed: held, and no cluster stands by any of its holds.
	StateLapsed VolumeState = "lapsed"
)

// Volume is all that the ledger has of one volume, at one revision.
type Volume struct {
	Name        string       `json:"volume"`
	State       VolumeState  `json:"state"`
	Holds       []Hold       `json:"holds,omitempty"`
	Attachments []Attachment `json:"attachments,omitempty"`
	Detachments []Detachment `json:"detachments,omitempty"`
	Migration   *Migration   `json:"migration,omitempty"`
	Revision    int64        `json:"revision"`

	unknown []string // keys below holds/<volume>/ that do not parse
}

// DetachedAt is when the volume was last detached, as far as the records that
// are left tell; the zero time if none is.
func (v *Volume) DetachedAt() time.Time {
	var last time.Time
	for _, d := range v.Detachments {
		if d.At.After(last) {
			last = d.At
		}
	}
	return last
}

// InGrace says whether a detachment is there: whether the grace period that was
// asked for at a detach is still on.
func (v *Volume) InGrace() bool { return len(v.Detachments) > 0 }

// WithinGrace answers for a period of the caller's own, by the detachment's
// time: whether less than it has passed since the last detach. It compares two
// clocks, so it informs and must not decide; the end of a grace is InGrace's.
func (v *Volume) WithinGrace(period time.Duration) bool {
	at := v.DetachedAt()
	return !at.IsZero() && failpoint.Now().Sub(at) < period
}

// reading are the reads of one volume; volume takes their answers.
func (k keys) reading(v string) []*pb.RequestOp {
	holds, holdsEnd := k.under(kindHold, v)
	detachments, detachmentsEnd := k.under(kindDetachment, v)
	return []*pb.RequestOp{
		opGetRange(holds, holdsEnd),
		opGetRange(detachments, detachmentsEnd),
		opGet(k.migration(v)),
	}
}

func (k keys) volume(name string, revision int64, responses []*pb.ResponseOp) *Volume {
	v := &Volume{Name: name, Revision: revision}
	for _, kv := range responses[0].GetResponseRange().Kvs {
		if p, ok := k.parse(string(kv.Key)); ok {
			v.Holds = append(v.Holds, toHold(p, kv))
		} else {
			v.unknown = append(v.unknown, string(kv.Key))
		}
	}
	for _, kv := range responses[1].GetResponseRange().Kvs {
		if p, ok := k.parse(string(kv.Key)); ok {
			v.Detachments = append(v.Detachments, toDetachment(p, kv))
		}
	}
	for _, kv := range responses[2].GetResponseRange().Kvs {
		m := toMigration(key{kind: kindMigration, volume: name}, kv)
		v.Migration = &m
	}
	v.State = v.state()
	return v
}

func (v *Volume) state() VolumeState {
	exclusive, standing := 0, 0
	for _, h := range v.Holds {
		if h.Mode == Exclusive {
			exclusive++
		}
		if !h.Lapsed {
			standing++
		}
	}
	switch {
	case exclusive > 1 && v.Migration != nil:
		return StateMigrating
	case exclusive > 1:
		return StateOverdue
	case len(v.Holds)+len(v.unknown) > 0 && standing == 0 && len(v.unknown) == 0:
		return StateLapsed
	case len(v.Holds)+len(v.unknown) > 0:
		return StateAttached
	case len(v.Detachments) > 0:
		return StateGrace
	}
	return StateFree
}

func (v *Volume) conflict(holders []Hold) *ConflictError {
	e := &ConflictError{Volume: v.Name, Holders: holders, Revision: v.Revision}
	for _, k := range v.unknown {
		e.Detail = fmt.Sprintf("held under a key that this version does not know: %q", excerpt(k))
	}
	return e
}

// foreignGraces are the detachments that keep another cluster than these from
// attaching: exclusive ones. A shared detach reserves nothing.
func (v *Volume) foreignGraces(cluster string) []Detachment {
	var out []Detachment
	for _, d := range v.Detachments {
		if d.Cluster != cluster && d.Mode == Exclusive {
			out = append(out, d)
		}
	}
	return out
}

// Volume reads one volume: its holds, detachments and migration in one round
// trip, and the attachments of what was found in a second, at the first's
// revision. A volume that the ledger never saw is free.
func (l *Ledger) Volume(ctx context.Context, name string) (*Volume, error) {
	if err := ValidateVolume(name); err != nil {
		return nil, err
	}
	resp, err := l.look(ctx, l.keys.reading(name))
	if err != nil {
		return nil, err
	}
	v := l.keys.volume(name, resp.Header.Revision, resp.Responses)
	v.Attachments, err = l.standing(ctx, v.Holds, v.Revision)
	if err != nil {
		return nil, err
	}
	v.State = v.state()
	return v, nil
}

// readsAtOnce bounds the reads of one transaction (max-txn-ops 128).
const readsAtOnce = 100

// standing reads the attachments of holds at a revision and marks the holds
// that have none as lapsed. Whose attachments the etcd role does not reach, of
// those it marks that nobody knows: a cluster's role reaches its own alone.
func (l *Ledger) standing(ctx context.Context, holds []Hold, revision int64) ([]Attachment, error) {
	var found []Attachment
	for chunk := range slices.Chunk(pointers(holds), readsAtOnce) {
		attachments, err := l.attachmentsOf(ctx, chunk, revision)
		if errors.Is(err, ErrBeyondRole) {
			attachments, err = l.attachmentsInReach(ctx, chunk, revision)
		}
		if err != nil {
			return nil, err
		}
		found = append(found, attachments...)
	}
	return found, nil
}

func pointers(holds []Hold) []*Hold {
	out := make([]*Hold, len(holds))
	for i := range holds {
		out[i] = &holds[i]
	}
	return out
}

// attachmentsOf reads the attachments of at most readsAtOnce holds.
func (l *Ledger) attachmentsOf(ctx context.Context, holds []*Hold, revision int64) ([]Attachment, error) {
	ops := make([]clientv3.Op, len(holds))
	for i, h := range holds {
		ops[i] = clientv3.OpGet(l.keys.attachment(h.Cluster, h.Node, h.Volume), clientv3.WithRev(revision))
	}
	resp, err := l.read(ctx, ops...)
	if half := len(holds) / 2; tooMuch(err) && half > 0 {
		first, err := l.attachmentsOf(ctx, holds[:half], revision)
		if err != nil {
			return nil, err
		}
		second, err := l.attachmentsOf(ctx, holds[half:], revision)
		return append(first, second...), err
	}
	if err != nil {
		return nil, err
	}
	var found []Attachment
	for i, h := range holds {
		kvs := resp.Responses[i].GetResponseRange().Kvs
		h.Lapsed = len(kvs) == 0
		for _, kv := range kvs {
			found = append(found, toAttachment(key{kind: kindAttachment, cluster: h.Cluster, node: h.Node, volume: h.Volume}, kv))
		}
	}
	return found, nil
}

// attachmentsInReach is attachmentsOf, cluster by cluster: etcd refuses a
// transaction whole for one key that the role does not reach.
func (l *Ledger) attachmentsInReach(ctx context.Context, holds []*Hold, revision int64) ([]Attachment, error) {
	holds = slices.Clone(holds)
	slices.SortStableFunc(holds, func(a, b *Hold) int { return cmp.Compare(a.Cluster, b.Cluster) })
	var found []Attachment
	for len(holds) > 0 {
		n := 1
		for n < len(holds) && holds[n].Cluster == holds[0].Cluster {
			n++
		}
		attachments, err := l.attachmentsOf(ctx, holds[:n], revision)
		switch {
		case errors.Is(err, ErrBeyondRole):
			for _, h := range holds[:n] {
				h.StandingUnknown = true
			}
		case err != nil:
			return nil, err
		}
		found = append(found, attachments...)
		holds = holds[n:]
	}
	return found, nil
}

// explained fills in what a refusal could not say in its own round trip: which
// holders have lapsed, and how long a grace still lasts. What cannot be read
// stays unsaid.
func (l *Ledger) explained(ctx context.Context, err error) error {
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		l.metrics.conflict()
		_, _ = l.standing(ctx, conflict.Holders, conflict.Revision)
	}
	var grace *GraceError
	if errors.As(err, &grace) {
		for _, d := range grace.Detachments {
			left, _ := l.TimeLeft(ctx, d.Lease)
			grace.Left = max(grace.Left, left)
		}
	}
	return err
}

// holdsOf are the holds of one volume that a cluster has.
func (l *Ledger) holdsOf(ctx context.Context, cluster, volume string) iter.Seq2[Hold, error] {
	return func(yield func(Hold, error) bool) {
		v, err := l.Volume(ctx, volume)
		if err != nil {
			yield(Hold{}, err)
			return
		}
		for _, h := range v.Holds {
			if h.Cluster == cluster && !yield(h, nil) {
				return
			}
		}
	}
}
