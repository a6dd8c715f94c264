package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// evictionsAtOnce bounds the evictions under way: enough to fill a request.
const evictionsAtOnce = requestOperations

// Evict gives up lapsed holds of a lost cluster, on an operator's word that the
// cluster's nodes can no longer write. Each ends only if it is still the hold
// that was read and nobody stands by it: a cluster that comes back in the
// middle stops its own eviction and keeps what is left. Every end leaves a
// detachment and a journal entry.
//
// It needs etcd's permission to write the lost cluster's keys.
func (l *Ledger) Evict(ctx context.Context, cluster string, holds []Hold, by, why string) ([]EndResult, error) {
	if err := errors.Join(ValidateCluster(cluster), validateText("by", by), validateText("why", why)); err != nil {
		return nil, err
	}
	for _, h := range holds {
		if h.Cluster != cluster {
			return nil, invalid("hold's cluster", h.Cluster, cluster)
		}
	}
	return measured(l, "evict", func() ([]EndResult, error) {
		results := make([]EndResult, len(holds))
		places := make(chan struct{}, evictionsAtOnce)
		var joined sync.WaitGroup
		for i, h := range holds {
			places <- struct{}{}
			joined.Go(func() {
				defer func() { <-places }()
				results[i] = l.evict(ctx, h, by, why)
			})
		}
		joined.Wait()
		var errs []error
		for _, r := range results {
			if r.Err != nil {
				errs = append(errs, fmt.Errorf("evicting volume %q from node %s: %w", r.Volume, r.Node, r.Err))
			}
		}
		return results, errors.Join(errs...)
	})
}

func (l *Ledger) evict(ctx context.Context, h Hold, by, why string) EndResult {
	op := &evict{l: l, hold: h, by: by, why: why, at: now(), id: newID()}
	result := EndResult{Volume: h.Volume, Node: h.Node}
	g := guard{ledger: true}
	_, result.Err = l.do(ctx, g, h.Volume, op)
	if result.Err == nil && op.refused == "" {
		result.Ended = true
		result.Err = l.wholeWait(ctx, g, op.begun, l.detachmentPut(op.detachment()))
	}
	if result.Err == nil {
		result.Refused = op.refused
	}
	return result
}

// evict is the operation behind Evict.
type evict struct {
	l       *Ledger
	hold    Hold
	by, why string
	at      time.Time
	id      string

	refused string
	begun   begun
}

func (o *evict) take(ctx context.Context) (leases, error) {
	main, err := o.l.waits.take(ctx, o.l.cfg.GracePeriod, 0)
	if err != nil {
		return leases{}, err
	}
	journal, err := o.l.retain(ctx)
	return leases{main: main, journal: journal}, err
}

func (o *evict) detachment() Detachment {
	h := o.hold
	return Detachment{
		Volume: h.Volume, Cluster: h.Cluster, Node: h.Node, Mode: h.Mode, Token: h.Token, At: o.at,
		Grace: o.l.cfg.GracePeriod, Reason: "evicted", By: o.by,
	}
}

func (o *evict) branch(a attempt) *pb.TxnRequest {
	k, h := o.l.keys, o.hold
	hold, attachment := k.hold(h.Volume, h.Mode, h.Cluster, h.Node), k.attachment(h.Cluster, h.Node, h.Volume)
	entry := entryValue{
		At: o.at, Action: ActionEvicted, Volume: h.Volume, Node: h.Node, Mode: h.Mode, Token: h.Token,
		Reason: "lapsed", By: o.by, Why: o.why,
	}
	return &pb.TxnRequest{
		Compare: []*pb.Compare{created(hold, h.Revision), absent(attachment)},
		Success: append(o.l.endOps(h, o.detachment(), a.leases.main), o.l.journalPut(h.Cluster, o.id, entry, a.leases.journal)),
		Failure: []*pb.RequestOp{
			opCount(attachment),
			opGet(k.detachment(h.Volume, h.Mode, h.Cluster, h.Node)),
		},
	}
}

func (o *evict) wait() (begun, waitPut) { return o.begun, o.l.detachmentPut(o.detachment()) }

func (o *evict) settle(a attempt, answer *pb.TxnResponse) error {
	if answer.Succeeded {
		o.begun = begin(a)
		return nil
	}
	// Sent again after a lost answer, it finds the detachment that it left.
	for _, kv := range answer.Responses[1].GetResponseRange().Kvs {
		d := toDetachment(key{kind: kindDetachment}, kv)
		if a.resent && d.Token == o.hold.Token && d.At.Equal(o.at) && d.By == o.by {
			o.begun = resumed(d.ModRevision)
			return nil
		}
	}
	o.refused = RefusedHold
	if answer.Responses[0].GetResponseRange().Count > 0 {
		o.refused = RefusedStanding
	}
	return nil
}
