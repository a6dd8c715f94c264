package statetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// requestTimeout bounds each request that statetest makes itself.
const requestTimeout = 30 * time.Second

// Access is the way into a server past everything that is under test. Every
// kind of server here has one.
type Access struct {
	endpoints      []string
	user, password string
	authority      *Authority // nil: no TLS
}

// Endpoints are the URLs of all members, in their order.
func (a *Access) Endpoints() []string { return slices.Clone(a.endpoints) }

// Client returns a plain client, as root once EnableAuth has been called. It
// is closed when the test ends.
func (a *Access) Client(tb testing.TB) *clientv3.Client {
	tb.Helper()
	client, done := a.briefClient(tb)
	tb.Cleanup(done)
	return client
}

// briefClient is a client for one call of statetest's own: a test may make
// many of those, and connections must not pile up until its end.
func (a *Access) briefClient(tb testing.TB) (client *clientv3.Client, done func()) {
	tb.Helper()
	client, err := a.rawClient()
	if err != nil {
		tb.Fatalf("statetest: client of %v: %v", a.endpoints, err)
	}
	return client, func() { client.Close() }
}

func (a *Access) rawClient() (*clientv3.Client, error) {
	cfg := clientv3.Config{Endpoints: a.endpoints, Username: a.user, Password: a.password}
	if a.authority != nil {
		var err error
		if cfg.TLS, err = a.authority.config(RootUser); err != nil {
			return nil, err
		}
	}
	return newRawClient(cfg)
}

func newRawClient(cfg clientv3.Config) (*clientv3.Client, error) {
	cfg.DialTimeout = requestTimeout
	cfg.Logger = zap.NewNop()
	return clientv3.New(cfg)
}

// KV is a key as it lies in etcd. Lease is 0 where it has none.
type KV struct {
	Key, Value                                  string
	CreateRevision, ModRevision, Version, Lease int64
}

// Event is one change of a key. Previous is nil where the key was new, or
// where what was before it is compacted.
type Event struct {
	Deleted  bool
	KV       // of a deletion only Key and ModRevision
	Previous *KV
}

// Dump returns every key below prefix, in the order of the keys, at one
// revision.
func (a *Access) Dump(tb testing.TB, prefix string) []KV {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	client, done := a.briefClient(tb)
	defer done()
	answer, err := client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		tb.Fatalf("statetest: dump %q: %v", prefix, err)
	}
	kvs := make([]KV, 0, len(answer.Kvs))
	for _, kv := range answer.Kvs {
		kvs = append(kvs, kvOf(kv))
	}
	return kvs
}

// Revision returns etcd's revision.
func (a *Access) Revision(tb testing.TB) int64 {
	tb.Helper()
	client, done := a.briefClient(tb)
	defer done()
	return revision(tb, client)
}

func revision(tb testing.TB, client *clientv3.Client) int64 {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	answer, err := client.Get(ctx, "revision", clientv3.WithCountOnly())
	if err != nil {
		tb.Fatalf("statetest: read the revision: %v", err)
	}
	return answer.Header.Revision
}

// History returns every change below prefix from revision from on, up to when
// it was called, in etcd's own order. It fails where that is compacted.
func (a *Access) History(tb testing.TB, prefix string, from int64) []Event {
	tb.Helper()
	client, done := a.briefClient(tb)
	defer done()
	until := revision(tb, client)
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(context.Background()), requestTimeout)
	defer cancel()
	if from < 1 {
		from = 1 // 0 would mean "from now on"
	}
	watch := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithRev(from))

	// The end is known by a progress notification. etcd leaves out those that
	// are asked for before the watch has caught up, so it is asked again.
	ask := time.NewTicker(10 * time.Millisecond)
	defer ask.Stop()
	var events []Event
	for {
		select {
		case answer, ok := <-watch:
			if err := answer.Err(); err != nil || !ok {
				tb.Fatalf("statetest: history of %q from %d: %v", prefix, from, err)
			}
			for _, ev := range answer.Events {
				if ev.Kv.ModRevision <= until {
					events = append(events, eventOf(ev))
				}
			}
			if answer.IsProgressNotify() && answer.Header.Revision >= until {
				return events
			}
		case <-ask.C:
			if err := client.RequestProgress(ctx); err != nil {
				tb.Fatalf("statetest: history of %q from %d: %v", prefix, from, err)
			}
		}
	}
}

func eventOf(ev *clientv3.Event) Event {
	out := Event{Deleted: ev.Type == clientv3.EventTypeDelete, KV: kvOf(ev.Kv)}
	if ev.PrevKv != nil {
		previous := kvOf(ev.PrevKv)
		out.Previous = &previous
	}
	return out
}

func kvOf(kv *mvccpb.KeyValue) KV {
	return KV{
		Key: string(kv.Key), Value: string(kv.Value),
		CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version, Lease: kv.Lease,
	}
}
