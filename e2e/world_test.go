package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// world is a ledger on an etcd of its own, that clusters share.
type world struct {
	t      *testing.T
	etcd   *statetest.Process
	ledger *state.Ledger // the test's own way in, past every controller
}

// short is the waits of the tests: etcd's shortest lease is 2 s.
const short = 2 * time.Second

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, etcd: statetest.StartProcess(t, etcdBin)}
	ledger, err := state.Open(t.Context(), state.Config{
		Endpoints: w.etcd.Endpoints(), GracePeriod: short, ElectionTTL: short, Quarantine: short,
		By: "e2e", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	w.ledger = ledger
	return w
}

// volume reads one from etcd.
func (w *world) volume(name string) *state.Volume {
	w.t.Helper()
	v, err := w.ledger.Volume(context.Background(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// heldBy is nil if exactly these hold the volume, as "cluster/node".
func (w *world) heldBy(volume string, holders ...string) error {
	var got []string
	for _, h := range w.volume(volume).Holds {
		got = append(got, h.Cluster+"/"+h.Node)
	}
	slices.Sort(got)
	slices.Sort(holders)
	if !slices.Equal(got, holders) {
		return fmt.Errorf("%s is held by %v, expected %v", volume, got, holders)
	}
	return nil
}

// mustBeHeldBy is heldBy now.
func (w *world) mustBeHeldBy(volume string, holders ...string) {
	w.t.Helper()
	if err := w.heldBy(volume, holders...); err != nil {
		w.t.Fatal(err)
	}
}

// journal is what etcd has on record of a cluster, oldest first: of these actions, or all.
func (w *world) journal(cluster string, actions ...state.Action) []state.Entry {
	w.t.Helper()
	var entries []state.Entry
	for e, err := range w.ledger.Journal(context.Background(), cluster, time.Time{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if len(actions) == 0 || slices.Contains(actions, e.Action) {
			entries = append(entries, e)
		}
	}
	return entries
}

// removed is the one removal of a volume in the journal.
func (w *world) removed(cluster, volume string) state.Entry {
	w.t.Helper()
	var found []state.Entry
	for _, e := range w.journal(cluster, state.ActionRemoved) {
		if e.Volume == volume {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		w.t.Fatalf("%d removals of %s in the journal of %s, expected one", len(found), volume, cluster)
	}
	return found[0]
}

// keys lists what lies in etcd below a part of the ledger, without the prefix.
func (w *world) keys(part string) []string {
	w.t.Helper()
	var keys []string
	for _, kv := range w.etcd.Dump(w.t, ledgerRoot+part) {
		keys = append(keys, strings.TrimPrefix(kv.Key, ledgerRoot))
	}
	return keys
}

const ledgerRoot = state.DefaultPrefix + "v1/"
