package state

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A freeze that was carried out is told as that, also where etcd goes away
// before anything more can be read of it.
func TestFreeze_EtcdGoesAwayAfterIt(t *testing.T) {
	l := openLedger(t)
	leaving := again(t, l, shortGrace, func(c *Config) { c.RequestTimeout = time.Second })
	leaving.client.KV = &leavingKV{KV: leaving.client.KV, answers: 3} // two reads, and the freeze
	mustBe(t, leaving.Freeze(t.Context(), "op", "why"), nil)
	rec, err := l.Record(t.Context())
	mustBe(t, err, nil)
	if rec.Frozen == nil {
		t.Error("it is not frozen")
	}
}

// A freeze that another call of the process has read, between this one's look at
// the record and its request, must not be compared as if it were none.
func TestFreeze_ReadBetweenLookAndRequest(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	mustBe(t, again(t, l).Freeze(t.Context(), "op", "why"), nil)
	_, err := l.Record(t.Context())
	mustBe(t, err, nil)
	req := AttachRequest{Volume: "pvc-1", Node: "node-1", Mode: Exclusive}
	mustBe(t, sendLate(t, c, c.guard(true), &attach{c: c, req: req, since: now()}, l.seen.Load()), ErrFrozen)
	mustHold(t, l, "pvc-1", StateFree)
}

// leavingKV answers a number of transactions, and none after them.
type leavingKV struct {
	clientv3.KV
	answers int
}

func (k *leavingKV) Txn(ctx context.Context) clientv3.Txn {
	if k.answers--; k.answers < 0 {
		gone, cancel := context.WithCancel(ctx)
		cancel()
		ctx = gone
	}
	return k.KV.Txn(ctx)
}
