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
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// kube is as much of an API server as a controller asks for.
type kube struct {
	server *httptest.Server
	uid    string

	mu      sync.Mutex
	version int
	nodes   map[string]int // and the version of each
	history []kubeEvent
	witness corev1.ConfigMap
	refused map[string]int // status by verb and resource, or by "" for all
	hang    chan struct{}  // not nil: requests wait until it is closed
	cut     chan struct{}  // closed to end the watches
	changed chan struct{}
}

type kubeEvent struct {
	version int
	Type    string      `json:"type"`
	Object  corev1.Node `json:"object"`
}

func newKube(t *testing.T, uid string, nodes ...string) *kube {
	t.Helper()
	k := &kube{
		uid: uid, nodes: map[string]int{}, version: 100, refused: map[string]int{},
		cut: make(chan struct{}), changed: make(chan struct{}),
	}
	for _, n := range nodes {
		k.add(n)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", k.allowed("get /readyz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	mux.HandleFunc("GET /api/v1/namespaces/kube-system", k.allowed("get namespaces", func(w http.ResponseWriter, _ *http.Request) {
		k.mu.Lock()
		uid := types.UID(k.uid)
		k.mu.Unlock()
		says(w, http.StatusOK, corev1.Namespace{TypeMeta: kind("Namespace"), ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: uid}})
	}))
	k.witness = corev1.ConfigMap{TypeMeta: kind("ConfigMap"), ObjectMeta: metav1.ObjectMeta{Name: "holdfast-witness", ResourceVersion: "1"}}
	const witness = " /api/v1/namespaces/holdfast-system/configmaps/holdfast-witness"
	mux.HandleFunc("GET"+witness, k.allowed("get configmaps", k.getWitness))
	mux.HandleFunc("POST /api/v1/namespaces/holdfast-system/configmaps", k.allowed("create configmaps", http.NotFound))
	mux.HandleFunc("PATCH"+witness, k.allowed("patch configmaps", k.patchWitness))
	mux.HandleFunc("GET /api/v1/nodes/{name}", k.allowed("get nodes", k.one))
	list, follow := k.allowed("list nodes", k.list), k.allowed("watch nodes", k.follow)
	mux.HandleFunc("GET /api/v1/nodes", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("watch") {
			follow(w, r)
		} else {
			list(w, r)
		}
	})
	k.server = httptest.NewServer(mux)
	t.Cleanup(func() { k.release(); k.disconnect(); k.server.CloseClientConnections(); k.server.Close() })
	return k
}

// kubeconfig writes one with this server as the context named.
func (k *kube) kubeconfig(t *testing.T, path, context string) {
	t.Helper()
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: %[1]q, clusters: [{name: it, cluster: {server: %[2]q}}],
users: [{name: nobody, user: {}}], contexts: [{name: %[1]q, context: {cluster: it, user: nobody}}]}`, context, k.server.URL)
	// As a Secret that is mounted is written: it is there as a whole.
	if err := os.WriteFile(path+".next", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		t.Fatal(err)
	}
}

// kubeconfigIn is kubeconfig in a folder of the test's.
func (k *kube) kubeconfigIn(t *testing.T, context string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	k.kubeconfig(t, path, context)
	return path
}

func (k *kube) change(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *kube) add(name string) { k.apply(name, "ADDED", func() { k.nodes[name] = k.version }) }

func (k *kube) drop(name string) { k.apply(name, "DELETED", func() { delete(k.nodes, name) }) }

func (k *kube) apply(name, event string, store func()) {
	k.change(func() {
		k.version++
		store()
		k.history = append(k.history, kubeEvent{k.version, event, node(name, k.version)})
	})
}

// refuse makes requests of a verb and resource fail with a status, 0 for none.
func (k *kube) refuse(status int, what ...string) {
	k.change(func() {
		for _, w := range what {
			k.refused[w] = status
		}
	})
}

// disconnect ends the watches there are.
func (k *kube) disconnect() {
	k.change(func() {
		close(k.cut)
		k.cut = make(chan struct{})
	})
}

// stall makes every request wait, until release.
func (k *kube) stall() { k.change(func() { k.hang = make(chan struct{}) }) }

func (k *kube) release() {
	k.change(func() {
		if k.hang != nil {
			close(k.hang)
			k.hang = nil
		}
	})
}

func (k *kube) allowed(what string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		status, hang := max(k.refused[what], k.refused[""]), k.hang
		k.mu.Unlock()
		if hang != nil {
			select {
			case <-hang:
			case <-r.Context().Done():
				return
			}
		}
		verb, resource, _ := strings.Cut(what, " ")
		switch status {
		case 0:
			next(w, r)
		case http.StatusForbidden:
			says(w, status, refusal(status, metav1.StatusReasonForbidden, fmt.Sprintf(
				"%s is forbidden: User %q cannot %s resource %q in API group \"\" at the cluster scope", resource, theAccount, verb, resource)))
		case http.StatusUnauthorized:
			says(w, status, refusal(status, metav1.StatusReasonUnauthorized, "Unauthorized"))
		default:
			http.Error(w, "as ordered", status)
		}
	}
}

const theAccount = "system:serviceaccount:holdfast-system:holdfast"

func kind(k string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: k} }

func node(name string, version int) corev1.Node {
	return corev1.Node{TypeMeta: kind("Node"), ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: types.UID("uid-of-" + name), ResourceVersion: strconv.Itoa(version),
	}}
}

func refusal(code int, reason metav1.StatusReason, message string) metav1.Status {
	return metav1.Status{TypeMeta: kind("Status"), Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message}
}

func says(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (k *kube) one(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	version, there := k.nodes[r.PathValue("name")]
	k.mu.Unlock()
	if there {
		says(w, http.StatusOK, node(r.PathValue("name"), version))
		return
	}
	absent := refusal(http.StatusNotFound, metav1.StatusReasonNotFound, "not found")
	absent.Details = &metav1.StatusDetails{Name: r.PathValue("name"), Kind: "nodes"}
	says(w, http.StatusNotFound, absent)
}

func (k *kube) list(w http.ResponseWriter, _ *http.Request) {
	k.mu.Lock()
	all := corev1.NodeList{TypeMeta: kind("NodeList"), ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(k.version)}}
	for _, name := range slices.Sorted(maps.Keys(k.nodes)) {
		all.Items = append(all.Items, node(name, k.nodes[name]))
	}
	k.mu.Unlock()
	says(w, http.StatusOK, all)
}

func (k *kube) follow(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("sendInitialEvents") == "true" { // it is to list first
		says(w, http.StatusUnprocessableEntity, refusal(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "no streamed lists"))
		return
	}
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	k.mu.Lock()
	cut := k.cut
	k.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		k.mu.Lock()
		changed := k.changed
		for _, e := range k.history {
			if e.version > from {
				from = e.version
				_ = json.NewEncoder(w).Encode(e)
			}
		}
		k.mu.Unlock()
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

func (k *kube) getWitness(w http.ResponseWriter, _ *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	says(w, http.StatusOK, k.witness)
}

// patchWitness is a merge patch, refused where it names another version.
func (k *kube) patchWitness(w http.ResponseWriter, r *http.Request) {
	var patch corev1.ConfigMap
	k.mu.Lock()
	defer k.mu.Unlock()
	switch err := json.NewDecoder(r.Body).Decode(&patch); {
	case err != nil || r.Header.Get("Content-Type") != string(types.MergePatchType):
		says(w, http.StatusBadRequest, refusal(http.StatusBadRequest, metav1.StatusReasonBadRequest, "not a merge patch"))
	case patch.ResourceVersion != k.witness.ResourceVersion:
		says(w, http.StatusConflict, refusal(http.StatusConflict, metav1.StatusReasonConflict, "it was changed"))
	default:
		k.version++
		data := maps.Clone(k.witness.Data)
		if data == nil {
			data = map[string]string{}
		}
		maps.Copy(data, patch.Data)
		k.witness.Data, k.witness.ResourceVersion = data, strconv.Itoa(k.version)
		says(w, http.StatusOK, k.witness)
	}
}
