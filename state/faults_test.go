package state

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// A full etcd: every call fails with ErrNoSpace, nothing moves, leases are kept
// alive, and all goes on once the alarm is cleared.
func TestNoSpace(t *testing.T) {
	etcd := statetest.Start(t)
	l := openAt(t, etcd.Endpoints(), "/holdfast/")
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	attached(t, c, "pvc-2", "node-1")
	detached(t, c, "pvc-2", "node-1")
	ld := lead(t, c)
	judged := orphan(t, l, "pvc-1", departed(t, ld, "node-1"))
	before := etcd.Dump(t, "/holdfast/")
	id := read(t, l, "pvc-1").Attachments[0].Lease

	etcd.AlarmNoSpace(t)
	calls := map[string]func() error{
		"attach": func() error {
			_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-3", Node: "node-1"})
			return err
		},
		"detach": func() error {
			_, err := c.Detach(t.Context(), DetachRequest{Volume: "pvc-1", Node: "node-1"})
			return err
		},
		"migrate": func() error {
			_, err := c.Migrate(t.Context(), MigrateRequest{Volume: "pvc-1", Source: "node-1", Target: Place{Node: "node-2"}})
			return err
		},
		"remove": func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := ld.Remove(ctx, []Orphan{judged})
			return err
		},
		"freeze": func() error { return l.Freeze(t.Context(), "op", "why") },
		"pause":  func() error { return l.Pause(t.Context(), "a", "op", "why", 0) },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ErrNoSpace) {
			t.Errorf("%s without space: %v", name, err)
		}
	}
	if after := etcd.Dump(t, "/holdfast/"); len(after) != len(before) {
		t.Errorf("%d keys before, %d after", len(before), len(after))
	}
	if _, err := c.KeepAlive(t.Context(), id); err != nil {
		t.Errorf("keeping alive: %v", err)
	}
	second := openAt(t, etcd.Endpoints(), "/holdfast/")
	if len(second.Warnings()) == 0 {
		t.Error("a full etcd is opened without a warning")
	}
	mustHold(t, second, "pvc-1", StateAttached, Place{"a", "node-1"})

	etcd.DisarmNoSpace(t)
	if got := remove(t, ld, judged); !got.Ended {
		t.Errorf("the removal after it: %+v", got)
	}
	attached(t, c, "pvc-3", "node-1")
}

// etcd restarts: calls under way end by themselves, and nothing is lost.
func TestEtcdRestarts(t *testing.T) {
	etcd := statetest.Start(t)
	l := openAt(t, etcd.Endpoints(), "/holdfast/")
	c := asCluster(t, l, "a")
	h := attached(t, c, "pvc-1", "node-1")
	etcd.Stop(t)
	told := make(chan error, 1)
	go func() {
		_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-2", Node: "node-1"})
		told <- err
	}()
	etcd.Restart(t)
	mustBe(t, <-told, nil)
	if v := read(t, l, "pvc-1"); v.Holds[0].Token != h.Token || v.State != StateAttached {
		t.Errorf("after a restart: %+v", v)
	}
	mustHold(t, l, "pvc-2", StateAttached, Place{"a", "node-1"})
}

// The answers of another etcd, or of an older state of this one, stop the writes.
func TestRestoredEtcdIsNoticed(t *testing.T) {
	for name, header := range map[string]*pb.ResponseHeader{
		"another etcd":   {ClusterId: 17, Revision: 1 << 40},
		"older revision": {Revision: 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := openLedger(t)
			c := asCluster(t, l, "a")
			attached(t, c, "pvc-1", "node-1")
			if header.ClusterId == 0 {
				header.ClusterId = l.etcdID.Load()
			}
			mustBe(t, l.observe(header, l.seen.Load()), ErrRestored)
			_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-2", Node: "node-1"})
			mustBe(t, err, ErrRestored)
			_, err = c.Detach(t.Context(), DetachRequest{Volume: "pvc-1", Node: "node-1"})
			mustBe(t, err, ErrRestored)
			_, err = c.KeepAlive(t.Context(), 1)
			mustBe(t, err, ErrRestored)
			mustHold(t, openAt(t, l.cfg.Endpoints, l.cfg.Prefix), "pvc-1", StateAttached, Place{"a", "node-1"})
		})
	}
}

// The same address, another etcd: the header of its first answer gives it away.
func TestAnotherEtcdUnderTheSameAddress(t *testing.T) {
	first, second := statetest.Start(t), statetest.Start(t)
	proxy := first.Proxy(t)
	l := openAt(t, proxy.Endpoints(), "/holdfast/")
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	l.client.SetEndpoints(second.Endpoints()...)
	proxy.Cut()
	_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-2", Node: "node-1"})
	mustBe(t, err, ErrRestored)
	mustBe(t, l.Close(), nil) // by then it has said what it noticed, and nothing else
	kvs := slices.DeleteFunc(second.Dump(t, "/holdfast/"), func(kv statetest.KV) bool {
		return kv.Key == l.keys.freeze("a") || strings.HasPrefix(kv.Key, l.keys.journal("a", ""))
	})
	if len(kvs) != 0 {
		t.Errorf("the other etcd was written to: %+v", kvs)
	}
}

func TestOpen_BadInput(t *testing.T) {
	endpoints := statetest.Shared(t).Endpoints()
	for name, tc := range map[string]struct {
		cfg  Config
		want error
		says string
	}{
		"no endpoint":      {Config{}, ErrInvalid, "endpoints"},
		"empty endpoint":   {Config{Endpoints: []string{""}}, ErrInvalid, "endpoints"},
		"unknown endpoint": {Config{Endpoints: []string{"http://127.0.0.1:1"}, DialTimeout: time.Second}, ErrUnavailable, "connection refused"},
		"one member down":  {Config{Endpoints: append([]string{"http://127.0.0.1:1"}, endpoints...)}, nil, ""},
		"no such CA":       {Config{Endpoints: []string{"https://127.0.0.1:1"}, CACertFile: "/no/such.pem"}, ErrInvalid, "/no/such.pem"},
		"no such scheme":   {Config{Endpoints: []string{"banana://x:1"}}, ErrInvalid, "banana://x:1"},
		"no address":       {Config{Endpoints: []string{"::::"}}, ErrInvalid, "::::"},
		"no port":          {Config{Endpoints: []string{"http://127.0.0.1"}}, ErrInvalid, "http://127.0.0.1"},
		"half a pair":      {Config{Endpoints: endpoints, CertFile: "x.pem"}, ErrInvalid, "key"},
		"negative timeout": {Config{Endpoints: endpoints, RequestTimeout: -1}, ErrInvalid, "request timeout"},
		"negative wait":    {Config{Endpoints: endpoints, MigrationWindow: -1}, ErrInvalid, "migration window"},
		"endless wait":     {Config{Endpoints: endpoints, AttachmentTTL: maxLeaseTTL + time.Hour}, ErrInvalid, "attachment TTL"},
		"no user needed":   {Config{Endpoints: endpoints, Username: "u", Password: "p", DialTimeout: 2 * time.Second}, nil, ""},
		"long by":          {Config{Endpoints: endpoints, By: strings.Repeat("x", 2000)}, ErrInvalid, "by"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.Prefix, tc.cfg.Logger = statetest.Prefix(t), slog.New(slog.DiscardHandler)
			begun := time.Now()
			l, err := Open(t.Context(), tc.cfg)
			if err == nil {
				defer l.Close()
			}
			mustBe(t, err, tc.want)
			if tc.want != nil {
				if !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "\n") {
					t.Errorf("the error does not say %q on one line: %v", tc.says, err)
				}
			}
			if took := time.Since(begun); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestAuth(t *testing.T) {
	etcd := statetest.Start(t, statetest.WithAuthTokenTTL(time.Second))
	etcd.EnableAuth(t, statetest.User{Name: "app", Password: "secret", Prefix: "/holdfast/"})
	as := func(user, password string) (*Ledger, error) {
		return Open(t.Context(), Config{
			Endpoints: etcd.Endpoints(), Username: user, Password: password, DialTimeout: 3 * time.Second, Logger: slog.New(slog.DiscardHandler),
		})
	}
	for name, user := range map[string][2]string{"wrong password": {"app", "guess"}, "no user": {}, "unknown user": {"nobody", "x"}} {
		_, err := as(user[0], user[1])
		if !errors.Is(err, ErrPermission) || strings.Contains(err.Error(), "guess") {
			t.Errorf("%s: %v", name, err)
		}
	}
	l, err := as("app", "secret")
	mustBe(t, err, nil)
	defer l.Close()
	if l.Config().Password != "" {
		t.Error("the configuration gives the password away")
	}
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	// The token expires unused: the next write is refused once, for certain, and
	// is sent again with a new one. Nothing tells that a token has expired but
	// its use.
	<-time.After(5 * time.Second)
	attached(t, c, "pvc-1", "node-1")
	other := openAtAs(t, etcd.Endpoints(), "/other/", "app", "secret")
	if !errors.Is(other, ErrPermission) {
		t.Errorf("below a prefix of somebody else's: %v", other)
	}
}

// Authentication is switched on while a process that knows its user works, and
// off again: every call goes on, and so do its lead, its watch and its leases.
func TestAuth_SwitchedUnderWay(t *testing.T) {
	etcd := statetest.Start(t)
	l := openAt(t, etcd.Endpoints(), DefaultPrefix, func(c *Config) { c.Username, c.Password = "app", "secret" })
	c := asCluster(t, l, "a")
	h := attached(t, c, "pvc-1", "node-1")
	ld := lead(t, c)
	seen := make(chan string, 100)
	watching, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() {
		watched <- l.Watch(watching, ScopeHolds(""), func(b Batch) error {
			for _, e := range b.Events {
				seen <- e.Record.(Hold).Volume
			}
			return nil
		})
	}()
	defer func() { stop(); mustBe(t, <-watched, context.Canceled) }()
	until := func(volume string) {
		t.Helper()
		for v := range seen {
			if v == volume {
				return
			}
		}
	}
	until("pvc-1")

	etcd.EnableAuth(t, statetest.User{Name: "app", Password: "secret", Prefix: DefaultPrefix})
	attached(t, c, "pvc-2", "node-1")
	until("pvc-2")
	departed(t, ld, "node-1")
	a := read(t, l, h.Volume).Attachments[0]
	_, err := c.KeepAlive(t.Context(), a.Lease)
	mustBe(t, err, nil)

	client := etcd.Client(t)
	_, err = client.AuthDisable(t.Context())
	mustBe(t, err, nil)
	attached(t, c, "pvc-3", "node-2")
	until("pvc-3")
	_, err = c.KeepAlive(t.Context(), a.Lease)
	mustBe(t, err, nil)
}

func openAtAs(t *testing.T, endpoints []string, prefix, user, password string) error {
	t.Helper()
	l, err := Open(t.Context(), Config{
		Endpoints: endpoints, Prefix: prefix, Username: user, Password: password, DialTimeout: 3 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err == nil {
		_ = l.Close()
	}
	return err
}

func TestReadOnly(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	ro := again(t, l, func(c *Config) { c.ReadOnly = true })
	mustHold(t, ro, "pvc-1", StateAttached, Place{"a", "node-1"})
	rc, err := ro.Cluster(t.Context(), Identity{Name: "a"})
	mustBe(t, err, nil)
	_, err = rc.Attach(t.Context(), AttachRequest{Volume: "pvc-2", Node: "node-1"})
	mustBe(t, err, ErrReadOnly)
	_, err = ro.Cluster(t.Context(), Identity{Name: "new", UID: "u"})
	mustBe(t, err, ErrReadOnly)
	mustBe(t, ro.Freeze(t.Context(), "op", "why"), ErrReadOnly)
	_, err = Open(t.Context(), Config{Endpoints: l.cfg.Endpoints, Prefix: statetest.Prefix(t), ReadOnly: true})
	mustBe(t, err, ErrNotFound)
}

func TestDriver(t *testing.T) {
	l := openLedger(t, func(c *Config) { c.Driver = "csi.example.com" })
	again(t, l, func(c *Config) { c.Driver = "csi.example.com" })
	again(t, l)
	_, err := Open(t.Context(), Config{Endpoints: l.cfg.Endpoints, Prefix: l.cfg.Prefix, Driver: "another", Logger: slog.New(slog.DiscardHandler)})
	mustBe(t, err, ErrInvalid)
}

// Bad names are refused before anything is sent.
func TestBadNames(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	long := strings.Repeat("v", MaxVolumeBytes+1)
	for _, bad := range []struct{ volume, node string }{{"", "n"}, {long, "n"}, {"\xff", "n"}, {"v", ""}, {"v", "Not a node"}} {
		_, err := c.Attach(t.Context(), AttachRequest{Volume: bad.volume, Node: bad.node})
		mustBe(t, err, ErrInvalid)
		_, err = c.Detach(t.Context(), DetachRequest{Volume: bad.volume, Node: bad.node})
		mustBe(t, err, ErrInvalid)
		_, err = c.Migrate(t.Context(), MigrateRequest{Volume: bad.volume, Source: bad.node, Target: Place{Node: "m"}})
		mustBe(t, err, ErrInvalid)
	}
	for _, bad := range []string{"", long, "\xff"} {
		_, err := l.Volume(t.Context(), bad)
		mustBe(t, err, ErrInvalid)
	}
	_, err := c.Attach(t.Context(), AttachRequest{Volume: "v", Node: "n", Mode: "both"})
	mustBe(t, err, ErrInvalid)
}

// Readers and writers at once: nothing that is handed out is shared.
func TestConcurrentReadersAndWriters(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			attached(t, c, "pvc-1", "node-1")
			detached(t, c, "pvc-1", "node-1")
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
		}
		v := read(t, l, "pvc-1")
		for i := range v.Holds {
			v.Holds[i].Node = "mine to change"
		}
	}
}

// Closed under way: calls end, nothing hangs.
func TestClose_UnderWay(t *testing.T) {
	proxy := statetest.Shared(t).Proxy(t)
	direct := openLedger(t)
	l, err := Open(t.Context(), Config{Endpoints: proxy.Endpoints(), Prefix: direct.cfg.Prefix, Logger: slog.New(slog.DiscardHandler)})
	mustBe(t, err, nil)
	c := asCluster(t, l, "a")
	attached(t, c, "warm", "node-1")
	proxy.PauseResponses()
	told := make(chan error, 1)
	go func() {
		_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"})
		told <- err
	}()
	awaitKey(t, direct, direct.keys.hold("pvc-1", Exclusive, "a", "node-1"))
	mustBe(t, l.Close(), nil)
	mustBe(t, <-told, ErrUnknownOutcome)
	proxy.Resume()
}
