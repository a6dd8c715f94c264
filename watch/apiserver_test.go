package watch

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
)

// apiServer is as much of a Kubernetes API server as a source of Nodes meets.
type apiServer struct {
	*httptest.Server
	streams bool // it serves a list as a stream

	mu      sync.Mutex
	uid     string // of kube-system
	version int
	nodes   map[string]corev1.Node
	history []apiEvent
	expired int                     // versions up to it are compacted away
	fail    func(*http.Request) int // a status to answer with, 0 for none
	silent  bool                    // watches bring nothing
	cut     chan struct{}           // closed to end the watches
	changed chan struct{}
	lists   int // streamed ones too
	plain   int // those that were not
	watches int
}

type apiEvent struct {
	version int
	Type    string      `json:"type"`
	Object  corev1.Node `json:"object"`
}

func newAPIServer(t *testing.T, streams bool, names ...string) *apiServer {
	t.Helper()
	s := &apiServer{
		streams: streams, uid: "ks-uid", nodes: map[string]corev1.Node{}, version: 100,
		cut: make(chan struct{}), changed: make(chan struct{}),
	}
	for _, n := range names {
		s.put(n)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", s.guarded(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	mux.HandleFunc("GET /api/v1/nodes", s.guarded(s.serveNodes))
	mux.HandleFunc("GET /api/v1/nodes/{name}", s.guarded(s.serveNode))
	mux.HandleFunc("GET /api/v1/namespaces/kube-system", s.guarded(func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		uid := types.UID(s.uid)
		s.mu.Unlock()
		answer(w, 200, corev1.Namespace{TypeMeta: typed("Namespace"), ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: uid}})
	}))
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	t.Cleanup(s.disconnect) // before Close, which waits for the watches
	return s
}

// source is the source of the server's Nodes, impatient.
func (s *apiServer) source(t *testing.T) *Kubernetes {
	t.Helper()
	k, err := NewKubernetes(&rest.Config{Host: s.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	k.again = &wait.Backoff{Duration: time.Millisecond, Cap: 10 * time.Millisecond, Factor: 2, Steps: 5}
	return k
}

func typed(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }

func (s *apiServer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *apiServer) put(name string, taints ...corev1.Taint) {
	s.change(func() {
		s.version++
		n := corev1.Node{
			TypeMeta: typed("Node"),
			ObjectMeta: metav1.ObjectMeta{
				Name: name, UID: types.UID("uid-" + name), ResourceVersion: strconv.Itoa(s.version),
				Labels: map[string]string{"some": "label"},
			},
			Spec:   corev1.NodeSpec{Taints: taints},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
		}
		typ := "MODIFIED"
		if _, there := s.nodes[name]; !there {
			typ = "ADDED"
		}
		s.nodes[name] = n
		s.history = append(s.history, apiEvent{s.version, typ, n})
	})
}

func (s *apiServer) drop(name string) {
	s.change(func() {
		s.version++
		n := s.nodes[name]
		n.ResourceVersion = strconv.Itoa(s.version)
		delete(s.nodes, name)
		s.history = append(s.history, apiEvent{s.version, "DELETED", n})
	})
}

func (s *apiServer) bookmark() {
	s.change(func() {
		s.version++
		s.history = append(s.history, apiEvent{s.version, "BOOKMARK", s.mark("")})
	})
}

func (s *apiServer) mark(annotation string) corev1.Node {
	n := corev1.Node{TypeMeta: typed("Node"), ObjectMeta: metav1.ObjectMeta{ResourceVersion: strconv.Itoa(s.version)}}
	if annotation != "" {
		n.Annotations = map[string]string{annotation: "true"}
	}
	return n
}

// disconnect ends the watches there are.
func (s *apiServer) disconnect() {
	s.change(func() {
		close(s.cut)
		s.cut = make(chan struct{})
	})
}

// failing makes requests whose path and query have text in them fail.
func (s *apiServer) failing(text string, status int) {
	s.change(func() {
		s.fail = func(r *http.Request) int {
			if strings.Contains(r.URL.String(), text) {
				return status
			}
			return 0
		}
	})
}

func (s *apiServer) healthy() { s.change(func() { s.fail = nil }) }

func (s *apiServer) guarded(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		status := 0
		if s.fail != nil {
			status = s.fail(r)
		}
		s.mu.Unlock()
		if status != 0 {
			http.Error(w, "as ordered", status)
			return
		}
		h(w, r)
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func failure(code int, reason metav1.StatusReason, details *metav1.StatusDetails) metav1.Status {
	return metav1.Status{
		TypeMeta: typed("Status"), Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: string(reason), Details: details,
	}
}

func (s *apiServer) serveNode(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := r.PathValue("name")
	if n, ok := s.nodes[name]; ok {
		answer(w, 200, n)
		return
	}
	answer(w, 404, failure(404, metav1.StatusReasonNotFound, &metav1.StatusDetails{Name: name, Kind: "nodes"}))
}

func (s *apiServer) serveNodes(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("watch") != "" && q.Get("watch") != "false" && q.Get("watch") != "0" {
		s.serveWatch(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	s.plain++
	list := corev1.NodeList{TypeMeta: typed("NodeList"), ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)}}
	for _, n := range s.nodes {
		list.Items = append(list.Items, n)
	}
	answer(w, 200, list)
}

func (s *apiServer) serveWatch(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	initial := q.Get("sendInitialEvents") == "true"
	from, _ := strconv.Atoi(q.Get("resourceVersion"))
	s.mu.Lock()
	s.watches++
	cut := s.cut
	expired := !initial && from < s.expired
	s.mu.Unlock()
	switch {
	case initial && !s.streams:
		answer(w, 422, failure(422, metav1.StatusReasonInvalid, nil))
		return
	case expired:
		answer(w, 410, failure(410, metav1.StatusReasonExpired, nil))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	flush := func() { w.(http.Flusher).Flush() }
	flush()
	encode := json.NewEncoder(w)
	if initial {
		s.mu.Lock()
		s.lists++
		for _, n := range s.nodes {
			_ = encode.Encode(apiEvent{s.version, "ADDED", n})
		}
		_ = encode.Encode(apiEvent{s.version, "BOOKMARK", s.mark(metav1.InitialEventsAnnotationKey)})
		from = s.version
		s.mu.Unlock()
		flush()
	}
	for {
		s.mu.Lock()
		changed := s.changed
		if !s.silent {
			for _, e := range s.history {
				if e.version > from {
					from = e.version
					_ = encode.Encode(e)
				}
			}
		}
		s.mu.Unlock()
		flush()
		select {
		case <-changed:
		case <-cut:
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (s *apiServer) counts() (lists, watches int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists, s.watches
}
