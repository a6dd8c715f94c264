package state

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// guard is what a request compares once, outside its operations. Calls share a
// request only if their guards are equal.
type guard struct {
	// cluster, whose record must be the one that this process read and checked
	// against its own identity. nil for an operator's request.
	cluster *Cluster
	// ledger: the ledger's record must be the one that was read, and neither it nor
	// whoever noticed a restore may have frozen the ledger.
	ledger bool
	// leader: it must still be the cluster's leader.
	leader *Leadership
	// witness: the leader's witness must not be older than the one it put last.
	witness bool
	// unpaused: removal in the cluster must not be paused.
	unpaused bool
}

// ready reads again what a freeze has made doubtful, and refuses a request
// that could only fail.
func (g guard) ready(ctx context.Context, l *Ledger) error {
	if g.cluster != nil {
		if err := g.cluster.mismatch(); err != nil {
			return err
		}
	}
	if !g.ledger || l.record.Load().Frozen == nil || failpoint.Planted(failpoint.IgnoreFreeze) {
		return nil
	}
	rec, err := l.Record(ctx)
	if err != nil {
		return err
	}
	return rec.frozen()
}

func (r LedgerRecord) frozen() error {
	if f := r.Frozen; f != nil {
		return fmt.Errorf("%w since %s by %s: %s", ErrFrozen, f.Since.UTC().Format(time.RFC3339), f.By, f.Why)
	}
	return nil
}

// nowhere is a ModRevision that no record has.
const nowhere = -1

// compares also returns the epoch that goes with the ledger's record.
func (g guard) compares(l *Ledger) ([]*pb.Compare, uint16) {
	var ifs []*pb.Compare
	rec := l.record.Load()
	if g.cluster != nil {
		ifs = append(ifs, g.cluster.compare())
	}
	if g.ledger && !failpoint.Planted(failpoint.IgnoreFreeze) {
		at := rec.ModRevision
		if rec.Frozen != nil {
			// Another call has read it since this one was found ready. Compared as it
			// is, it would hold; as nothing is at this revision, etcd refuses.
			at = nowhere
		}
		ifs = append(ifs, unchanged(l.keys.ledger(), at), emptyRange(l.keys.under(kindFreeze)))
	}
	if g.leader != nil && !failpoint.Planted(failpoint.DropLeaderCompare) {
		ifs = append(ifs, g.leader.compares()...)
	}
	if g.witness {
		ifs = append(ifs, g.leader.witnessCompare())
	}
	if g.unpaused {
		ifs = append(ifs, absent(l.keys.pause(g.cluster.name)))
	}
	return ifs, rec.Epoch
}

// reads is what a failed guard is told by; learn takes the answers.
func (g guard) reads(l *Ledger) []*pb.RequestOp {
	ops := []*pb.RequestOp{opGet(l.keys.ledger())}
	if g.ledger {
		ops = append(ops, l.readFreezes())
	}
	if g.cluster != nil {
		ops = append(ops, opGet(l.keys.cluster(g.cluster.name)))
	}
	if g.leader != nil {
		ops = append(ops, g.leader.read())
	}
	if g.witness {
		ops = append(ops, opGetKey(l.keys.witness(g.cluster.name)))
	}
	if g.unpaused {
		ops = append(ops, opGet(l.keys.pause(g.cluster.name)))
	}
	return ops
}

// learn says why a guard failed. It returns nil if what was read has only
// moved, so that the request may be built anew and sent again.
func (g guard) learn(l *Ledger, resp *pb.TxnResponse) error {
	answers := resp.Responses
	kvs := answers[0].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return l.halt(fmt.Errorf("%w: the ledger's record is gone", ErrRestored))
	}
	if err := l.accept(toLedger(kvs[0])); err != nil {
		return err
	}
	if g.ledger {
		if err := l.record.Load().frozen(); err != nil {
			return err
		}
		answers = answers[1:]
		if err := frozenBy(toFreezes(l.keys, answers[0].GetResponseRange().Kvs)); err != nil {
			return err
		}
	}
	answers = answers[1:]
	if g.cluster != nil {
		g.cluster.learn(answers[0].GetResponseRange().Kvs)
		if err := g.cluster.mismatch(); err != nil {
			return err
		}
		answers = answers[1:]
	}
	if g.leader != nil {
		if err := g.leader.learn(answers[0].GetResponseRange().Kvs); err != nil {
			return err
		}
		answers = answers[1:]
	}
	if g.witness {
		if err := g.leader.learnWitness(answers[0].GetResponseRange().Kvs); err != nil {
			return err
		}
		answers = answers[1:]
	}
	if g.unpaused {
		for _, kv := range answers[0].GetResponseRange().Kvs {
			p := toPause(key{kind: kindPause, cluster: g.cluster.name}, kv)
			return fmt.Errorf("%w in cluster %s since %s by %s: %s", ErrPaused, p.Cluster, p.Since.Format(time.RFC3339), p.By, p.Why)
		}
	}
	return nil
}

// dropLease forgets leases, one of which etcd no longer knows.
func (g guard) dropLease(l *Ledger, ids leases) {
	for _, s := range []slot{ids.main, ids.session, ids.journal} {
		l.waits.drop(s.id)
		if g.cluster != nil {
			g.cluster.sessions.drop(s.id)
		}
	}
}
