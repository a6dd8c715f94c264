package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// below moves a role made for one prefix to another.
func moved(list []Permission, from, to string) []Permission {
	out := make([]Permission, len(list))
	for i, p := range list {
		p.Key = strings.Replace(p.Key, from, to, 1)
		p.RangeEnd = strings.Replace(p.RangeEnd, from, to, 1)
		out[i] = p
	}
	return out
}

// An operator does all that no cluster's role allows under the operator's role,
// and not with any less.
func TestOperatorRole(t *testing.T) {
	t.Parallel()
	w := newRoleWorld(t)
	list, err := OperatorPermissions("/full/")
	mustBe(t, err, nil)
	w.user("full", list)
	if err := operatorDay(t, w, "full", "/full/"); err != nil {
		t.Fatal(err)
	}
	n := 0
	for what, less := range weaker(list) {
		n++
		user, prefix := fmt.Sprintf("less-%d", n), fmt.Sprintf("/less-%d/", n)
		w.user(user, moved(less, "/full/", prefix))
		err := operatorDay(t, w, user, prefix)
		if !errors.Is(err, ErrBeyondRole) {
			t.Errorf("%s: %v; want that something is beyond the role", what, err)
		}
		t.Logf("%s: %v", what, err)
	}
}

// operatorDay is all that an operator does about clusters a and b, beginning with
// the ledger itself.
func operatorDay(t *testing.T, w *roleWorld, user, prefix string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := Open(ctx, w.config(user, prefix)) // holdfast init
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { mustBe(t, l.Close(), nil) }()
	root := w.ledger(prefix)
	a, b := asCluster(t, root, "a"), asCluster(t, root, "b")
	attached(t, a, "v", "n1")
	attached(t, a, "w", "n1")
	attached(t, b, "lost", "n1")
	detached(t, b, func() string { attached(t, b, "left", "n1"); return "left" }(), "n1")
	lapse(t, root, "lost", Place{"b", "n1"})
	var m Migration
	migrate := func(volume string) error {
		c, err := l.Cluster(ctx, Identity{Name: "a"})
		if err != nil {
			return err
		}
		m, err = c.Migrate(ctx, MigrateRequest{Volume: volume, Source: "n1", Target: Place{"b", "n1"}})
		return err
	}
	as := func(name string, do func(*Cluster) error) error {
		c, err := l.Cluster(ctx, Identity{Name: name})
		if err != nil {
			return err
		}
		return do(c)
	}
	return steps{
		{"freeze", func() error { return l.Freeze(ctx, "op", "why") }},
		{"unfreeze", func() error {
			mustBe(t, b.FreezeRestored(ctx, Known{}, "why"), nil)
			return l.Unfreeze(ctx, "op", true)
		}},
		{"pause", func() error { return l.Pause(ctx, "b", "op", "why", time.Hour) }},
		{"resume", func() error { return l.Resume(ctx, "b", "op") }},
		{"resume --brake", func() error { _, err := l.ReleaseBrake(ctx, "b", "op", "why"); return err }},
		{"clear", func() error {
			return as("b", func(c *Cluster) error { _, err := c.ClearVolume(ctx, "left"); return err })
		}},
		{"migrate into another cluster", func() error { return migrate("v") }},
		{"commit", func() error { return as("a", func(c *Cluster) error { return c.Commit(ctx, m) }) }},
		{"migrate again", func() error { return migrate("w") }},
		{"abort", func() error { return as("a", func(c *Cluster) error { return c.Abort(ctx, m) }) }},
		{"detach", func() error {
			return as("b", func(c *Cluster) error { _, err := c.Detach(ctx, DetachRequest{Volume: "v", Node: "n1"}); return err })
		}},
		{"evict", func() error {
			for h, err := range l.Holds(ctx, HoldFilter{Cluster: "b"}) {
				if err != nil {
					return err
				}
				got, err := l.Evict(ctx, "b", []Hold{h}, "op", "why")
				if err != nil || !got[0].Ended {
					return fmt.Errorf("%+v, %w", got, err)
				}
			}
			return nil
		}},
		{"rebind", func() error { return l.Rebind(ctx, "b", "uid-2", "op", "why") }},
		{"look at everything", func() error { return everything(ctx, l) }},
	}.run()
}

// everything is what the verbs that look read of the whole ledger.
func everything(ctx context.Context, l *Ledger) error {
	return errors.Join(drain(l.Holds(ctx, HoldFilter{})), drain(l.Clusters(ctx)), drain(l.Pauses(ctx)), drain(l.Journal(ctx, "", time.Time{})),
		drain(l.Detachments(ctx, "")), drain(l.Migrations(ctx)), drain(l.Attachments(ctx, "", "")), watchAll(ctx, l, ScopeAll()))
}

// What is named after another cluster is out of a cluster's reach, and so is what
// is an operator's: each by the client itself, and by the ledger with a clear error.
func TestClusterRole_OutOfReach(t *testing.T) {
	t.Parallel()
	w := newRoleWorld(t)
	const prefix = "/holdfast/"
	root := w.ledger(prefix)
	for _, name := range []string{"a", "a-b", "a0", "b"} {
		c := asCluster(t, root, name)
		attached(t, c, "of-"+name, "n1")
		mustBe(t, root.Pause(t.Context(), name, "op", "why", 0), nil)
		ld := lead(t, c)
		departed(t, ld, "n2")
		mustBe(t, second(ld.PutWitness(t.Context(), Witness{}, "store", "nonce")), nil)
		_, err := ld.Depart(t.Context(), Departure{Node: "n3", Reason: NodeGone}, time.Hour)
		mustBe(t, err, nil)
	}
	mustBe(t, root.Freeze(t.Context(), "op", "why"), nil)
	mustBe(t, root.Unfreeze(t.Context(), "op", false), nil)
	for _, name := range []string{"a-b", "a0", "b"} {
		mustBe(t, asCluster(t, root, name).FreezeRestored(t.Context(), Known{}, "why"), nil)
	}
	list, err := ClusterPermissions(prefix, "a")
	mustBe(t, err, nil)
	w.user("a", list)
	client, err := clientv3.New(clientv3.Config{Endpoints: w.etcd.Endpoints(), Username: "a", Password: "a", Logger: zap.NewNop()})
	mustBe(t, err, nil)
	defer client.Close()

	refused := map[kind]int{}
	k := newKeys(prefix)
	for _, kv := range w.etcd.Dump(t, prefix) {
		parsed, ok := k.parse(kv.Key)
		if !ok {
			t.Fatalf("%s is not ours", kv.Key)
		}
		switch parsed.kind {
		case kindHold, kindDetachment, kindMigration, kindLedger:
			continue
		case kindFreeze: // which everybody reads
			_, err := client.Delete(t.Context(), kv.Key)
			if _, err = classify(err); !errors.Is(err, ErrBeyondRole) {
				t.Errorf("deleting %s: %v", kv.Key, err)
			}
			refused[parsed.kind]++
			continue
		}
		if parsed.cluster == "a" {
			continue
		}
		refused[parsed.kind]++
		outOfReach(t, client, kv)
	}
	for _, kd := range []kind{kindCluster, kindPause, kindAttachment, kindDeparture, kindQuarantine, kindElection, kindJournal, kindFreeze, kindWitness} {
		if refused[kd] < 3 {
			t.Errorf("%d records of %s were tried, want one of each other cluster", refused[kd], kd)
		}
	}
	for _, beyond := range [][2]string{
		{k.root, rangeEnd(k.root)}, {k.root + "attachments/a", k.root + "attachments/b"}, {k.root + "attachments/", k.root + "attachments0"},
		{k.root + "elections/a/", k.root + "elections/a1"}, {k.root + "journal/a", ""}, {k.root, "\x00"},
	} {
		_, err := client.Get(t.Context(), beyond[0], clientv3.WithRange(beyond[1]))
		if _, err = classify(err); !errors.Is(err, ErrBeyondRole) {
			t.Errorf("a range from %s to %q: %v", beyond[0], beyond[1], err)
		}
	}
	if _, err := client.Put(t.Context(), k.ledger(), "{}"); err == nil {
		t.Error("a cluster's role writes the ledger's record")
	}
	operatorsOnly(t, w.config("a", prefix))
}

// outOfReach expects that a record can neither be read, watched, written nor
// deleted, nor its lease be touched.
func outOfReach(t *testing.T, client *clientv3.Client, kv statetest.KV) {
	t.Helper()
	ctx := t.Context()
	tries := map[string]func() error{
		"get":    func() error { _, err := client.Get(ctx, kv.Key); return err },
		"put":    func() error { _, err := client.Put(ctx, kv.Key, "{}"); return err },
		"delete": func() error { _, err := client.Delete(ctx, kv.Key); return err },
		"watch": func() error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			resp := <-client.Watch(ctx, kv.Key, clientv3.WithCreatedNotify())
			if err := resp.Err(); err == nil || !strings.Contains(err.Error(), "permission denied") {
				return err
			}
			return rpctypes.ErrPermissionDenied // which a watch only says in words
		},
		"compare": func() error {
			_, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(kv.Key), ">", 0)).Commit()
			return err
		},
	}
	if id := clientv3.LeaseID(kv.Lease); id != 0 {
		tries["revoke its lease"] = func() error { _, err := client.Revoke(ctx, id); return err }
		tries["keep its lease alive"] = func() error { _, err := client.KeepAliveOnce(ctx, id); return err }
		tries["put under its lease"] = func() error {
			_, err := client.Put(ctx, newKeys("/holdfast/").hold("x", Exclusive, "a", "n1"), "{}", clientv3.WithLease(id))
			return err
		}
	}
	for what, try := range tries {
		err := try()
		if _, err = classify(err); err == nil || !errors.Is(err, ErrBeyondRole) {
			t.Errorf("%s %s: %v, want it beyond the role", what, kv.Key, err)
		}
	}
}

// operatorsOnly expects a clear error of what only an operator may do.
func operatorsOnly(t *testing.T, cfg Config) {
	t.Helper()
	ctx := t.Context()
	l, err := Open(ctx, cfg)
	mustBe(t, err, nil)
	defer func() { mustBe(t, l.Close(), nil) }()
	a, err := l.Cluster(ctx, Identity{Name: "a"})
	mustBe(t, err, nil)
	elsewhere := Config{}
	for name, do := range map[string]func() error{
		"freeze": func() error { return l.Freeze(ctx, "op", "why") },
		"pause":  func() error { return l.Pause(ctx, "b", "op", "why", 0) },
		"resume": func() error { return l.Resume(ctx, "b", "op") },
		"brake":  func() error { _, err := l.ReleaseBrake(ctx, "b", "op", "why"); return err },
		"rebind": func() error { return l.Rebind(ctx, "b", "uid-2", "op", "why") },
		"evict": func() error {
			_, err := l.Evict(ctx, "b", []Hold{{Volume: "of-b", Cluster: "b", Node: "n1", Mode: Exclusive, Revision: 1}}, "op", "why")
			return err
		},
		"migrate": func() error {
			_, err := a.Migrate(ctx, MigrateRequest{Volume: "of-a", Source: "n1", Target: Place{"b", "n1"}})
			return err
		},
		"act as another":   func() error { _, err := l.Cluster(ctx, Identity{Name: "b"}); return err },
		"list the others":  func() error { return drain(l.Clusters(ctx)) },
		"the whole ledger": func() error { return watchAll(ctx, l, ScopeAll()) },
		"every journal":    func() error { return drain(l.Journal(ctx, "", time.Time{})) },
		"another prefix": func() error {
			elsewhere = cfg
			elsewhere.Prefix = "/elsewhere/"
			other, err := Open(ctx, elsewhere)
			if err == nil {
				_ = other.Close()
			}
			return err
		},
	} {
		if err := do(); !errors.Is(err, ErrBeyondRole) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line that it is beyond the role", name, err)
		}
	}
}

// A process of several clusters has the roles of all of them, also where records
// of two clusters share a lease.
func TestClusterRole_OfSeveral(t *testing.T) {
	t.Parallel()
	w := newRoleWorld(t)
	w.ledger("") // made by root
	for _, name := range []string{"a", "b"} {
		list, err := ClusterPermissions("", name)
		mustBe(t, err, nil)
		w.user(name, list)
	}
	_, err := w.root.UserAdd(t.Context(), "hub", "hub")
	mustBe(t, err, nil)
	for _, role := range []string{"a", "b"} {
		_, err := w.root.UserGrantRole(t.Context(), "hub", role)
		mustBe(t, err, nil)
	}
	l, err := Open(t.Context(), w.config("hub", ""))
	mustBe(t, err, nil)
	defer func() { mustBe(t, l.Close(), nil) }()
	for _, name := range []string{"a", "b"} {
		c := asCluster(t, l, name)
		attached(t, c, "of-"+name, "n1")
		detached(t, c, "of-"+name, "n1")
		lead(t, c)
	}
	for !sharesLease(t, w, l) {
		for _, name := range []string{"a", "b"} {
			_, err := l.ReleaseBrake(t.Context(), name, "op", "why")
			mustBe(t, err, nil)
		}
	}
	v, err := l.Volume(t.Context(), attached(t, asCluster(t, l, "a"), "known", "n1").Volume)
	mustBe(t, err, nil)
	if v.Holds[0].StandingUnknown {
		t.Error("the hub does not know whether a hold of one of its clusters has lapsed")
	}
}

// sharesLease says whether journal entries of a and b lie under one lease, as they
// do where they are put soon after one another.
func sharesLease(t *testing.T, w *roleWorld, l *Ledger) bool {
	t.Helper()
	clusters := map[int64]map[string]bool{}
	begin, _ := l.keys.under(kindJournal)
	for _, kv := range w.etcd.Dump(t, begin) {
		k, _ := l.keys.parse(kv.Key)
		if clusters[kv.Lease] == nil {
			clusters[kv.Lease] = map[string]bool{}
		}
		clusters[kv.Lease][k.cluster] = true
		if len(clusters[kv.Lease]) == 2 {
			return true
		}
	}
	return false
}

// Without a ledger a cluster's role cannot make one, and says who does.
func TestClusterRole_NoLedger(t *testing.T) {
	t.Parallel()
	w := newRoleWorld(t)
	list, err := ClusterPermissions("", "a")
	mustBe(t, err, nil)
	w.user("east", list)
	_, err = Open(t.Context(), w.config("east", ""))
	if !errors.Is(err, ErrNoLedger) || !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `etcd user "east"`) || !strings.Contains(err.Error(), "holdfast init") {
		t.Errorf("no ledger: %v", err)
	}
	w.ledger("")
	l, err := Open(t.Context(), w.config("east", ""))
	mustBe(t, err, nil)
	mustBe(t, l.Close(), nil)
}

// Who may only look sees everything and changes nothing.
func TestReaderRole(t *testing.T) {
	t.Parallel()
	w := newRoleWorld(t)
	root := w.ledger("")
	a := asCluster(t, root, "a")
	attached(t, a, "lost", "n1")
	lapse(t, root, "lost", Place{"a", "n1"})
	attached(t, a, "v", "n1")
	list, err := ReaderPermissions("")
	mustBe(t, err, nil)
	w.user("reader", list)
	cfg := w.config("reader", "")
	cfg.ReadOnly = true
	l, err := Open(t.Context(), cfg)
	mustBe(t, err, nil)
	defer func() { mustBe(t, l.Close(), nil) }()
	mustBe(t, everything(t.Context(), l), nil)
	mustHold(t, l, "lost", StateLapsed, Place{"a", "n1"})

	cfg.ReadOnly = false
	writing, err := Open(t.Context(), cfg)
	mustBe(t, err, nil)
	defer func() { mustBe(t, writing.Close(), nil) }()
	c, err := writing.Cluster(t.Context(), Identity{Name: "a"})
	mustBe(t, err, nil)
	_, err = c.Detach(t.Context(), DetachRequest{Volume: "v", Node: "n1"})
	mustBe(t, err, ErrBeyondRole)
	mustBe(t, writing.Freeze(t.Context(), "op", "why"), ErrBeyondRole)
	mustHold(t, l, "v", StateAttached, Place{"a", "n1"})
}
