package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

// pvServer is as much of an API server as a reader of PersistentVolumes meets.
type pvServer struct {
	*httptest.Server

	mu      sync.Mutex
	version int
	pvs     map[string]corev1.PersistentVolume
	events  []pvEvent
	refuse  map[string]int // by verb: list, watch
	cut     chan struct{}
	changed chan struct{}
	pages   []int // how many each page of a list had
}

type pvEvent struct {
	version int
	Type    string                  `json:"type"`
	Object  corev1.PersistentVolume `json:"object"`
}

func newPVServer(t *testing.T, pvs ...corev1.PersistentVolume) *pvServer {
	s := &pvServer{
		version: 10, pvs: map[string]corev1.PersistentVolume{}, refuse: map[string]int{},
		cut: make(chan struct{}), changed: make(chan struct{}),
	}
	for _, pv := range pvs {
		s.pvs[pv.Name] = pv
	}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	t.Cleanup(func() { s.change(s.disconnect) })
	return s
}

func (s *pvServer) client(t *testing.T) corev1client.CoreV1Interface {
	t.Helper()
	core, err := corev1client.NewForConfig(&rest.Config{Host: s.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	return core
}

func (s *pvServer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *pvServer) disconnect() { close(s.cut); s.cut = make(chan struct{}) }

// refusing makes a verb answer with a status, 0 for not at all, and ends the watches.
func (s *pvServer) refusing(status int, verbs ...string) {
	s.change(func() {
		for _, verb := range verbs {
			s.refuse[verb] = status
		}
		s.disconnect()
	})
}

func (s *pvServer) tell(typ string, pv corev1.PersistentVolume) {
	s.change(func() {
		s.version++
		pv.ResourceVersion = strconv.Itoa(s.version)
		s.pvs[pv.Name] = pv
		if typ == "DELETED" {
			delete(s.pvs, pv.Name)
		}
		s.events = append(s.events, pvEvent{s.version, typ, pv})
	})
}

func (s *pvServer) serve(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	verb := "list"
	if q.Get("watch") == "true" {
		verb = "watch"
	}
	s.mu.Lock()
	status := s.refuse[verb]
	s.mu.Unlock()
	switch {
	case status != 0:
		answer(w, status, failure(status, metav1.StatusReasonForbidden, nil))
	case verb == "list":
		s.serveList(w, q.Get("limit"), q.Get("continue"))
	default:
		from, _ := strconv.Atoi(q.Get("resourceVersion"))
		s.serveWatch(w, r, from)
	}
}

func (s *pvServer) serveList(w http.ResponseWriter, limit, after string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	most, _ := strconv.Atoi(limit)
	list := corev1.PersistentVolumeList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)}}
	var names []string
	for name := range s.pvs {
		if name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for i, name := range names {
		if most > 0 && i == most {
			list.Continue = names[i-1]
			break
		}
		list.Items = append(list.Items, s.pvs[name])
	}
	s.pages = append(s.pages, len(list.Items))
	answer(w, 200, list)
}

func (s *pvServer) serveWatch(w http.ResponseWriter, r *http.Request, from int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	encode := json.NewEncoder(w)
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	for {
		s.mu.Lock()
		changed := s.changed
		for _, e := range s.events {
			if e.version > from {
				from = e.version
				e.Object.TypeMeta = typed("PersistentVolume")
				_ = encode.Encode(e)
			}
		}
		s.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-cut:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// pv is a PersistentVolume of a driver; owner is namespace/name, empty for none.
func pv(name, driver, handle, owner string) corev1.PersistentVolume {
	out := corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: types.UID("uid-" + name), ResourceVersion: "5",
		Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": driver},
	}}
	if driver != "" {
		out.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle}
	}
	if namespace, claim, ok := strings.Cut(owner, "/"); ok {
		out.Spec.ClaimRef = &corev1.ObjectReference{Namespace: namespace, Name: claim, UID: types.UID(claimUID(claim))}
	}
	return out
}

func claimUID(claim string) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", len(claim)) }

// runClaims runs a Claims on the server until the test ends.
func runClaims(t *testing.T, s *pvServer) (*Claims, *lines) {
	t.Helper()
	logs := &lines{}
	c := NewClaims(s.client(t), slog.New(slog.NewTextHandler(logs, nil)))
	c.again = &wait.Backoff{Duration: time.Millisecond, Cap: 5 * time.Millisecond, Factor: 2, Steps: 5}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want the context's error", err)
		}
	})
	return c, logs
}

// whose is the claim of a volume as namespace/name, empty if it is nobody's.
func whose(t *testing.T, c *Claims, driver, volume string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	claim, ok := c.Claim(ctx, driver, volume)
	if ctx.Err() != nil {
		t.Error("whoever asks waits in vain")
	}
	if !ok {
		return ""
	}
	if claim.UID != claimUID(claim.Name) {
		t.Errorf("the claim of %s has the UID %q, want %q", volume, claim.UID, claimUID(claim.Name))
	}
	return claim.Namespace + "/" + claim.Name
}

func TestClaims(t *testing.T) {
	s := newPVServer(t,
		pv("pv-1", "d.example", "vol-1", "shop/cart"), pv("pv-2", "d.example", "vol-2", ""), pv("pv-3", "", "", "shop/nfs"),
		pv("pv-4", "d.example", "both", "shop/one"), pv("pv-5", "e.example", "both", "bank/two"))
	c, _ := runClaims(t, s)
	for _, want := range []struct{ driver, volume, claim string }{
		{"", "vol-1", "shop/cart"}, {"d.example", "vol-1", "shop/cart"}, {"e.example", "vol-1", ""},
		{"", "vol-2", ""}, {"", "", ""}, {"", "vol-9", ""},
		{"d.example", "both", "shop/one"}, {"e.example", "both", "bank/two"},
		{"", "both", ""}, // whose nobody can say
	} {
		if got := whose(t, c, want.driver, want.volume); got != want.claim {
			t.Errorf("volume %q of driver %q is %q's, want %q", want.volume, want.driver, got, want.claim)
		}
	}
	for _, step := range []struct {
		typ   string
		pv    corev1.PersistentVolume
		claim string
	}{
		{"ADDED", pv("pv-6", "d.example", "vol-6", "shop/six"), "shop/six"},
		{"MODIFIED", pv("pv-6", "d.example", "vol-6", ""), ""},
		{"MODIFIED", pv("pv-6", "d.example", "vol-6", "shop/seven"), "shop/seven"},
		{"ADDED", pv("pv-7", "d.example", "vol-6", "bank/eight"), "bank/eight"}, // a second one of the same volume
		{"DELETED", pv("pv-7", "d.example", "vol-6", "bank/eight"), "shop/seven"},
		{"DELETED", pv("pv-6", "d.example", "vol-6", "shop/seven"), ""},
	} {
		s.tell(step.typ, step.pv)
		eventually(t, fmt.Sprintf("after %s of %s volume vol-6 is %q's", step.typ, step.pv.Name, step.claim), func() bool {
			return whose(t, c, "", "vol-6") == step.claim
		})
	}
	if len(c.claims) != 2 || c.claims["vol-1"] == nil || c.claims["both"] == nil {
		t.Errorf("kept are %v; want only what is somebody's", c.claims)
	}
}

// What a role does not allow is said once, and whoever asks is not kept waiting.
func TestClaims_Forbidden(t *testing.T) {
	s := newPVServer(t, pv("pv-1", "d.example", "vol-1", "shop/cart"))
	s.refusing(http.StatusForbidden, "list", "watch")
	c, logs := runClaims(t, s)
	if got := whose(t, c, "", "vol-1"); got != "" {
		t.Errorf("the claim is %q, and nothing can be read", got)
	}
	again := func() int { // how often a list was asked for since
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.pages)
	}
	s.refusing(0, "list") // watch is forbidden still
	eventually(t, "it is tried again and again", func() bool { return again() > 5 })
	if said := logs.with("cannot be read"); len(said) != 1 || len(logs.with("read again")) != 0 {
		t.Errorf("the log says, want one line and no recovery: %q", said)
	}
	if got := whose(t, c, "", "vol-1"); got != "shop/cart" {
		t.Errorf("the claim is %q; a list could be had", got)
	}
	s.refusing(0, "watch")
	eventually(t, "it says that all is well", func() bool { return len(logs.with("read again")) == 1 })
	s.refusing(http.StatusForbidden, "list", "watch")
	eventually(t, "it says so again", func() bool { return len(logs.with("cannot be read")) == 2 })
	if got := whose(t, c, "", "vol-1"); got != "shop/cart" {
		t.Errorf("the claim is %q; what was known last is forgotten", got)
	}
}

func TestClaims_Away(t *testing.T) {
	s := newPVServer(t)
	s.Close()
	c, logs := runClaims(t, s)
	if got := whose(t, c, "", "vol-1"); got != "" {
		t.Errorf("the claim is %q, and there is no API server", got)
	}
	if said := logs.with("cannot be read"); len(said) != 1 || !strings.Contains(said[0], "PersistentVolumes") {
		t.Errorf("the log says %q", said)
	}
}

// Nobody waits for longer than he wants to.
func TestClaims_NotRunning(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if claim, ok := NewClaims(nil, nil).Claim(ctx, "", "vol-1"); ok {
		t.Errorf("the claim is %v", claim)
	}
}

func TestFindClaim(t *testing.T) {
	s := newPVServer(t)
	for i := range 2*volumesAPage + 1 {
		p := pv(fmt.Sprintf("pv-%04d", i), "d.example", fmt.Sprintf("vol-%04d", i), fmt.Sprintf("shop/claim-%d", i))
		s.pvs[p.Name] = p
	}
	s.pvs["pv-9999"] = pv("pv-9999", "e.example", "vol-0001", "bank/gold")
	find := func(driver, volume string) (string, int) {
		t.Helper()
		s.change(func() { s.pages = nil })
		claim, ok, err := FindClaim(t.Context(), s.client(t), driver, volume)
		if err != nil || ok != (claim != Claim{}) {
			t.Errorf("FindClaim(%s, %s) = %v, %v, %v", driver, volume, claim, ok, err)
		}
		return claim.Name, len(s.pages)
	}
	for _, want := range []struct {
		driver, volume, name string
		pages                int
	}{
		{"d.example", "vol-0001", "claim-1", 1}, {"e.example", "vol-0001", "gold", 3},
		{"", "vol-0001", "", 3}, {"", "vol-0700", "claim-700", 3}, {"d.example", "vol-9", "", 3},
	} {
		if name, pages := find(want.driver, want.volume); name != want.name || pages != want.pages {
			t.Errorf("FindClaim(%s, %s) = %q in %d pages, want %q in %d", want.driver, want.volume, name, pages, want.name, want.pages)
		}
	}
	s.refusing(http.StatusForbidden, "list")
	if _, ok, err := FindClaim(t.Context(), s.client(t), "", "vol-0001"); ok || err == nil {
		t.Errorf("FindClaim = %v, %v where it is forbidden", ok, err)
	}
}

// One PersistentVolume of 20,000 must not cost more than it has to.
func TestClaimsAreLean(t *testing.T) {
	const volumes, most = 20_000, 260 // bytes each, the handle's 40 included
	list := func() []any {
		var out []any
		for i := range volumes {
			p := pv(fmt.Sprintf("pvc-%036d", i), "d.example", fmt.Sprintf("pvc-%036d", i), fmt.Sprintf("team-%d/data-postgres-%d", i%50, i))
			p.Spec.ClaimRef.UID = types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012x", i))
			p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: strings.Repeat("m", 2000)}}
			out = append(out, slim(&p))
		}
		return out
	}
	c := NewClaims(nil, nil)
	before := heap()
	if err := (claimStore{c}).Replace(list(), ""); err != nil {
		t.Fatal(err)
	}
	each := (heap() - before) / volumes
	if len(c.claims) != volumes {
		t.Fatal(len(c.claims))
	}
	t.Logf("%d bytes of heap for a PersistentVolume", each)
	if each > most {
		t.Errorf("%d bytes of heap for a PersistentVolume, want at most %d", each, most)
	}
	runtime.KeepAlive(c)
}
