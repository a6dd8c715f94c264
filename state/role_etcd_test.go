package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// roleWorld is an etcd with authentication on, and users with one role each.
type roleWorld struct {
	t    *testing.T
	etcd *statetest.Etcd
	root *clientv3.Client
}

func newRoleWorld(t *testing.T) *roleWorld {
	t.Helper()
	w := &roleWorld{t: t, etcd: statetest.Start(t)}
	w.etcd.EnableAuth(t)
	w.root = w.etcd.Client(t)
	return w
}

// user makes one whose password is its name.
func (w *roleWorld) user(name string, list []Permission) {
	w.t.Helper()
	_, err := w.root.RoleAdd(w.t.Context(), name)
	mustBe(w.t, err, nil)
	for _, p := range list {
		kind, err := clientv3.StrToPermissionType(string(p.Access))
		mustBe(w.t, err, nil)
		_, err = w.root.RoleGrantPermission(w.t.Context(), name, p.Key, p.RangeEnd, kind)
		mustBe(w.t, err, nil)
	}
	_, err = w.root.UserAdd(w.t.Context(), name, name)
	mustBe(w.t, err, nil)
	_, err = w.root.UserGrantRole(w.t.Context(), name, name)
	mustBe(w.t, err, nil)
}

func (w *roleWorld) config(user, prefix string) Config {
	cfg := Config{
		Endpoints: w.etcd.Endpoints(), Prefix: prefix, Username: user, Password: user, By: user, GracePeriod: floorGrace, ElectionTTL: floorGrace,
		DialTimeout: 30 * time.Second, Logger: slog.New(slog.DiscardHandler),
	}
	if user == statetest.RootUser {
		cfg.Password = statetest.RootPassword
	}
	return cfg
}

// ledger is root's way in.
func (w *roleWorld) ledger(prefix string) *Ledger {
	w.t.Helper()
	l, err := Open(w.t.Context(), w.config(statetest.RootUser, prefix))
	mustBe(w.t, err, nil)
	w.t.Cleanup(func() { mustBe(w.t, l.Close(), nil) })
	return l
}

// weaker are all roles that have a little less than list: a permission is gone
// or, where it was to read and to write, only one of the two is left.
func weaker(list []Permission) map[string][]Permission {
	out := map[string][]Permission{}
	for i, p := range list {
		if p.Access != ReadWrite {
			out["without "+p.Key] = slices.Delete(slices.Clone(list), i, i+1)
			continue
		}
		for _, a := range []Access{Read, Write} {
			less := slices.Clone(list)
			less[i].Access = a
			out["only "+string(a)+" "+p.Key] = less
		}
	}
	return out
}

// A cluster's processes and verbs do all that they can under the cluster's role,
// and not with any less.
func TestClusterRole(t *testing.T) {
	t.Parallel()
	w := newRoleWorld(t)
	list, err := ClusterPermissions("/full/", "a")
	mustBe(t, err, nil)
	w.user("full", list)
	if err := clusterDay(t, w, "full", "/full/"); err != nil {
		t.Fatal(err)
	}
	full, err := Open(t.Context(), w.config("full", "/full/"))
	mustBe(t, err, nil)
	defer func() { mustBe(t, full.Close(), nil) }()
	before := w.etcd.Dump(t, "/full/")
	mustBe(t, asCluster(t, full, "a").CheckRole(t.Context()), nil)
	if after := w.etcd.Dump(t, "/full/"); !slices.EqualFunc(before, after, func(a, b statetest.KV) bool { return a.Key == b.Key && a.Value == b.Value }) {
		t.Errorf("a check of the role has left %d keys of %d", len(after), len(before))
	}
	n := 0
	for what, less := range weaker(list) {
		n++
		user, prefix := fmt.Sprintf("less-%d", n), fmt.Sprintf("/less-%d/", n)
		w.user(user, moved(less, "/full/", prefix))
		err := clusterDay(t, w, user, prefix)
		if !errors.Is(err, ErrBeyondRole) {
			t.Errorf("%s: %v; want that something is beyond the role", what, err)
		}
		t.Logf("%s: %v", what, err)
		checkRole(t, w, user, prefix, what)
	}
}

// checkRole: what a role lacks is found before anything needs it, and by its name.
func checkRole(t *testing.T, w *roleWorld, user, prefix, what string) {
	t.Helper()
	cfg := w.config(user, prefix)
	l, err := Open(t.Context(), cfg)
	if errors.Is(err, ErrBeyondRole) {
		return // the ledger's own record, which nothing goes on without
	}
	mustBe(t, err, nil)
	defer func() { mustBe(t, l.Close(), nil) }()
	_, key, _ := strings.Cut(what, "/full/")
	a := &Cluster{ledger: l, name: "a"} // it may be its record that cannot be read
	err = a.CheckRole(t.Context())
	if !errors.Is(err, ErrBeyondRole) || !strings.Contains(err.Error(), prefix+key) || strings.Count(err.Error(), "may not") != 1 {
		t.Errorf("%s: the role is found to lack %v", what, err)
	}
}

// clusterDay is all that the processes and verbs of cluster a do, as a user. It
// ends at the first that fails.
func clusterDay(t *testing.T, w *roleWorld, user, prefix string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	root := w.ledger(prefix)
	b := asCluster(t, root, "b")
	attached(t, b, "of-b", "node-1")
	attached(t, b, "left-by-b", "node-1")
	detached(t, b, "left-by-b", "node-1")

	l, err := Open(ctx, w.config(user, prefix))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { mustBe(t, l.Close(), nil) }()
	if warnings := l.Warnings(); len(warnings) > 0 {
		return fmt.Errorf("warnings: %q", warnings)
	}
	a, err := l.Cluster(ctx, Identity{Name: "a", UID: "uid-of-a"})
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	for _, part := range []func() error{
		func() error { return volumeVerbs(ctx, a) },
		func() error { return clusterVerbs(ctx, a) },
		func() error { return controllers(ctx, w, a) },
		func() error { return looks(ctx, a) },
		func() error { return a.FreezeRestored(ctx, Known{}, "why") },
	} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

// steps runs them in turn, up to the first that fails.
type steps []struct {
	name string
	do   func() error
}

func (s steps) run() error {
	for _, step := range s {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// wants turns an error that is wanted into none.
func wants(err, want error) error {
	if errors.Is(err, want) && !errors.Is(err, ErrBeyondRole) {
		return nil
	}
	return fmt.Errorf("%w: want %w", err, want)
}

func volumeVerbs(ctx context.Context, a *Cluster) error {
	attach := func(req AttachRequest) error { _, err := a.Attach(ctx, req); return err }
	var m Migration
	return steps{
		{"attach", func() error { return attach(AttachRequest{Volume: "v", Node: "n1"}) }},
		{"attach again", func() error { return attach(AttachRequest{Volume: "v", Node: "n1"}) }},
		{"attach shared", func() error { return attach(AttachRequest{Volume: "s", Node: "n1", Mode: Shared}) }},
		{"attach what another cluster holds", func() error { return wants(attach(AttachRequest{Volume: "of-b", Node: "n1"}), ErrConflict) }},
		{"attach in another cluster's grace", func() error { return wants(attach(AttachRequest{Volume: "left-by-b", Node: "n1"}), ErrInGrace) }},
		{"attach all the same", func() error {
			return attach(AttachRequest{Volume: "left-by-b", Node: "n1", IgnoreGrace: true, Why: "why"})
		}},
		{"migrate", func() (err error) {
			m, err = a.Migrate(ctx, MigrateRequest{Volume: "v", Source: "n1", Target: Place{Node: "n2"}})
			return err
		}},
		{"commit", func() error { return a.Commit(ctx, m) }},
		{"migrate back", func() (err error) {
			m, err = a.Migrate(ctx, MigrateRequest{Volume: "v", Source: "n2", Target: Place{Node: "n3"}})
			return err
		}},
		{"abort", func() error { return a.Abort(ctx, m) }},
		{"detach", func() error { _, err := a.Detach(ctx, DetachRequest{Volume: "v", Node: "n2"}); return err }},
		{"clear", func() error { _, err := a.ClearVolume(ctx, "v"); return err }},
		{"detach a volume from all", func() error { _, err := a.DetachAll(ctx, DetachAllRequest{Volume: "s"}); return err }},
		{"detach a volume that others hold too", func() error { _, err := a.DetachAll(ctx, DetachAllRequest{Volume: "of-b"}); return err }},
		{"detach all of a node", func() error { _, err := a.DetachAll(ctx, DetachAllRequest{Node: "n1"}); return err }},
	}.run()
}

func clusterVerbs(ctx context.Context, a *Cluster) error {
	l := a.Ledger()
	return steps{
		{"pause", func() error { return l.Pause(ctx, "a", "op", "why", time.Hour) }},
		{"resume", func() error { return l.Resume(ctx, "a", "op") }},
		{"resume --brake", func() error { _, err := l.ReleaseBrake(ctx, "a", "op", "why"); return err }},
	}.run()
}

// controllers is what reconciler, keeper and a second replica do.
func controllers(ctx context.Context, w *roleWorld, a *Cluster) error {
	l := a.Ledger()
	var ld *Leadership
	var d Departure
	defer func() {
		if ld != nil {
			ld.Resign()
		}
	}()
	return steps{
		{"campaign", func() (err error) { ld, err = a.Campaign(ctx, "one"); return err }},
		{"attach", func() error { _, err := a.Attach(ctx, AttachRequest{Volume: "o", Node: "gone"}); return err }},
		{"depart", func() (err error) {
			d, err = ld.Depart(ctx, Departure{Node: "gone", Reason: NodeGone}, floorGrace)
			return err
		}},
		{"return", func() error { return a.Return(ctx, d) }},
		{"depart without a quarantine", func() (err error) {
			d, err = ld.Depart(ctx, Departure{Node: "gone", Reason: NodeGone}, 0)
			return err
		}},
		{"witness", func() error {
			s, err := a.Sight(ctx)
			if err != nil {
				return err
			}
			return second(ld.PutWitness(ctx, s.Witness, "store", "nonce"))
		}},
		{"remove", func() error {
			for at, err := range l.Attachments(ctx, "a", "gone") {
				if err != nil {
					return err
				}
				got, err := ld.Remove(ctx, []Orphan{{Attachment: at, Departure: d}})
				if err != nil || !got[0].Ended {
					return fmt.Errorf("%+v, %w", got, err)
				}
			}
			return nil
		}},
		{"hand the lead over", func() error {
			won := make(chan error, 1)
			var next *Leadership
			go func() { var err error; next, err = a.Campaign(ctx, "two"); won <- err }()
			err := candidates(ctx, w, l, 2)
			ld.Resign()
			if err = errors.Join(err, <-won); err == nil {
				ld = next
			}
			return err
		}},
		{"rearm", func() error { return lapseAndRearm(ctx, w, a) }},
		{"keep alive and gather", func() error {
			var list []Attachment
			for at, err := range l.Attachments(ctx, "a", "") {
				if err != nil {
					return err
				}
				list = append(list, at)
				if _, err := a.KeepAlive(ctx, at.Lease); err != nil {
					return err
				}
			}
			n, err := a.Gather(ctx, list)
			if err == nil && (n == 0 || n != len(list)) {
				err = fmt.Errorf("%d of %d gathered", n, len(list))
			}
			return err
		}},
	}.run()
}

// candidates waits for so many in the election.
func candidates(ctx context.Context, w *roleWorld, l *Ledger, n int64) error {
	begin, end := l.keys.under(kindElection, "a")
	for {
		resp, err := w.root.Get(ctx, begin, clientv3.WithRange(end), clientv3.WithCountOnly())
		if err != nil || resp.Count == n {
			return err
		}
	}
}

func lapseAndRearm(ctx context.Context, w *roleWorld, a *Cluster) error {
	if _, err := a.Attach(ctx, AttachRequest{Volume: "lapses", Node: "n1"}); err != nil {
		return err
	}
	for at, err := range a.Ledger().Attachments(ctx, "a", "n1") {
		if err == nil {
			_, err = w.root.Revoke(ctx, clientv3.LeaseID(at.Lease))
		}
		if err != nil {
			return err
		}
	}
	for h, err := range a.Ledger().HoldKeys(ctx, "a") {
		if err != nil {
			return err
		}
		if err := a.Rearm(ctx, h); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// looks is what watcher, keeper and the verbs that look read of cluster a.
func looks(ctx context.Context, a *Cluster) error {
	l := a.Ledger()
	return steps{
		{"watch", func() error {
			return watchAll(ctx, l, ScopeAttachments("a"), ScopeDepartures("a"), ScopeQuarantines("a"), ScopePause("a"), ScopeLedger(),
				ScopeCluster("a"), ScopeJournal("a", time.Now().Add(-time.Minute)), ScopeDetachments("v"), ScopeDetachments(""),
				ScopeHolds("v"), ScopeHolds(""), ScopeMigrations(), ScopeFreezes())
		}},
		{"check the identity", func() error { return a.CheckIdentity(ctx) }},
		{"read a volume of another cluster", func() error {
			v, err := l.Volume(ctx, "of-b")
			if err == nil && (v.State != StateAttached || len(v.Holds) != 1 || !v.Holds[0].StandingUnknown || v.Holds[0].Lapsed) {
				err = fmt.Errorf("%+v: want it attached, and that nobody knows whether it has lapsed", v)
			}
			return err
		}},
		{"list every hold", func() error {
			seen := map[string]bool{} // by cluster: whether it can be told what has lapsed
			for h, err := range l.Holds(ctx, HoldFilter{}) {
				if err != nil {
					return err
				}
				seen[h.Cluster] = !h.StandingUnknown
			}
			if !seen["a"] || seen["b"] {
				return fmt.Errorf("what can be told by cluster: %v", seen)
			}
			return nil
		}},
		{"list the migrations", func() error { return drain(l.Migrations(ctx)) }},
		{"list the departures", func() error { return drain(l.Departures(ctx, "a")) }},
		{"list the quarantines", func() error { return drain(l.Quarantines(ctx, "a")) }},
		{"list the journal", func() error { return drain(l.Journal(ctx, "a", time.Time{})) }},
	}.run()
}

func drain[T any](list func(func(T, error) bool)) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// watchAll watches until each list is complete and the watch after it shows that
// it lives.
func watchAll(ctx context.Context, l *Ledger, scopes ...Scope) error {
	enough := errors.New("seen enough")
	ended := make(chan error, len(scopes))
	for _, s := range scopes {
		go func() {
			synced := false
			err := l.Watch(ctx, s, func(b Batch) error {
				if synced {
					return enough
				}
				synced = b.Synced
				return nil
			})
			if errors.Is(err, enough) {
				err = nil
			}
			ended <- err
		}()
	}
	var errs []error
	for range scopes {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}
