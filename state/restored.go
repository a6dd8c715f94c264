package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// noticeTimeout bounds what a process that noticed a restored etcd still does.
const noticeTimeout = 5 * time.Second

// Known is what a process, or a record outside etcd, knows of a ledger and the
// etcd that it is in.
type Known struct {
	LedgerUUID string `json:"ledger"`
	Epoch      uint16 `json:"epoch"`
	// EtcdID is etcd's own ID of its cluster, in hex as etcdctl prints it.
	EtcdID   string `json:"etcd"`
	Revision int64  `json:"revision"`
}

// RestoreFreeze says who noticed that etcd was restored or replaced. While one
// stands, the ledger is frozen. It has no lease: an operator's unfreeze ends it.
type RestoreFreeze struct {
	// Cluster is whose process noticed; empty for one that acted as none.
	Cluster string    `json:"cluster,omitempty"`
	By      string    `json:"by"`
	Why     string    `json:"why"`
	Since   time.Time `json:"since"`
	// Known is what whoever noticed knew, Found what etcd had instead.
	Known       Known `json:"known"`
	Found       Known `json:"found"`
	ModRevision int64 `json:"modRevision"`
	Broken      error `json:"-"`
}

// Freeze is the freeze in the words that an operator's has.
func (f RestoreFreeze) Freeze() Freeze {
	out := Freeze{By: f.By, Why: f.Why, Since: f.Since}
	if f.Broken != nil {
		out.Why = "somebody noticed a restored etcd, and the record does not decode"
	}
	if f.Cluster != "" {
		out.By += " of cluster " + f.Cluster
	}
	return out
}

// Accepted says whether an operator has accepted this ledger in the place of the
// one that was known. It stands in the record itself, so that it outlives
// everybody who noticed, and is known to who only notices later.
func (r LedgerRecord) Accepted(k Known) bool {
	return r.Epoch > k.Epoch && (r.UUID == k.LedgerUUID || slices.Contains(r.Formerly, k.LedgerUUID))
}

func etcdName(id uint64) string { return strconv.FormatUint(id, 16) }

// known is what this process's memory has.
func (l *Ledger) known() Known {
	k := Known{Epoch: uint16(l.epoch.Load()), EtcdID: etcdName(l.etcdID.Load()), Revision: l.seen.Load()}
	if rec := l.record.Load(); rec != nil {
		k.LedgerUUID = rec.UUID
	}
	return k
}

// noticed freezes the ledger in the name of every cluster that this process acts
// as. The process itself is halted: it does so past its own refusal, and nothing
// more. Close waits for it.
func (l *Ledger) noticed(why error) {
	l.background.Go(func() {
		defer close(l.told)
		if l.cfg.ReadOnly || l.record.Load() == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), noticeTimeout)
		defer cancel()
		for _, cluster := range l.names() {
			if err := l.freezeRestored(ctx, cluster, l.known(), why.Error()); err != nil {
				l.log.Warn("the ledger could not be frozen: freeze it by hand, with 'holdfast freeze', and end that with 'holdfast unfreeze --restored'",
					"cluster", cluster, "error", err)
				continue
			}
			l.log.Error("the ledger is frozen until 'holdfast unfreeze --restored'; docs/backup.md tells what comes before it", "cluster", cluster)
		}
	})
}

// acts notes that this process acts as a cluster.
func (l *Ledger) acts(cluster string) {
	l.actingMu.Lock()
	defer l.actingMu.Unlock()
	if !slices.Contains(l.acting, cluster) {
		l.acting = append(l.acting, cluster)
	}
}

// names are the clusters that this process acts as; one for none.
func (l *Ledger) names() []string {
	l.actingMu.Lock()
	defer l.actingMu.Unlock()
	if len(l.acting) == 0 {
		return []string{ledgerCluster}
	}
	return slices.Clone(l.acting)
}

// FreezeRestored freezes the ledger because etcd is not the one that is known:
// from its revision on no attach, migration, removal or eviction of any cluster
// succeeds, until an operator unfreezes with restored. It does nothing where the
// cluster has frozen it already, or where an operator has accepted the ledger.
func (c *Cluster) FreezeRestored(ctx context.Context, known Known, why string) error {
	if err := errors.Join(c.ledger.writable(), validateText("why", why)); err != nil {
		return err
	}
	return c.ledger.freezeRestored(ctx, c.name, known, why)
}

// freezeRestored tries until it is done, ctx ends, or etcd refuses.
func (l *Ledger) freezeRestored(ctx context.Context, cluster string, known Known, why string) error {
	var wait backoff
	for {
		one, cancel := context.WithTimeout(ctx, l.cfg.RequestTimeout)
		done, err := l.tryFreeze(one, cluster, known, why)
		cancel()
		if done {
			return nil
		}
		if err != nil {
			f, mapped := classify(err)
			if f == refused {
				return fmt.Errorf("freezing the ledger: %w", mapped)
			}
			err = mapped
		}
		if werr := wait.wait(ctx); werr != nil {
			return fmt.Errorf("%w: freezing the ledger: %w (%w)", ErrUnavailable, werr, err)
		}
	}
}

// tryFreeze puts the freeze if there is still none, and the ledger still the one
// that no operator has accepted.
func (l *Ledger) tryFreeze(ctx context.Context, cluster string, known Known, why string) (bool, error) {
	k := l.keys.freeze(cluster)
	read, err := l.client.Txn(ctx).Then(clientv3.OpGet(l.keys.ledger()), clientv3.OpGet(k)).Commit()
	if err != nil {
		return false, err
	}
	var rec LedgerRecord
	if kvs := read.Responses[0].GetResponseRange().Kvs; len(kvs) == 1 {
		if rec = toLedger(kvs[0]); rec.Accepted(known) {
			return true, nil
		}
	}
	value := freezeValue{
		By: l.cfg.By, Why: why, Since: now(), Known: known,
		Found: Known{LedgerUUID: rec.UUID, Epoch: rec.Epoch, EtcdID: etcdName(read.Header.ClusterId), Revision: read.Header.Revision},
	}
	before := int64(0)
	if kvs := read.Responses[1].GetResponseRange().Kvs; len(kvs) == 1 {
		f := toFreeze(key{kind: kindFreeze, cluster: cluster}, kvs[0])
		if f.Broken == nil && f.Known.Epoch >= known.Epoch {
			return true, nil
		}
		before = f.ModRevision
	}
	put := []*pb.RequestOp{opPut(k, encode(value))}
	if lease, err := l.client.Grant(ctx, int64((l.cfg.JournalRetention+time.Second-1)/time.Second)); err == nil {
		entry := entryValue{At: value.Since, Action: ActionFrozen, By: value.By, Why: why, Reason: "restore-noticed"}
		put = append(put, l.journalPut(cluster, newID(), entry, slot{id: LeaseID(lease.ID)}))
	}
	resp, err := l.transact(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{unchanged(l.keys.ledger(), rec.ModRevision), unchanged(k, before)}, Success: put,
	})
	if err != nil || !resp.Succeeded {
		return false, err
	}
	return true, nil
}

// toFreezes decodes the range of all freezes.
func toFreezes(k keys, kvs []*mvccpb.KeyValue) []RestoreFreeze {
	out := make([]RestoreFreeze, 0, len(kvs))
	for _, kv := range kvs {
		if parsed, ok := k.parse(string(kv.Key)); ok {
			out = append(out, toFreeze(parsed, kv))
		}
	}
	return out
}

func (l *Ledger) readFreezes() *pb.RequestOp {
	begin, end := l.keys.under(kindFreeze)
	return opGetRange(begin, end)
}

// frozenBy is the error of an operation that freezes stop; nil if there are none.
func frozenBy(freezes []RestoreFreeze) error {
	if len(freezes) == 0 {
		return nil
	}
	f := freezes[0].Freeze()
	return fmt.Errorf("%w, since %s by %s: %s", ErrRestoreNoticed, f.Since.UTC().Format(time.RFC3339), f.By, f.Why)
}
