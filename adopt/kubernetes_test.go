package adopt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/holdfast-storage/holdfast/state"
)

func read(t testing.TB, s *apiServer, mode state.Mode) *Reading {
	t.Helper()
	r, err := s.reader(t).Read(t.Context(), driver, mode)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRead(t *testing.T) {
	s := newAPIServer(t)
	s.attach("vol-1", "node-1")
	s.attach("vol-2", "node-1", rwx...)
	s.attach("vol-3", "node-1")
	s.attach("vol-4", "node-1")
	s.attach("vol-5", "node-1")
	s.edit("vol-3", "node-1", func(va *storagev1.VolumeAttachment) { va.Status.Attached = false })
	s.edit("vol-4", "node-1", deleting)
	s.edit("vol-5", "node-1", func(va *storagev1.VolumeAttachment) { va.Spec.Attacher = "other.example.com" })

	r := read(t, s, "")
	want := VolumeAttachment{
		Name: "csi-vol-1-node-1", UID: "uid-of-csi-vol-1-node-1", PersistentVolume: "pv-vol-1", Volume: "vol-1", Node: "node-1",
		Phase: Attached, Mode: state.Exclusive,
	}
	if got := in(t, r, "vol-1", "node-1"); got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
	if got := in(t, r, "vol-2", "node-1"); got.Mode != state.Shared {
		t.Errorf("a volume of many nodes is %s", got.Mode)
	}
	if got := in(t, r, "vol-3", "node-1"); got.Phase != Attaching {
		t.Errorf("one whose status is not attached is %s", got.Phase)
	}
	if got := in(t, r, "vol-4", "node-1"); got.Phase != Detaching {
		t.Errorf("one that is being deleted is %s", got.Phase)
	}
	if len(r.Attachments) != 4 || !cmp.Equal(r.Others, map[string]int{"other.example.com": 1}) {
		t.Errorf("%d attachments, and others of %v; want 4, and one of the other attacher", len(r.Attachments), r.Others)
	}
	if s.mediaTypes[protobuf] == 0 || len(s.mediaTypes) != 1 {
		t.Errorf("asked for %v; want protobuf alone", s.mediaTypes)
	}
}

func TestRead_JSON(t *testing.T) {
	s := newAPIServer(t)
	s.attach("vol-1", "node-1")
	k, err := NewKubernetes(&rest.Config{Host: s.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := k.Read(t.Context(), driver, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := in(t, r, "vol-1", "node-1"); got.Volume != "vol-1" || s.mediaTypes["application/json"] == 0 {
		t.Errorf("read %+v, as %v", got, s.mediaTypes)
	}
}

// What cannot be known is said, and not guessed.
func TestRead_Unknown(t *testing.T) {
	csi := func(s *apiServer, f func(*corev1.PersistentVolumeSpec)) {
		s.change(func() { f(&s.volumes["pv-vol-1"].Spec) })
	}
	for name, c := range map[string]struct {
		spoil func(*apiServer)
		want  string
	}{
		"inline": {func(s *apiServer) {
			s.edit("vol-1", "node-1", func(va *storagev1.VolumeAttachment) {
				va.Spec.Source = storagev1.VolumeAttachmentSource{InlineVolumeSpec: &corev1.PersistentVolumeSpec{}}
			})
		}, "inlineVolumeSpec"},
		"no source": {func(s *apiServer) {
			s.edit("vol-1", "node-1", func(va *storagev1.VolumeAttachment) { va.Spec.Source = storagev1.VolumeAttachmentSource{} })
		}, "names no PersistentVolume"},
		"no PersistentVolume": {func(s *apiServer) { s.change(func() { delete(s.volumes, "pv-vol-1") }) }, `"pv-vol-1" is not there`},
		"not CSI":             {func(s *apiServer) { csi(s, func(v *corev1.PersistentVolumeSpec) { v.CSI = nil }) }, "no CSI volume handle"},
		"no handle":           {func(s *apiServer) { csi(s, func(v *corev1.PersistentVolumeSpec) { v.CSI.VolumeHandle = "" }) }, "no CSI volume handle"},
		"other driver": {func(s *apiServer) {
			csi(s, func(v *corev1.PersistentVolumeSpec) { v.CSI.Driver = "other.example.com" })
		}, `of driver "other.example.com"`},
		"handle too long": {func(s *apiServer) {
			csi(s, func(v *corev1.PersistentVolumeSpec) { v.CSI.VolumeHandle = strings.Repeat("x", 257) })
		}, "at most 256 bytes"},
		"no node's name": {func(s *apiServer) {
			s.edit("vol-1", "node-1", func(va *storagev1.VolumeAttachment) { va.Spec.NodeName = "Node_1" })
		}, `invalid node "Node_1"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t)
			s.attach("vol-1", "node-1")
			c.spoil(s)
			got := in(t, read(t, s, state.Exclusive), "vol-1", "node-1")
			if got.Volume != "" || got.Mode != "" || !strings.Contains(got.Unknown, c.want) {
				t.Errorf("read %+v; want no volume, because %q", got, c.want)
			}
		})
	}
}

func TestModeOf(t *testing.T) {
	const once, pod, readMany, many = corev1.ReadWriteOnce, corev1.ReadWriteOncePod, corev1.ReadOnlyMany, corev1.ReadWriteMany
	for _, c := range []struct {
		access []corev1.PersistentVolumeAccessMode
		want   state.Mode
	}{
		{nil, ""},
		{[]corev1.PersistentVolumeAccessMode{"SomethingNew"}, ""},
		{[]corev1.PersistentVolumeAccessMode{once}, state.Exclusive},
		{[]corev1.PersistentVolumeAccessMode{pod}, state.Exclusive},
		{[]corev1.PersistentVolumeAccessMode{readMany}, state.Shared},
		{[]corev1.PersistentVolumeAccessMode{many}, state.Shared},
		{[]corev1.PersistentVolumeAccessMode{once, readMany}, state.Shared},
		{[]corev1.PersistentVolumeAccessMode{once, many}, state.Shared},
		{[]corev1.PersistentVolumeAccessMode{"SomethingNew", once}, state.Exclusive},
	} {
		if got := modeOf(c.access); got != c.want {
			t.Errorf("%v is held %q, want %q", c.access, got, c.want)
		}
	}
}

func TestRead_ModeIsGiven(t *testing.T) {
	s := newAPIServer(t)
	s.attach("vol-1", "node-1", rwx...)
	if got := in(t, read(t, s, state.Exclusive), "vol-1", "node-1"); got.Mode != state.Exclusive {
		t.Errorf("the volume is %s, although every one is to be exclusive", got.Mode)
	}
}

// A list comes in pages, and none is lost between them.
func TestRead_Pages(t *testing.T) {
	s := newAPIServer(t)
	const all = 2*pageSize + 7
	s.change(func() {
		for i := range all {
			s.attachLocked(fmt.Sprintf("vol-%04d", i), "node-1")
		}
	})
	r := read(t, s, "")
	if len(r.Attachments) != all {
		t.Fatalf("read %d VolumeAttachments, want %d", len(r.Attachments), all)
	}
	for i, a := range r.Attachments {
		if want := fmt.Sprintf("vol-%04d", i); a.Volume != want {
			t.Fatalf("VolumeAttachment %d is of %q (%s), want %s", i, a.Volume, a.Unknown, want)
		}
	}
	if s.asked("/apis") != 3 || s.asked("/api/") != 3 || s.asked("/apis/storage.k8s.io/v1/volumeattachments?limit=500") != 1 {
		t.Errorf("asked for %q, want three pages of each, of the present", s.requests)
	}
}

// An API server that has forgotten what a list was of is asked again from the
// beginning, a few times.
func TestRead_ListExpires(t *testing.T) {
	s := newAPIServer(t)
	s.change(func() {
		for i := range pageSize + 1 {
			s.attachLocked(fmt.Sprintf("vol-%04d", i), "node-1")
		}
	})
	left := 1
	s.answer = func(_ *apiServer, r *http.Request) *apierrors.StatusError {
		if r.URL.Query().Get("continue") == "" || left == 0 {
			return nil
		}
		left--
		return apierrors.NewResourceExpired("the list is too old")
	}
	if r := read(t, s, ""); len(r.Attachments) != pageSize+1 {
		t.Errorf("read %d VolumeAttachments, want %d", len(r.Attachments), pageSize+1)
	}
	s.change(func() { left = 1000 })
	_, err := s.reader(t).Read(t.Context(), driver, "")
	if !apierrors.IsResourceExpired(err) || !strings.Contains(err.Error(), "listing VolumeAttachments") {
		t.Errorf("a list that always expires ends with %v; want that, and of what", err)
	}
}

// What cannot be read is an error, never an empty list.
func TestRead_Fails(t *testing.T) {
	for _, what := range []string{"volumeattachments", "persistentvolumes", "nodes"} {
		t.Run(what, func(t *testing.T) {
			s := newAPIServer(t)
			s.attach("vol-1", "node-1")
			s.answer = func(_ *apiServer, r *http.Request) *apierrors.StatusError {
				if strings.HasSuffix(r.URL.Path, what) {
					return forbidden(what)
				}
				return nil
			}
			r, err := s.reader(t).Read(t.Context(), driver, "")
			uids, nodesErr := s.reader(t).NodeUIDs(t.Context())
			if what == "nodes" {
				err = nodesErr
				r = nil
			}
			if !apierrors.IsForbidden(err) || r != nil || what == "nodes" && uids != nil {
				t.Errorf("read %v, %v and %v; want that it is forbidden", r, uids, err)
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newAPIServer(t).reader(t).Read(ended, driver, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("read with a context that has ended: %v", err)
	}
}

func TestNodeUIDs(t *testing.T) {
	s := newAPIServer(t)
	var want = map[string]string{}
	for i := range pageSize + 3 {
		name := fmt.Sprintf("node-%d", i)
		s.node(name)
		want[name] = "uid-of-" + name
	}
	got, err := s.reader(t).NodeUIDs(t.Context())
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%d UIDs, %v; want %d", len(got), err, len(want))
	}
}

// An API server that hangs must not look like one with much to say.
func TestRead_Hangs(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	k, err := NewKubernetes(&rest.Config{Host: server.URL, Timeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var timeout net.Error
	if _, err := k.Read(ctx, driver, ""); !errors.As(err, &timeout) || !timeout.Timeout() || ctx.Err() != nil {
		t.Errorf("read %v, want that it took too long for the Timeout that was given", err)
	}
}

// The caller's configuration is its own.
func TestNewKubernetes_CopiesItsConfig(t *testing.T) {
	cfg := &rest.Config{Host: "http://127.0.0.1:1"}
	if _, err := NewKubernetes(cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.QPS != 0 || cfg.ContentType != "" || cfg.Timeout != 0 {
		t.Errorf("NewKubernetes has changed what it was given: %v", cfg)
	}
}
