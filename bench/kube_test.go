package bench

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// apiServer answers with its Nodes, and remembers what was deleted.
type apiServer struct {
	nodes []string
	mu    sync.Mutex
	gone  []string
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	selector := r.URL.Query().Get("labelSelector")
	if r.Method == http.MethodDelete {
		s.gone = append(s.gone, r.URL.Path+" "+selector)
		_ = json.NewEncoder(w).Encode(metav1.Status{Status: metav1.StatusSuccess})
		return
	}
	list := corev1.NodeList{TypeMeta: metav1.TypeMeta{Kind: "NodeList", APIVersion: "v1"}}
	for _, name := range s.nodes {
		if selector == "app.kubernetes.io/managed-by!=holdfast-bench" {
			list.Items = append(list.Items, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		}
	}
	_ = json.NewEncoder(w).Encode(list)
}

func TestMeasure_RefusesAClusterInUse(t *testing.T) {
	for name, test := range map[string]struct {
		nodes []string
		allow bool
		runs  bool
	}{
		"empty":             {nil, false, true},
		"in use":            {[]string{"worker-1"}, false, false},
		"in use, and known": {[]string{"worker-1"}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			api := &apiServer{nodes: test.nodes}
			server := httptest.NewServer(api)
			defer server.Close()
			cfg, _ := configFor(t)
			cfg.Kube, cfg.AllowUsedCluster = &rest.Config{Host: server.URL}, test.allow
			ran := false
			_, err := Measure(t.Context(), cfg, []Workload{workload("w", func(context.Context, *Run) error { ran = true; return nil })})
			if ran != test.runs || (err == nil) != test.runs {
				t.Errorf("ran: %v, error %v; want %v", ran, err, test.runs)
			}
			if err != nil && !strings.Contains(err.Error(), "worker-1") {
				t.Errorf("error %v does not say what is there", err)
			}
			want := 0
			if test.runs {
				want = 2
			}
			if len(api.gone) != want {
				t.Errorf("deleted %q, want %d kinds", api.gone, want)
			}
			for _, g := range api.gone {
				if !strings.HasSuffix(g, " app.kubernetes.io/managed-by=holdfast-bench") {
					t.Errorf("deleted %q: want only what has the label", g)
				}
			}
		})
	}
}
