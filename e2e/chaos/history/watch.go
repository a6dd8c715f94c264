package history

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// pageSize is how many keys one page of a list has.
const pageSize = 2000

// requestTimeout bounds one read: of a member that hangs, before another is asked.
const requestTimeout = 3 * time.Second

// first is where a range of all keys begins.
const first = "\x00"

// watch feeds the checker until ctx ends, or something was missed. It begins
// anew, after the last revision that it had, as often as it is cut off.
func (o *Observer) watch(ctx context.Context, l *life) error {
	for ctx.Err() == nil {
		if err := o.watchOnce(ctx, l); err != nil {
			return err
		}
		_ = pause(ctx) // the loop asks ctx itself
	}
	return nil
}

// watchOnce follows one watch. nil: it was cut off, or had stopped getting on.
func (o *Observer) watchOnce(ctx context.Context, l *life) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := o.client.Watch(ctx, first, clientv3.WithFromKey(), clientv3.WithRev(l.mirror.revision+1),
		clientv3.WithPrevKV(), clientv3.WithFragment())
	stuck := time.NewTicker(o.cfg.StuckAfter)
	defer stuck.Stop()
	at, behind := l.mirror.revision, l.beacons.last().Revision
	for {
		select {
		case <-stuck.C:
			// A beacon of a whole interval ago is still to come: a member that
			// hangs, or is cut off and does not know it.
			if l.mirror.revision == at && behind > at {
				return nil
			}
			at, behind = l.mirror.revision, l.beacons.last().Revision
		case resp, open := <-events:
			switch {
			case resp.CompactRevision != 0:
				return fmt.Errorf("%w: etcd has compacted up to %d, and the observer was at %d", ErrMissed, resp.CompactRevision, l.mirror.revision)
			case !open || resp.Err() != nil:
				return nil
			}
			if err := o.take(l, resp.Events); err != nil {
				return err
			}
		}
	}
}

// take admits what one answer brings, revision by revision.
func (o *Observer) take(l *life, answer []*clientv3.Event) error {
	received := o.cfg.Now()
	var err error
	for len(answer) > 0 && err == nil {
		r := Revision{Segment: l.segment, Number: answer[0].Kv.ModRevision, Received: received}
		for len(answer) > 0 && answer[0].Kv.ModRevision == r.Number {
			r.Events = append(r.Events, newEvent(answer[0]))
			answer = answer[1:]
		}
		o.log.write(r)
		o.update(func() {
			if err = l.mirror.admit(r.Number, r.Events); err == nil {
				o.checker.Take(r)
			}
		})
	}
	return err
}

func newEvent(e *clientv3.Event) Event {
	out := Event{KV: newKV(e.Kv), Delete: e.Type == clientv3.EventTypeDelete}
	if e.PrevKv != nil {
		prev := newKV(e.PrevKv)
		out.Prev = &prev
	}
	return out
}

func newKV(kv *mvccpb.KeyValue) KV {
	return KV{
		Key: string(kv.Key), Value: string(kv.Value), Create: kv.CreateRevision, Mod: kv.ModRevision,
		Version: kv.Version, Lease: kv.Lease,
	}
}

// list reads all keys at one revision, in pages; 0 is the present one.
func (o *Observer) list(ctx context.Context, revision int64) (int64, []KV, error) {
	var out []KV
	from := first
	for {
		own, cancel := context.WithTimeout(ctx, requestTimeout)
		resp, err := o.client.Get(own, from, clientv3.WithFromKey(), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
		cancel()
		if err != nil {
			return 0, nil, err
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			out = append(out, newKV(kv))
		}
		if !resp.More {
			return revision, out, nil
		}
		from = out[len(out)-1].Key + "\x00"
	}
}
