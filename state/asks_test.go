package state

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// counted counts the transactions that a ledger sends.
type counted struct {
	pb.KVClient
	sent atomic.Int64
}

func (c *counted) Txn(ctx context.Context, r *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	c.sent.Add(1)
	return c.KVClient.Txn(ctx, r, opts...)
}

// counting counts from now on what the ledger sends.
func counting(l *Ledger) *counted {
	c := &counted{KVClient: l.kv}
	l.kv = c
	return c
}

// What is common takes one round trip, and what something stands in the way of a
// second one, which says what.
func TestAsks_OnlyOnceSomethingStandsInTheWay(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	sent := counting(l)
	attach := func(c *Cluster, volume string, m Mode) func() error {
		return func() error {
			_, err := c.Attach(t.Context(), AttachRequest{Volume: volume, Node: "node-1", Mode: m})
			return err
		}
	}
	detach := func(volume string, m Mode) func() error {
		return func() error {
			_, err := a.Detach(t.Context(), DetachRequest{Volume: volume, Node: "node-1", Mode: m})
			return err
		}
	}
	migrate := func() error {
		_, err := a.Migrate(t.Context(), MigrateRequest{
			Volume: "m", Source: "node-1", SourceToken: read(t, l, "m").Holds[0].Token, Target: Place{Node: "node-2"},
		})
		sent.sent.Store(1) // whatever that took
		return err
	}
	for _, step := range []struct {
		what  string
		call  func() error
		want  error
		trips int64
	}{
		{"attach", attach(a, "x", Exclusive), nil, 1},
		{"attach what the node has", attach(a, "x", Exclusive), nil, 2},
		{"attach what another has", attach(b, "x", Exclusive), ErrConflict, 2},
		{"detach", detach("x", ""), nil, 1},
		{"detach what is free", detach("x", ""), nil, 2},
		{"attach within another's grace", attach(b, "x", Exclusive), ErrInGrace, 2},
		{"hand over", attach(a, "x", Exclusive), nil, 1},
		{"attach shared", attach(a, "s", Shared), nil, 1},
		{"detach what is shared", detach("s", ""), nil, 2},
		{"attach shared again", attach(a, "s", Shared), nil, 1},
		{"detach what is known to be shared", detach("s", Shared), nil, 1},
		{"attach what is to migrate", attach(a, "m", Exclusive), nil, 1},
		{"migrate", migrate, nil, 1},
		{"detach what migrates", detach("m", ""), nil, 2},
	} {
		sent.sent.Store(0)
		if err := step.call(); !isOrNil(err, step.want) {
			t.Errorf("%s: error %v, want %v", step.what, err, step.want)
		}
		if got := sent.sent.Load(); got != step.trips {
			t.Errorf("%s took %d round trips, want %d", step.what, got, step.trips)
		}
	}
	mustHold(t, l, "m", StateAttached, Place{"a", "node-2"})
	if v := read(t, l, "m"); v.Migration != nil {
		t.Errorf("the detach of one side left the window: %+v", v.Migration)
	}
}

// What does not ask compares no less: late, it touches nothing either.
func TestAsks_WhatDoesNotIsNoLessCareful(t *testing.T) {
	for _, level := range []trustLevel{trustNothing, trustVolumes} {
		t.Run(fmt.Sprint("trust ", level), func(t *testing.T) { unaskedIsCareful(t, level) })
	}
}

func unaskedIsCareful(t *testing.T, level trustLevel) {
	t.Helper()
	l := openLedger(t)
	c := asCluster(t, l, "a")
	send := func(g guard, op operation, a attempt) error {
		trustOf(l, level)
		return sendOnce(t, c, g, op, a)
	}
	r := l.seen.Load()
	attached(t, c, "pvc-1", "node-1")
	detached(t, c, "pvc-1", "node-1")
	for _, m := range []Mode{Exclusive, Shared} {
		op := &attach{c: c, req: AttachRequest{Volume: "pvc-1", Node: "node-1", Mode: m}, since: now()}
		if m == Shared {
			// Of a shared hold's end only a shared detachment tells.
			if _, err := c.Attach(t.Context(), op.req); err != nil {
				t.Fatal(err)
			}
			detached(t, c, "pvc-1", "node-1")
		}
		mustBe(t, send(c.guard(true), op, attempt{r: r}), errUnasked)
		mustHold(t, l, "pvc-1", StateGrace)
	}
	h := attached(t, c, "pvc-1", "node-1")
	op := &detach{c: c, req: DetachRequest{Volume: "pvc-1", Node: "node-1", Mode: Exclusive, Grace: time.Minute, Reason: "detached"}, at: now()}
	mustBe(t, send(c.guard(false), op, attempt{r: r}), errUnasked)
	op.req.Token = h.Token - 1
	mustBe(t, send(c.guard(false), op, attempt{r: l.seen.Load()}), errUnasked)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
}

// A freeze stops a call that goes alone, whose compares stand with the guard's.
func TestAsks_AloneIsFrozenToo(t *testing.T) {
	l := openLedger(t)
	c, operator := asCluster(t, l, "a"), again(t, l)
	if err := operator.Freeze(t.Context(), "test", "to see"); err != nil {
		t.Fatal(err)
	}
	_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"})
	mustBe(t, err, ErrFrozen)
	mustHold(t, l, "pvc-1", StateFree)
}
