package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Witness is what a cluster's leader writes into etcd again and again, and
// outside it too: an etcd that was restored has an older one. It has no lease.
type Witness struct {
	Cluster string `json:"cluster"`
	// Nonces are the last ones of each store outside, the latest first. Replicas
	// that share no store, each with a file of its own, have one each.
	Nonces      []Nonce   `json:"nonces"`
	By          string    `json:"by"`
	Since       time.Time `json:"since"`
	ModRevision int64     `json:"modRevision"`
	Broken      error     `json:"-"`
}

// Nonce is a random text that is in a store outside etcd too.
type Nonce struct {
	Store string    `json:"store"`
	Nonce string    `json:"nonce"`
	Since time.Time `json:"since"`
}

// witnessStores bounds the stores of a witness. The one that has been used least
// lately falls out; a leader that comes back to it would take that for a restore.
const witnessStores = 16

// Of is a store's nonce; empty if there is none.
func (w Witness) Of(store string) string {
	for _, n := range w.Nonces {
		if n.Store == store {
			return n.Nonce
		}
	}
	return ""
}

// Sight is what a leader sees of the ledger when it looks for a restore, at one
// revision.
type Sight struct {
	// Known is what there is to know of it now.
	Known   Known
	Ledger  LedgerRecord
	Witness Witness
}

// Sight looks, past every member that lags.
func (c *Cluster) Sight(ctx context.Context) (Sight, error) {
	l, k := c.ledger, c.ledger.keys
	resp, err := l.read(ctx, clientv3.OpGet(k.ledger()), clientv3.OpGet(k.witness(c.name)))
	if err != nil {
		return Sight{}, err
	}
	one := func(i int) *mvccpb.KeyValue {
		for _, kv := range resp.Responses[i].GetResponseRange().Kvs {
			return kv
		}
		return nil
	}
	if one(0) == nil {
		return Sight{}, l.halt(fmt.Errorf("%w: the ledger's record is gone", ErrRestored))
	}
	s := Sight{Ledger: toLedger(one(0)), Witness: Witness{Cluster: c.name}}
	if err := l.accept(s.Ledger); err != nil {
		return Sight{}, err
	}
	s.Known = Known{LedgerUUID: s.Ledger.UUID, Epoch: s.Ledger.Epoch, EtcdID: etcdName(resp.Header.ClusterId), Revision: resp.Header.Revision}
	if kv := one(1); kv != nil {
		s.Witness = toWitness(key{kind: kindWitness, cluster: c.name}, kv)
	}
	return s, nil
}

// PutWitness puts a store's nonce into the witness that was seen, and returns the
// revision of that. From then on
// this leader's removals compare that etcd has it, or a later one. ErrNotLeader,
// and ErrConflict if the witness is no longer the one that was seen.
func (ld *Leadership) PutWitness(ctx context.Context, seen Witness, store, nonce string) (int64, error) {
	l, k := ld.c.ledger, ld.c.ledger.keys.witness(ld.c.name)
	if err := errors.Join(ld.leads(), validateText("store", store), validateText("nonce", nonce)); err != nil {
		return 0, err
	}
	at := now()
	others := slices.DeleteFunc(slices.Clone(seen.Nonces), func(n Nonce) bool { return n.Store == store })
	nonces := append([]Nonce{{Store: store, Nonce: nonce, Since: at}}, others...)
	value := encode(witnessValue{Nonces: nonces[:min(len(nonces), witnessStores)], By: l.cfg.By, Since: at})
	put := int64(0)
	op := &simple{
		ifs:   []*pb.Compare{unchanged(k, seen.ModRevision)},
		thens: func(attempt) []*pb.RequestOp { return []*pb.RequestOp{opPut(k, value)} },
		look:  k,
		found: func(kv *mvccpb.KeyValue) error {
			// Sent again after a lost answer, it finds what it put itself.
			if kv != nil && string(kv.Value) == value {
				put = kv.ModRevision
				return nil
			}
			return fmt.Errorf("%w: the witness of cluster %s is not the one that was seen", ErrConflict, ld.c.name)
		},
	}
	a, err := l.do(ctx, guard{cluster: ld.c, leader: ld}, k, op)
	if err != nil {
		return 0, fmt.Errorf("putting the witness of cluster %s: %w", ld.c.name, err)
	}
	if op.done {
		put = a.revision
	}
	ld.witnessed.Store(put)
	return put, nil
}

// witnessCompare holds on while this leader renews its witness, and fails in an
// etcd that has only an older one.
func (ld *Leadership) witnessCompare() *pb.Compare {
	return notBefore(ld.c.ledger.keys.witness(ld.c.name), ld.witnessed.Load())
}

// learnWitness does not halt the process: the leader's next look finds out more,
// and freezes the ledger.
func (ld *Leadership) learnWitness(kvs []*mvccpb.KeyValue) error {
	found, put := int64(0), ld.witnessed.Load()
	for _, kv := range kvs {
		found = kv.ModRevision
	}
	if found < put {
		return fmt.Errorf("%w: the witness of cluster %s is of revision %d, and was put at %d", ErrRestored, ld.c.name, found, put)
	}
	return nil
}
