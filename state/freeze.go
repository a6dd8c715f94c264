package state

import (
	"context"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Freeze stops every attach, migration, removal and eviction of all clusters,
// from its own revision on. Detaches go on. ErrConflict if it is frozen already.
func (l *Ledger) Freeze(ctx context.Context, by, why string) error {
	if err := errors.Join(validateText("by", by), validateText("why", why)); err != nil {
		return err
	}
	f := &Freeze{By: by, Why: why, Since: now()}
	return l.change(ctx, "freeze", entryValue{Action: ActionFrozen, By: by, Why: why}, func(rec *LedgerRecord) error {
		if rec.Frozen != nil {
			return fmt.Errorf("%w: %w", ErrConflict, rec.frozen())
		}
		rec.Frozen = f
		return nil
	})
}

// Unfreeze lets attaches, migrations, removals and evictions go on. restored
// is an operator's word that a restored etcd is to be used as it is: it raises
// the epoch, so that every later token is greater than any before. ErrNotFound
// if the ledger is not frozen.
func (l *Ledger) Unfreeze(ctx context.Context, by string, restored bool) error {
	if err := validateText("by", by); err != nil {
		return err
	}
	entry := entryValue{Action: ActionUnfrozen, By: by}
	if restored {
		entry.Reason = "restored"
	}
	return l.change(ctx, "unfreeze", entry, func(rec *LedgerRecord) error {
		if rec.Frozen == nil {
			return fmt.Errorf("%w: the ledger is not frozen", ErrNotFound)
		}
		if restored && rec.Epoch == math.MaxUint16 {
			return fmt.Errorf("%w: the epoch is %d, the last there is", ErrConflict, rec.Epoch)
		}
		rec.Frozen = nil
		if restored {
			rec.Epoch++
		}
		return nil
	})
}

// change rewrites the ledger's record, comparing that it is the one read, and
// leaves a journal entry. It reads and tries again where another was faster.
func (l *Ledger) change(ctx context.Context, verb string, entry entryValue, edit func(*LedgerRecord) error) error {
	_, err := measured(l, verb, func() (struct{}, error) {
		id := newID()
		entry.At = now()
		for {
			rec, err := l.Record(ctx)
			if err != nil {
				return struct{}{}, err
			}
			before := rec.ModRevision
			if err := edit(&rec); err != nil {
				return struct{}{}, err
			}
			value, err := rewrite(rec.raw, ledgerValue{
				UUID: rec.UUID, Format: rec.Format, Driver: rec.Driver, Epoch: rec.Epoch, Created: rec.Created, Frozen: rec.Frozen,
			})
			if err != nil {
				return struct{}{}, err
			}
			op := l.rewriting(l.keys.ledger(), before, value, "", id, entry)
			if _, err := l.do(ctx, guard{}, l.keys.ledger(), op); !errors.Is(err, errMoved) || errors.Is(err, ErrUnknownOutcome) {
				if err == nil {
					_, err = l.Record(ctx)
				}
				return struct{}{}, err
			}
		}
	})
	return err
}

// rewriting puts a record's new value if it is still the one of revision, with
// a journal entry beside it.
func (l *Ledger) rewriting(k string, revision int64, value, cluster, id string, entry entryValue) *simple {
	return &simple{
		leases: l.journaled,
		ifs:    []clientv3.Cmp{unchanged(k, revision)},
		thens: func(a attempt) []clientv3.Op {
			return []clientv3.Op{clientv3.OpPut(k, value), l.journalPut(cluster, id, entry, a.leases.journal)}
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
