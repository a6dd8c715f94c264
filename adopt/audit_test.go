package adopt

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/holdfast-storage/holdfast/state"
)

func auditing(t testing.TB, s *apiServer, l *state.Ledger) Config {
	t.Helper()
	return Config{Kubernetes: s.reader(t), Ledger: l, Cluster: "east", Attacher: driver, Settle: time.Millisecond}
}

func audited(t testing.TB, cfg Config) *Report {
	t.Helper()
	r, err := Audit(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAudit(t *testing.T) {
	l, s := openLedger(t), newAPIServer(t)
	east, west := asCluster(t, l, "east"), asCluster(t, l, "west")
	s.attach("vol-1", "node-1")
	held(t, east, "vol-1", "node-1", state.Exclusive)
	held(t, west, "vol-9", "node-9", state.Exclusive)
	cfg := auditing(t, s, l)

	r := audited(t, cfg)
	if got := describe(r.Differences, r.Notes); got != "equal\n" || r.VolumeAttachments != 1 || r.Holds != 1 {
		t.Errorf("found %s, of %d VolumeAttachments and %d holds; want one of each, equal", got, r.VolumeAttachments, r.Holds)
	}
	if n := s.asked("/apis"); n != 1 {
		t.Errorf("looked %d times at what is equal", n)
	}

	s.attach("vol-2", "node-1")
	held(t, east, "vol-3", "node-1", state.Exclusive)
	s.attach("vol-4", "node-1")
	held(t, west, "vol-4", "node-9", state.Exclusive)
	s.attach("vol-5", "node-1")
	s.attach("vol-5", "node-2")
	held(t, east, "vol-5", "node-1", state.Exclusive)
	s.attach("vol-6", "node-1")
	held(t, east, "vol-6", "node-1", state.Shared)
	s.attach("vol-7", "node-1")
	held(t, east, "vol-7", "node-1", state.Exclusive)
	if _, err := east.Migrate(t.Context(), state.MigrateRequest{Volume: "vol-7", Source: "node-1", Target: place("node-2")}); err != nil {
		t.Fatal(err)
	}
	want := `missing, vol-2, csi-vol-2-node-1 on node-1
extra, vol-3, held exclusive by east/node-1
elsewhere, vol-4, csi-vol-4-node-1 on node-1, held exclusive by west/node-9
twice, vol-5, csi-vol-5-node-1 on node-1, csi-vol-5-node-2 on node-2, held exclusive by east/node-1
mode, vol-6, csi-vol-6-node-1 on node-1, held shared by east/node-1
note: migrating, vol-7, csi-vol-7-node-1 on node-1, held exclusive by east/node-1, held exclusive by east/node-2, from east/node-1 to east/node-2
`
	before, _ := l.Revision(t.Context())
	r = audited(t, cfg)
	if got := describe(r.Differences, r.Notes); got != want {
		t.Errorf("found\n%s\nwant\n%s", got, want)
	}
	if after, _ := l.Revision(t.Context()); after != before {
		t.Error("an audit has written")
	}

	cfg.Attacher = "typo.example.com"
	if r = audited(t, cfg); r.VolumeAttachments != 0 || r.Others[driver] == 0 {
		t.Errorf("under a mistyped attacher: %d VolumeAttachments, others %v", r.VolumeAttachments, r.Others)
	}
}

// What settles between the two looks is no difference.
func TestAudit_Settles(t *testing.T) {
	l, s := openLedger(t), newAPIServer(t)
	east := asCluster(t, l, "east")
	s.attach("vol-1", "node-1")
	held(t, east, "vol-2", "node-1", state.Exclusive)
	looks := 0
	s.answer = func(s *apiServer, r *http.Request) *apierrors.StatusError {
		if !strings.HasPrefix(r.URL.Path, "/apis/") {
			return nil
		}
		if looks++; looks == 2 { // the driver's answers come between the looks
			delete(s.attachments, "csi-vol-1-node-1")
			s.attachLocked("vol-2", "node-1")
			s.attachLocked("vol-3", "node-1") // too new to be judged
		}
		return nil
	}
	r := audited(t, auditing(t, s, l))
	if len(r.Differences) != 0 || r.Unsettled != 1 || looks != 2 {
		t.Errorf("found %v, %d unsettled, after %d looks; want nothing, 1 and 2", r.Differences, r.Unsettled, looks)
	}
}

// Not to be able to look is never that all is equal.
func TestAudit_Fails(t *testing.T) {
	l, s := openLedger(t), newAPIServer(t)
	s.attach("vol-1", "node-1")
	looks := 0
	s.answer = func(_ *apiServer, r *http.Request) *apierrors.StatusError {
		if looks++; looks > 2 { // the second look's
			return forbidden("volumeattachments")
		}
		return nil
	}
	if r, err := Audit(t.Context(), auditing(t, s, l)); !apierrors.IsForbidden(err) || r != nil {
		t.Errorf("audited %v, %v; want that the second look is forbidden", r, err)
	}
	s.change(func() { s.answer = nil })
	cfg := auditing(t, s, l)
	cfg.Settle = time.Hour
	ctx, interrupt := context.WithCancel(t.Context())
	s.answer = func(*apiServer, *http.Request) *apierrors.StatusError {
		time.AfterFunc(10*time.Millisecond, interrupt)
		return nil
	}
	if _, err := Audit(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("an audit that was interrupted: %v", err)
	}
}
