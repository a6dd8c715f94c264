package state

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/google/uuid"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Freeze stops every attach, migration, removal and eviction of all clusters,
// from its own revision on. Detaches go on. ErrConflict if it is frozen already.
func (l *Ledger) Freeze(ctx context.Context, by, why string) error {
	if err := errors.Join(validateText("by", by), validateText("why", why)); err != nil {
		return err
	}
	f := &Freeze{By: by, Why: why, Since: now()}
	return l.change(ctx, "freeze", entryValue{Action: ActionFrozen, By: by, Why: why}, func(s *stops) error {
		if s.Frozen != nil {
			return fmt.Errorf("%w: %w", ErrConflict, s.frozen())
		}
		s.Frozen = f
		return nil
	})
}

// Unfreeze lets attaches, migrations, removals and evictions go on. ErrNotFound
// if the ledger is not frozen.
//
// restored is an operator's word that a restored etcd is to be used as it is. It
// raises the epoch above every one that was known to those who noticed, so that
// every later token is greater than any before. Without it the freezes of those
// who noticed stay: ErrRestoreNoticed. ErrConflict if one of those does not decode,
// or claims an epoch that is far above the ledger's: see UnfreezeTo.
func (l *Ledger) Unfreeze(ctx context.Context, by string, restored bool) error {
	return l.unfreeze(ctx, by, restored, 0)
}

// UnfreezeTo is Unfreeze of a restored etcd with an epoch of the operator's own:
// for a freeze that claims an epoch nobody had, or does not decode. ErrInvalid if
// it is not above the ledger's and those of all other freezes; one that is not
// above every epoch that was in use makes tokens repeat.
func (l *Ledger) UnfreezeTo(ctx context.Context, by string, epoch uint16) error {
	if epoch == 0 {
		return invalid("epoch", "0", "one above the ledger's")
	}
	return l.unfreeze(ctx, by, true, epoch)
}

func (l *Ledger) unfreeze(ctx context.Context, by string, restored bool, epoch uint16) error {
	if err := validateText("by", by); err != nil {
		return err
	}
	entry := entryValue{Action: ActionUnfrozen, By: by}
	if restored {
		entry.Reason = "restored"
	}
	return l.change(ctx, "unfreeze", entry, func(s *stops) error {
		switch {
		case s.Frozen == nil && len(s.freezes) == 0 && restored:
			return fmt.Errorf("%w: the ledger is not frozen; a restore that nobody has noticed is accepted by a freeze and this command after it", ErrNotFound)
		case s.Frozen == nil && len(s.freezes) == 0:
			return fmt.Errorf("%w: the ledger is not frozen", ErrNotFound)
		case !restored && len(s.freezes) > 0:
			return fmt.Errorf("%w; expected an unfreeze that accepts the restored etcd, 'holdfast unfreeze --restored'", frozenBy(s.freezes))
		}
		s.Frozen = nil
		if restored {
			return s.acceptRestored(epoch)
		}
		return nil
	})
}

// stops is the ledger's record, and what else freezes the ledger, as they were
// at one revision.
type stops struct {
	LedgerRecord
	freezes  []RestoreFreeze
	revision int64
}

// formerUUIDs bounds the former ledgers that a record names: a cluster that knows
// of an earlier one has to be accepted by another unfreeze.
const formerUUIDs = 16

// epochLeap bounds how far above the ledger's epoch one is believed that a freeze
// claims: any cluster may put its own, and there are no more than 65,535. Each
// restore that an operator accepts takes one.
const epochLeap = 1000

// acceptRestored makes the record the successor of all that those who noticed
// knew. An epoch of the operator's goes past those who are not believed.
func (s *stops) acceptRestored(to uint16) error {
	if to != 0 && to <= s.Epoch {
		return invalid("epoch", strconv.Itoa(int(to)), fmt.Sprintf("one above the ledger's, which is %d", s.Epoch))
	}
	epoch := s.Epoch
	for _, f := range s.freezes {
		err := s.believable(f)
		switch {
		case err != nil && to == 0:
			return err
		case err == nil && to != 0 && to <= f.Known.Epoch:
			return invalid("epoch", strconv.Itoa(int(to)), fmt.Sprintf("one above what cluster %q knew, which is %d", f.Cluster, f.Known.Epoch))
		}
		if f.Broken != nil {
			continue
		}
		epoch = max(epoch, f.Known.Epoch)
		// Any cluster may have put anything there, and what the record has stays in it.
		if u := f.Known.LedgerUUID; uuid.Validate(u) == nil && u != s.UUID && !slices.Contains(s.Formerly, u) {
			s.Formerly = append(s.Formerly, u)
		}
	}
	switch {
	case to != 0:
		s.Epoch = to
	case epoch == math.MaxUint16:
		return fmt.Errorf("%w: the epoch is %d, the last there is", ErrConflict, epoch)
	default:
		s.Epoch = epoch + 1
	}
	s.Formerly = s.Formerly[max(0, len(s.Formerly)-formerUUIDs):]
	return nil
}

// believable refuses a freeze that no unfreeze may follow by itself.
func (s *stops) believable(f RestoreFreeze) error {
	const expected = "expected an operator's own word, 'holdfast unfreeze --restored --epoch N' with an N above every epoch that was in use"
	switch {
	case f.Broken != nil:
		return fmt.Errorf("%w: what cluster %q knew cannot be read: %w; %s; the ledger's is %d", ErrConflict, f.Cluster, f.Broken, expected, s.Epoch)
	case int(f.Known.Epoch) > int(s.Epoch)+epochLeap:
		return fmt.Errorf("%w: cluster %q claims epoch %d, and the ledger's is %d; %s", ErrConflict, f.Cluster, f.Known.Epoch, s.Epoch, expected)
	}
	return nil
}

// stops reads what an operator's freeze or unfreeze is about to change.
func (l *Ledger) stops(ctx context.Context) (stops, error) {
	rec, err := l.Record(ctx)
	if err != nil {
		return stops{}, err
	}
	resp, err := l.look(ctx, []*pb.RequestOp{l.readFreezes()})
	if err != nil {
		return stops{}, err
	}
	return stops{rec, toFreezes(l.keys, resp.Responses[0].GetResponseRange().Kvs), resp.Header.Revision}, nil
}

// change rewrites the ledger's record, comparing that it is the one read, and
// leaves a journal entry. It reads and tries again where another was faster. A
// raised epoch takes the freezes of a restore away, those that were read.
func (l *Ledger) change(ctx context.Context, verb string, entry entryValue, edit func(*stops) error) error {
	_, err := measured(l, verb, func() (struct{}, error) {
		id := newID()
		entry.At = now()
		for {
			s, err := l.stops(ctx)
			if err != nil {
				return struct{}{}, err
			}
			before := s.LedgerRecord
			if err := edit(&s); err != nil {
				return struct{}{}, err
			}
			value, err := rewrite(s.raw, ledgerValue{
				UUID: s.UUID, Format: s.Format, Driver: s.Driver, Epoch: s.Epoch, Created: s.Created, Frozen: s.Frozen, Formerly: s.Formerly,
			})
			if err != nil {
				return struct{}{}, err
			}
			op := l.rewriting(l.keys.ledger(), before.ModRevision, value, "", id, entry)
			if s.Epoch > before.Epoch && len(s.freezes) > 0 {
				l.lifting(op, s.revision)
			}
			if _, err := l.do(ctx, guard{}, l.keys.ledger(), op); !errors.Is(err, errMoved) || errors.Is(err, ErrUnknownOutcome) {
				if err == nil {
					// For what this process sends next, which else learns it by a
					// refusal. What is done is done, whether or not it can be read.
					_, _ = l.Record(ctx)
				}
				return struct{}{}, err
			}
		}
	})
	return err
}

// lifting also deletes all freezes of a restore, if none was put after revision.
func (l *Ledger) lifting(op *simple, revision int64) {
	begin, end := l.keys.under(kindFreeze)
	op.ifs = append(op.ifs, noneAfter(begin, end, revision))
	puts := op.thens
	op.thens = func(a attempt) []*pb.RequestOp {
		return append(puts(a), opDeleteRange(begin, end))
	}
}

// rewriting puts a record's new value if it is still the one of revision, with
// a journal entry beside it.
func (l *Ledger) rewriting(k string, revision int64, value, cluster, id string, entry entryValue) *simple {
	return &simple{
		leases: l.journaled,
		ifs:    []*pb.Compare{unchanged(k, revision)},
		thens: func(a attempt) []*pb.RequestOp {
			return []*pb.RequestOp{opPut(k, value), l.journalPut(cluster, id, entry, a.leases.journal)}
		},
		look: k,
		found: func(kv *mvccpb.KeyValue) error {
			// Sent again after a lost answer, it finds what it wrote itself.
			if kv != nil && string(kv.Value) == value {
				return nil
			}
			return errMoved
		},
	}
}

// Rebind gives a cluster's name to a cluster that was built anew on purpose:
// from its revision on the processes of the old one can write nothing. Its
// holds stay. ErrNotFound if the name is not on record, ErrInvalid if the UID is
// on record under another name, as far as this process may read those.
func (l *Ledger) Rebind(ctx context.Context, cluster, uid, by, why string) error {
	if err := errors.Join(ValidateCluster(cluster), validateText("cluster UID", uid), validateText("by", by), validateText("why", why)); err != nil {
		return err
	}
	if uid == "" {
		return invalid("cluster UID", uid, "the UID of the new cluster's kube-system namespace")
	}
	if err := l.unnamed(ctx, uid, cluster); err != nil {
		return err
	}
	_, err := measured(l, "rebind", func() (struct{}, error) {
		id, since := newID(), now()
		for {
			rec, err := l.clusterRecord(ctx, cluster)
			if err != nil {
				return struct{}{}, err
			}
			value, err := rewrite(rec.raw, clusterValue{UID: uid, Since: since, By: by})
			if err != nil {
				return struct{}{}, err
			}
			entry := entryValue{At: since, Action: ActionRebound, By: by, Why: why, Reason: rec.UID + " to " + uid}
			op := l.rewriting(l.keys.cluster(cluster), rec.ModRevision, value, cluster, id, entry)
			if _, err := l.do(ctx, guard{}, l.keys.cluster(cluster), op); !errors.Is(err, errMoved) || errors.Is(err, ErrUnknownOutcome) {
				return struct{}{}, err
			}
		}
	})
	return err
}

// unnamed refuses a UID that another name has: with one cluster's nodes under
// two names, each node of the other name would look gone. It is a guard against
// slips, like a rebind with the kubeconfig of the wrong cluster, and no compare:
// whoever may not read the other names is not kept from rebinding its own.
func (l *Ledger) unnamed(ctx context.Context, uid, cluster string) error {
	for c, err := range l.Clusters(ctx) {
		switch {
		case errors.Is(err, ErrPermission):
			return nil
		case err != nil:
			return err
		case c.UID == uid && c.Cluster != cluster:
			return invalid("cluster UID", uid, fmt.Sprintf("that of a cluster without a name: this one is %q on record", c.Cluster))
		}
	}
	return nil
}
