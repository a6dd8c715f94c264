package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// storageAPI is as much of an API server as import and audit ask for.
type storageAPI struct {
	*httptest.Server

	mu          sync.Mutex
	uid         string
	attachments map[string]storagev1.VolumeAttachment
	volumes     map[string]corev1.PersistentVolume
	nodes       map[string]corev1.Node
	refused     map[string]int // status by the end of a path, or by "" for all
	next        []func()       // one is carried out after each list of VolumeAttachments
}

func newStorageAPI() *storageAPI {
	s := &storageAPI{
		uid: "uid-of-east", attachments: map[string]storagev1.VolumeAttachment{}, volumes: map[string]corev1.PersistentVolume{},
		nodes: map[string]corev1.Node{}, refused: map[string]int{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/kube-system", s.answering(func() any {
		return corev1.Namespace{TypeMeta: versioned("v1", "Namespace"), ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: types.UID(s.uid)}}
	}))
	mux.HandleFunc("GET /apis/storage.k8s.io/v1/volumeattachments", s.answering(func() any {
		list := storagev1.VolumeAttachmentList{TypeMeta: versioned("storage.k8s.io/v1", "VolumeAttachmentList"), Items: sortedByName(s.attachments)}
		if len(s.next) > 0 {
			s.next[0]()
			s.next = s.next[1:]
		}
		return list
	}))
	mux.HandleFunc("GET /api/v1/persistentvolumes", s.answering(func() any {
		return corev1.PersistentVolumeList{TypeMeta: versioned("v1", "PersistentVolumeList"), Items: sortedByName(s.volumes)}
	}))
	mux.HandleFunc("GET /api/v1/nodes", s.answering(func() any {
		return corev1.NodeList{TypeMeta: versioned("v1", "NodeList"), Items: sortedByName(s.nodes)}
	}))
	s.Server = httptest.NewServer(mux)
	return s
}

func versioned(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

func sortedByName[T any](all map[string]T) []T {
	var out []T
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name])
	}
	return out
}

func (s *storageAPI) answering(body func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		for end, status := range s.refused {
			if strings.HasSuffix(r.URL.Path, end) {
				w.WriteHeader(status)
				refusal := metav1.Status{TypeMeta: versioned("v1", "Status"), Status: metav1.StatusFailure, Code: int32(status), Message: "as ordered"}
				if status == http.StatusForbidden {
					refusal.Reason = metav1.StatusReasonForbidden
				}
				_ = json.NewEncoder(w).Encode(refusal)
				return
			}
		}
		_ = json.NewEncoder(w).Encode(body())
	}
}

// kubeconfig writes one with this server into a folder, and returns its path.
func (s *storageAPI) kubeconfig(dir string) (string, error) {
	path := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: it, clusters: [{name: it, cluster: {server: %q}}],
users: [{name: nobody, user: {}}], contexts: [{name: it, context: {cluster: it, user: nobody}}]}`, s.URL)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// change carries out a line of a script:
//
//	attach VOLUME NODE [ACCESS MODE...]    and its PersistentVolume
//	detach|attaching|deleting|inline VOLUME NODE
//	forget VOLUME                          its PersistentVolume
//	node NODE
//	refuse STATUS PATH'S END, allow
//	uid UID
//	then …                                 the same, once after the next list of VolumeAttachments
func (s *storageAPI) change(args ...string) error {
	if args[0] == "then" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.next = append(s.next, func() { _ = s.apply(args[1:]) })
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apply(args)
}

func (s *storageAPI) apply(args []string) error {
	name := "csi-" + strings.Join(args[1:min(len(args), 3)], "-")
	va, there := s.attachments[name]
	switch args[0] {
	case "attach":
		s.attach(args[1], args[2], args[3:])
		return nil
	case "node":
		s.nodes[args[1]] = corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: args[1], UID: types.UID("uid-of-" + args[1])}}
		return nil
	case "forget":
		delete(s.volumes, "pv-"+args[1])
		return nil
	case "refuse":
		status := 0
		if _, err := fmt.Sscan(args[1], &status); err != nil {
			return err
		}
		s.refused[args[2]] = status
		return nil
	case "allow":
		clear(s.refused)
		return nil
	case "uid":
		s.uid = args[1]
		return nil
	}
	if !there {
		return fmt.Errorf("no VolumeAttachment %s", name)
	}
	switch args[0] {
	case "detach":
		delete(s.attachments, name)
		return nil
	case "attaching":
		va.Status.Attached = false
	case "deleting":
		va.DeletionTimestamp = &metav1.Time{Time: time.Unix(1_700_000_000, 0)}
	case "inline":
		va.Spec.Source = storagev1.VolumeAttachmentSource{InlineVolumeSpec: &corev1.PersistentVolumeSpec{}}
	default:
		return fmt.Errorf("no such change: %q", args)
	}
	s.attachments[name] = va
	return nil
}

func (s *storageAPI) attach(volume, node string, access []string) {
	pv, name := "pv-"+volume, "csi-"+volume+"-"+node
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	for i, a := range access {
		modes = append(modes[:i:i], corev1.PersistentVolumeAccessMode(a))
	}
	s.volumes[pv] = corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: pv},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: modes,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				CSI: &corev1.CSIPersistentVolumeSource{Driver: "csi.example.com", VolumeHandle: volume},
			},
		},
	}
	s.attachments[name] = storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name)},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: "csi.example.com", NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv},
		},
		Status: storagev1.VolumeAttachmentStatus{Attached: true},
	}
}

// The scripts of import and audit, each with a ledger and an API server of its own.
func TestAdoptionScripts(t *testing.T) {
	t.Parallel()
	etcd := statetest.Shared(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "adoption"),
		UpdateScripts:       *rewrite,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			api := newStorageAPI()
			e.Defer(api.Close)
			e.Values["api"] = api
			config, err := api.kubeconfig(e.WorkDir)
			e.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
			e.Setenv("KUBERNETES_SERVICE_HOST", "")
			e.Setenv("KUBECONFIG", config)
			e.Setenv("HOLDFAST_CONTEXT", "it")
			e.Setenv("HOLDFAST_ENDPOINTS", etcd.Endpoint())
			e.Setenv("HOLDFAST_PREFIX", statetest.Prefix(t))
			e.Setenv("HOLDFAST_BY", "tester")
			e.Setenv("HOLDFAST_ATTACHER", "csi.example.com")
			e.Setenv("HOLDFAST_SETTLE", "10ms")
			e.Setenv("HOLDFAST_DIAL_TIMEOUT", "30s")
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"await": await,
			"kube": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(ts.Value("api").(*storageAPI).change(args...))
			},
		},
	})
}
