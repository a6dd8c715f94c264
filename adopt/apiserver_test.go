package adopt

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/holdfast-storage/holdfast/state"
)

const (
	driver   = "csi.example.com"
	protobuf = "application/vnd.kubernetes.protobuf"
)

// apiServer is as much of a Kubernetes API server as an import or an audit
// meets: lists in pages, in the encoding that is asked for.
type apiServer struct {
	*httptest.Server

	mu          sync.Mutex
	attachments map[string]*storagev1.VolumeAttachment
	volumes     map[string]*corev1.PersistentVolume
	nodes       map[string]*corev1.Node
	requests    []string // path and query
	mediaTypes  map[string]int
	// answer, where it is not nil, may refuse a request. It may change the
	// server, which is locked.
	answer func(s *apiServer, r *http.Request) *apierrors.StatusError
}

func newAPIServer(t testing.TB) *apiServer {
	t.Helper()
	s := &apiServer{
		attachments: map[string]*storagev1.VolumeAttachment{}, volumes: map[string]*corev1.PersistentVolume{},
		nodes: map[string]*corev1.Node{}, mediaTypes: map[string]int{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /apis/storage.k8s.io/v1/volumeattachments", s.serving(func(p page) runtime.Object {
		items, meta := cut(p, s.attachments)
		return &storagev1.VolumeAttachmentList{ListMeta: meta, Items: items}
	}))
	mux.HandleFunc("GET /api/v1/persistentvolumes", s.serving(func(p page) runtime.Object {
		items, meta := cut(p, s.volumes)
		return &corev1.PersistentVolumeList{ListMeta: meta, Items: items}
	}))
	mux.HandleFunc("GET /api/v1/nodes", s.serving(func(p page) runtime.Object {
		items, meta := cut(p, s.nodes)
		return &corev1.NodeList{ListMeta: meta, Items: items}
	}))
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// reader reads the server as NewKubernetes does.
func (s *apiServer) reader(t testing.TB) *Kubernetes {
	t.Helper()
	k, err := NewKubernetes(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// page is what of a list is asked for.
type page struct{ from, limit int }

// cut takes a page out of a list that is ordered by name.
func cut[T any](p page, all map[string]*T) ([]T, metav1.ListMeta) {
	names := slices.Sorted(maps.Keys(all))
	meta := metav1.ListMeta{ResourceVersion: "7"}
	names = names[min(p.from, len(names)):]
	if p.limit > 0 && p.limit < len(names) {
		names = names[:p.limit]
		meta.Continue = strconv.Itoa(p.from + p.limit)
	}
	items := make([]T, len(names))
	for i, name := range names {
		items[i] = *all[name]
	}
	return items, meta
}

func (s *apiServer) serving(list func(page) runtime.Object) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, r.URL.RequestURI())
		if s.answer != nil {
			if refusal := s.answer(s, r); refusal != nil {
				s.encode(w, r, int(refusal.ErrStatus.Code), &refusal.ErrStatus)
				return
			}
		}
		var p page
		p.from, _ = strconv.Atoi(r.URL.Query().Get("continue"))
		p.limit, _ = strconv.Atoi(r.URL.Query().Get("limit"))
		s.encode(w, r, http.StatusOK, list(p))
	}
}

// encode answers in protobuf where that is asked for, and else in JSON.
func (s *apiServer) encode(w http.ResponseWriter, r *http.Request, code int, out runtime.Object) {
	mediaType := runtime.ContentTypeJSON
	if strings.Contains(r.Header.Get("Accept"), protobuf) {
		mediaType = protobuf
	}
	s.mediaTypes[mediaType]++
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), mediaType)
	version := schema.GroupVersion{Version: "v1"}
	if strings.HasPrefix(r.URL.Path, "/apis/storage.k8s.io") && code == http.StatusOK {
		version.Group = storagev1.GroupName
	}
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(code)
	_ = scheme.Codecs.EncoderForVersion(info.Serializer, version).Encode(out, w)
}

func forbidden(resource string) *apierrors.StatusError {
	return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("no rule allows it"))
}

// change changes what the server has.
func (s *apiServer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// attach puts a volume, its PersistentVolume and a VolumeAttachment that is
// attached, each named after the volume.
func (s *apiServer) attach(volume, node string, access ...corev1.PersistentVolumeAccessMode) {
	s.change(func() { s.attachLocked(volume, node, access...) })
}

func (s *apiServer) attachLocked(volume, node string, access ...corev1.PersistentVolumeAccessMode) {
	if len(access) == 0 {
		access = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	}
	pv := "pv-" + volume
	s.volumes[pv] = &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: pv, Labels: map[string]string{"some": "label"}},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: access,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: volume},
			},
		},
	}
	name := "csi-" + volume + "-" + node
	s.attachments[name] = &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name)},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: driver, NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv},
		},
		Status: storagev1.VolumeAttachmentStatus{Attached: true},
	}
}

// edit changes the VolumeAttachment of a volume and node.
func (s *apiServer) edit(volume, node string, f func(*storagev1.VolumeAttachment)) {
	s.change(func() { f(s.attachments["csi-"+volume+"-"+node]) })
}

func (s *apiServer) detach(volume, node string) {
	s.change(func() { delete(s.attachments, "csi-"+volume+"-"+node) })
}

func (s *apiServer) node(names ...string) {
	s.change(func() {
		for _, n := range names {
			s.nodes[n] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n, UID: types.UID("uid-of-" + n)}}
		}
	})
}

func (s *apiServer) asked(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if strings.HasPrefix(r, path) {
			n++
		}
	}
	return n
}

func deleting(va *storagev1.VolumeAttachment) {
	va.DeletionTimestamp = &metav1.Time{Time: time.Unix(1_700_000_000, 0)}
}

// in is the VolumeAttachment of a volume as it was read.
func in(t testing.TB, r *Reading, volume, node string) VolumeAttachment {
	t.Helper()
	for _, a := range r.Attachments {
		if a.Name == "csi-"+volume+"-"+node {
			return a
		}
	}
	t.Fatalf("no VolumeAttachment of %s to %s in %+v", volume, node, r.Attachments)
	return VolumeAttachment{}
}

var rwx = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}

// place is a node of the cluster that the tests are about.
func place(node string) state.Place { return state.Place{Cluster: "east", Node: node} }
