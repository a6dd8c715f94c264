package events

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"

	"github.com/holdfast-storage/holdfast/state"
)

var since = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func heldIn(cluster, node string) state.Hold {
	return state.Hold{Volume: "vol-1", Cluster: cluster, Node: node, Mode: state.Exclusive, Since: since, Token: 7}
}

func conflictOver(volume string, holds ...state.Hold) error {
	return &state.ConflictError{Volume: volume, Holders: holds, Revision: 9}
}

func graceOf(volume, cluster, node string) error {
	return &state.GraceError{Volume: volume, Left: 12 * time.Second, Detachments: []state.Detachment{
		{Volume: volume, Cluster: cluster, Node: node, Mode: state.Exclusive, At: since}}}
}

func removed(r *Recorder, volume, node string) {
	r.OrphanRemoved(state.Attachment{Volume: volume, Cluster: "east", Node: node, Mode: state.Exclusive},
		state.Departure{Cluster: "east", Node: node, Reason: state.NodeGone})
}

// What each report becomes: its kind, its part of the claim, and its note.
func TestReports(t *testing.T) {
	lapsed := heldIn("west", "node-3")
	lapsed.Lapsed = true
	shared := heldIn("west", "node-3")
	shared.Mode, shared.Token, shared.Since = state.Shared, 0, time.Time{}
	for name, test := range map[string]struct {
		report func(*Recorder)
		want   []string // reason, type, action, part, note
	}{
		"conflict": {
			func(r *Recorder) { r.Conflict(conflictOver("vol-1", heldIn("west", "node-3"))) },
			[]string{"AttachConflict", "Warning", "Attach", "hold{west/node-3}",
				`volume "vol-1" cannot be attached: node node-3 of cluster west (exclusive, since 2026-01-02T03:04:05Z, token 7) holds it. ` +
					`It can be attached once it is detached there; if nothing uses it there any more, holdfast detach ends the hold`},
		},
		"conflict, wrapped, lapsed": {
			func(r *Recorder) { r.Conflict(fmt.Errorf("attach: %w", conflictOver("vol-1", lapsed))) },
			[]string{"AttachConflict", "Warning", "Attach", "hold{west/node-3}",
				`volume "vol-1" cannot be attached: node node-3 of cluster west (exclusive, since 2026-01-02T03:04:05Z, token 7) holds it. ` +
					`The controllers of cluster west have long been away, and it is held all the same until they are back, or an operator gives the cluster up (holdfast evict)`},
		},
		"conflict with many": {
			func(r *Recorder) { r.Conflict(conflictOver("vol-1", shared, shared, shared, shared, shared)) },
			[]string{"AttachConflict", "Warning", "Attach", "hold{west/node-3},hold{west/node-3},hold{west/node-3}",
				`volume "vol-1" cannot be attached: node node-3 of cluster west (shared), node node-3 of cluster west (shared), ` +
					`node node-3 of cluster west (shared) and 2 more hold it. It can be attached once it is detached there; ` +
					`if nothing uses it there any more, holdfast detach ends the hold`},
		},
		"grace": {
			func(r *Recorder) { r.Conflict(graceOf("vol-1", "west", "node-3")) },
			[]string{"AttachConflict", "Warning", "Attach", "detachment{west/node-3}",
				`volume "vol-1" cannot be attached yet: it was detached by node node-3 of cluster west at 2026-01-02T03:04:05Z, ` +
					`and for another 12s only that cluster may attach it. It ends by itself`},
		},
		"orphan removed": {
			func(r *Recorder) { removed(r, "vol-1", "node-1") },
			[]string{"OrphanRemoved", "Normal", "Remove", "hold{east/node-1}",
				`volume "vol-1" was detached from node node-1 of cluster east: its Node object is gone. ` +
					`Another node of the cluster may attach it now, another cluster after its grace period`},
		},
		"hold lapsed": {
			func(r *Recorder) { r.HoldLapsed(heldIn("east", "node-1"), true) },
			[]string{"HoldLapsed", "Warning", "Rearm", "hold{east/node-1}",
				`the hold of node node-1 of cluster east on volume "vol-1" had lapsed, since no controller of the cluster ran or reached etcd: ` +
					`it is stood by again, and nothing needs to be done`},
		},
		"hold stuck": {
			func(r *Recorder) { r.HoldLapsed(heldIn("east", "node-1"), false) },
			[]string{"HoldLapsed", "Warning", "FailedRearm", "hold{east/node-1}",
				`the hold of node node-1 of cluster east on volume "vol-1" had lapsed, since no controller of the cluster ran or reached etcd: ` +
					`it could not be armed again, and stays as it is; the log of the controller says why`},
		},
		"migration overdue": {
			func(r *Recorder) {
				r.MigrationOverdue(&state.Volume{Name: "vol-1", Holds: []state.Hold{heldIn("east", "node-1"), heldIn("west", "node-3")}})
			},
			[]string{"MigrationOverdue", "Warning", "Migrate", "hold{east/node-1},hold{west/node-3}",
				`the migration of volume "vol-1" is overdue: its window is over, and ` +
					`node node-1 of cluster east (exclusive, since 2026-01-02T03:04:05Z, token 7) and ` +
					`node node-3 of cluster west (exclusive, since 2026-01-02T03:04:05Z, token 7) hold it. Detach the one that no longer uses it (holdfast detach)`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			defer s.run()()
			test.report(s.r)
			e := s.written(1)[0]
			got := []string{e.Reason, e.Type, e.Action, e.Regarding.FieldPath, e.Note}
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("got  %q\nwant %q", got[i], test.want[i])
				}
			}
			of := e.Regarding
			of.FieldPath = ""
			want := corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "cart", UID: "uid-of-cart"}
			if of != want || e.Namespace != "shop" {
				t.Errorf("it is about %+v in namespace %q, want %+v", of, e.Namespace, want)
			}
			if e.ReportingController != "holdfast" || e.ReportingInstance == "" || e.EventTime.IsZero() {
				t.Errorf("it comes from %q, %q at %v", e.ReportingController, e.ReportingInstance, e.EventTime)
			}
		})
	}
}

// What is about no claim that is known is told on the Pod, or on the namespace
// that stands for the cluster.
func TestRegarding_WithoutClaim(t *testing.T) {
	pod := func(c *Config) { c.Pod = &Pod{Namespace: "holdfast-system", Name: "holdfast-0", UID: "uid-of-pod"} }
	onPod := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "holdfast-system", Name: "holdfast-0", UID: "uid-of-pod"}
	onCluster := corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: "kube-system", UID: "uid-of-east"}
	for name, test := range map[string]struct {
		tune      func(*Config)
		of        corev1.ObjectReference
		namespace string
	}{
		"pod":            {pod, onPod, "holdfast-system"},
		"cluster":        {func(*Config) {}, onCluster, "default"},
		"another driver": {func(c *Config) { c.Driver = driver("e.example") }, onCluster, "default"},
		"no driver":      {func(c *Config) { c.Driver = nil }, onCluster, "default"},
		"no claims":      {func(c *Config) { c.Claims = nil }, onCluster, "default"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, test.tune)
			defer s.run()()
			volume := "vol-1"
			if name == "pod" || name == "cluster" {
				volume = "vol-9"
			}
			removed(s.r, volume, "node-1")
			s.written(1)
			s.r.Brake(true, "engaged: missing 9")
			s.written(2)
			s.r.Brake(false, "off: missing 0")
			s.written(3)
			s.r.HoldsLapsed(100, 3)
			paths := []string{"volume{" + volume + "}.hold{east/node-1}", "brake{engaged: missing 9}", "brake{off: missing 0}", "holds{103}"}
			notes := []string{"was detached", "nothing is removed any more in cluster east", "removals go on in cluster east; brake off: missing 0", "100 more holds of cluster east had lapsed"}
			for i, e := range s.written(4) {
				want := test.of
				want.FieldPath = paths[i]
				if e.Regarding != want || e.Namespace != test.namespace {
					t.Errorf("%s is about %+v in namespace %q, want %+v in %q", e.Reason, e.Regarding, e.Namespace, want, test.namespace)
				}
				if !strings.Contains(e.Note, notes[i]) {
					t.Errorf("%s says %q, want %q in it", e.Reason, e.Note, notes[i])
				}
			}
		})
	}
}

// A driver may pass on whatever it got.
func TestConflict_OfOtherErrors(t *testing.T) {
	for _, err := range []error{nil, errors.New("no"), state.ErrConflict, state.ErrUnavailable} {
		if rep, ok := conflictReport(err); ok {
			t.Errorf("%v is reported as %+v", err, rep)
		}
	}
}

// A note is one line that the API server takes, whatever the volume is called.
func TestNotes_AreOneLine(t *testing.T) {
	s := newStage(t)
	defer s.run()()
	removed(s.r, strings.Repeat("\n\x01é", 64), "node-1")
	removed(s.r, strings.Repeat("\x01", 256), "node-1")
	for _, e := range s.written(2) {
		if len(e.Note) > 1024 || strings.ContainsFunc(e.Note+e.Regarding.FieldPath, func(c rune) bool { return c < ' ' }) {
			t.Errorf("the note has %d bytes: %q, of %q", len(e.Note), e.Note, e.Regarding.FieldPath)
		}
	}
	for _, most := range []int{4, 5, 6, 7} {
		if got := line("ééé", most); len(got) > most || !utf8.ValidString(got) || !strings.HasPrefix("ééé", strings.TrimSuffix(got, "…")) {
			t.Errorf("line of at most %d bytes = %q", most, got)
		}
	}
}

// Equal Events become one that counts. One about another holder is another, for
// its note says who it is.
func TestEventsAreCounted(t *testing.T) {
	s := newStage(t)
	defer s.run()()
	for round := range 2 {
		s.r.Conflict(conflictOver("vol-1", heldIn("west", "node-3")))
		s.r.Conflict(conflictOver("vol-1", heldIn("west", "node-4")))
		s.r.Conflict(conflictOver("vol-2", heldIn("west", "node-3")))
		s.counted(AttachConflict, resultSent, 3*(1+round))
	}
	for _, e := range s.written(3) {
		if e.Series == nil || e.Series.Count != 2 || !strings.Contains(e.Note, strings.TrimPrefix(strings.TrimSuffix(e.Regarding.FieldPath, "}"), "hold{west/")) {
			t.Errorf("%s says %q, %+v; want it counted twice", e.Name, e.Note, e.Series)
		}
	}
	if n := len(s.events()); n != 3 {
		t.Errorf("there are %d Events, want 3", n)
	}
}

// Kubernetes forgets Events; one to count on may be gone.
func TestEventsAreMadeAgain(t *testing.T) {
	s := newStage(t)
	defer s.run()()
	s.r.Conflict(conflictOver("vol-1", heldIn("west", "node-3")))
	e := s.written(1)[0]
	if err := s.kube.Tracker().Delete(eventsv1.SchemeGroupVersion.WithResource("events"), e.Namespace, e.Name); err != nil {
		t.Fatal(err)
	}
	s.r.Conflict(conflictOver("vol-1", heldIn("west", "node-3")))
	if e := s.written(1)[0]; e.Series == nil || e.Series.Count != 2 {
		t.Errorf("the Event was made again as %+v", e)
	}
	s.counted(AttachConflict, resultSent, 2)
}
