package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// replica is one of a cluster's controllers, with a way to etcd of its own.
type replica struct {
	*process
	way *statetest.Proxy
}

// Three replicas. The leader is killed, stopped for longer than its election,
// cut off from etcd, and has what it sends arrive late, each in the middle of
// removals: the others go on, and at every removal only the leader of that time
// was at work.
func TestReplicas_OneLeads(t *testing.T) {
	const perNode, perRound, rounds, removalsAtOnce = 12, 3, 4, 8
	w := newWorld(t)
	var nodes []string
	for i := range rounds*perRound + 2 {
		nodes = append(nodes, fmt.Sprintf("node-%02d", i))
	}
	c := w.cluster("east", nodes...)
	as := c.asCluster()
	for _, n := range nodes {
		for i := range perNode {
			if _, err := as.Attach(t.Context(), state.AttachRequest{Volume: fmt.Sprintf("%s-vol-%02d", n, i), Node: n}); err != nil {
				t.Fatal(err)
			}
		}
	}
	launch := func() *replica {
		way := statetest.NewProxy(t, w.etcd.Endpoint())
		p := c.startAt(way.Endpoint(), "--quarantine", "2s", "--removal-rate", strconv.Itoa(removalsAtOnce), "--brake-fraction", "1")
		eventually(t, "a replica is ready", p.ready)
		return &replica{p, way}
	}
	replicas := []*replica{launch(), launch(), launch()}
	// One that was stopped goes on to say that it leads, for a moment.
	leading := func() (leader *replica) {
		eventually(t, "one leads", func() error {
			n := 0
			for _, r := range replicas {
				if v, err := r.metric(`holdfast_leader{cluster="east"}`); err == nil && v == 1 {
					n, leader = n+1, r
				}
			}
			if n != 1 {
				return fmt.Errorf("%d do", n)
			}
			return nil
		})
		return leader
	}
	removedOf := func(nodes []string) int {
		n := 0
		for _, e := range w.journal("east", state.ActionRemoved) {
			for _, node := range nodes {
				if e.Node == node {
					n++
				}
			}
		}
		return n
	}

	for round, fault := range []struct {
		what  string
		begin func(*replica)
		end   func(*replica)
	}{
		{"killed", func(r *replica) { r.kill() }, func(r *replica) { *r = *launch() }},
		{"stopped", func(r *replica) { r.signal(syscall.SIGSTOP) }, func(r *replica) { r.signal(syscall.SIGCONT) }},
		{"cut off from etcd", func(r *replica) { r.way.Cut() }, func(r *replica) { r.way.Resume() }},
		{"behind a network that stalls", func(r *replica) { r.way.Pause() }, func(r *replica) { r.way.Resume() }},
	} {
		gone := nodes[round*perRound : (round+1)*perRound]
		leader := leading()
		for _, n := range gone {
			c.deleteNode(n)
		}
		eventually(t, "removals begin", func() error {
			if removedOf(gone) == 0 {
				return errors.New("none yet")
			}
			return nil
		})
		was := leader.cmd.Process.Pid
		fault.begin(leader)
		t.Logf("leader %d is %s after %d of %d removals", was, fault.what, removedOf(gone), perNode*perRound)
		// It is back while the other is at it, so that there is something left
		// that it could remove.
		done := removedOf(gone)
		eventually(t, "another leads", func() error {
			if removedOf(gone) < done+removalsAtOnce+1 { // more than it can have had under way
				return errors.New("none")
			}
			return nil
		})
		fault.end(leader)
		eventually(t, "all orphans are removed", func() error {
			if n := removedOf(gone); n < perNode*perRound {
				return fmt.Errorf("%d removed", n)
			}
			return nil
		})
	}
	leading()

	history := w.etcd.History(t, ledgerRoot+"elections/east/", 1)
	leaders, volumes := map[int64]int{}, map[string]bool{}
	for _, e := range w.journal("east", state.ActionRemoved) {
		if leads := leaderAt(history, e.ModRevision); e.Evidence == nil || e.Evidence.LeaderRevision != leads {
			t.Errorf("%s was removed at revision %d on evidence %+v, while the leader was %d", e.Volume, e.ModRevision, e.Evidence, leads)
			continue
		}
		leaders[e.Evidence.LeaderRevision]++
		if volumes[e.Volume] {
			t.Errorf("%s was removed twice", e.Volume)
		}
		volumes[e.Volume] = true
	}
	t.Logf("removals by leader: %v", leaders)
	if len(volumes) != rounds*perRound*perNode || len(leaders) <= rounds {
		t.Errorf("%d removals by %d leaders; expected %d, by more than %d", len(volumes), len(leaders), rounds*perRound*perNode, rounds)
	}
	for _, n := range nodes[rounds*perRound:] {
		if kept := len(w.keys("attachments/east/" + n + "/")); kept != perNode {
			t.Errorf("%s, which was never gone, has %d attachments left of %d", n, kept, perNode)
		}
	}
}

// leaderAt is the create revision of the oldest election key that there was
// just before a revision.
func leaderAt(history []statetest.Event, revision int64) int64 {
	keys := map[string]int64{}
	for _, e := range history {
		if e.ModRevision >= revision {
			break
		}
		if e.Deleted {
			delete(keys, e.Key)
		} else if _, there := keys[e.Key]; !there {
			keys[e.Key] = e.ModRevision
		}
	}
	oldest := int64(0)
	for _, created := range keys {
		if oldest == 0 || created < oldest {
			oldest = created
		}
	}
	return oldest
}

// Whatever leaderAt says has to be able to say no.
func TestLeaderAt(t *testing.T) {
	put := func(key string, at int64) statetest.Event {
		return statetest.Event{KV: statetest.KV{Key: key, ModRevision: at}}
	}
	history := []statetest.Event{put("a", 3), put("b", 4), {Deleted: true, KV: statetest.KV{Key: "a", ModRevision: 9}}, put("c", 12)}
	var got []string
	for _, at := range []int64{3, 4, 9, 10, 20} {
		got = append(got, fmt.Sprint(leaderAt(history, at)))
	}
	if want := "0 3 3 4 4"; strings.Join(got, " ") != want {
		t.Errorf("leaders %v, expected %s", got, want)
	}
}
