package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubefake "k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/holdfast-storage/holdfast/events"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// eventAPI is a kube that has PersistentVolumes too, and takes Events. vol-1 is
// the claim cart's in the namespace shop.
type eventAPI struct {
	server *httptest.Server

	mu      sync.Mutex
	events  []eventsv1.Event
	asked   []string // of PersistentVolumes and Events
	refused int      // a status for Events
}

func newEventAPI(t *testing.T, uid string, nodes ...string) (*eventAPI, *kube) {
	t.Helper()
	k := newKube(t, uid, nodes...)
	a := &eventAPI{}
	a.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/api/v1/persistentvolumes":
			a.volumes(w, r)
		case strings.HasPrefix(r.URL.Path, "/apis/events.k8s.io/v1/namespaces/"):
			a.event(w, r)
		default:
			k.server.Config.Handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() { k.release(); k.disconnect(); a.server.CloseClientConnections(); a.server.Close() })
	return a, k
}

func (a *eventAPI) kubeconfig(t *testing.T) string {
	t.Helper()
	return (&kube{server: a.server}).kubeconfigIn(t, "it")
}

func (a *eventAPI) note(format string, args ...any) (status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, fmt.Sprintf(format, args...))
	return a.refused
}

func (a *eventAPI) volumes(w http.ResponseWriter, r *http.Request) {
	watches := r.URL.Query().Get("watch") == "true"
	a.note("volumes, watch %v", watches)
	if watches {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	pv := corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-1"}}
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: "d.example", VolumeHandle: "vol-1"}
	pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "shop", Name: "cart", UID: "uid-of-cart"}
	says(w, http.StatusOK, corev1.PersistentVolumeList{TypeMeta: kind("PersistentVolumeList"), ListMeta: metav1.ListMeta{ResourceVersion: "7"}, Items: []corev1.PersistentVolume{pv}})
}

func (a *eventAPI) event(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if status := a.note("%s event", r.Method); status != 0 {
		says(w, status, refusal(status, metav1.StatusReasonForbidden, `events.events.k8s.io is forbidden: User "bob" cannot create resource "events"`))
		return
	}
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	e, ok := decoded.(*eventsv1.Event)
	if err != nil || !ok {
		http.Error(w, fmt.Sprintf("%T, %v", decoded, err), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	e.ResourceVersion, e.UID = strconv.Itoa(100+len(a.events)), types.UID(e.Name)
	a.events = append(a.events, *e)
	a.mu.Unlock()
	e.TypeMeta = metav1.TypeMeta{APIVersion: "events.k8s.io/v1", Kind: "Event"}
	says(w, http.StatusCreated, e)
}

// taken are the Events, each as its reason and its object, and what was asked for.
func (a *eventAPI) taken() (events, asked []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		events = append(events, fmt.Sprintf("%s %s %s/%s", e.Reason, e.Regarding.Kind, e.Regarding.Namespace, e.Regarding.Name))
	}
	return events, slices.Clone(a.asked)
}

// A conflict, and a foreign grace, is told on the volume's claim if the command
// line says in which cluster. Its exit code is the same whatever comes of that.
func TestAttach_ReportsConflicts(t *testing.T) {
	t.Parallel()
	etcd, prefix := statetest.Shared(t).Endpoint(), statetest.Prefix(t)
	holdfast := func(line ...string) (int, string) {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append(line, "--endpoints", etcd, "--prefix", prefix, "--dial-timeout", "30s"), &stdout, &stderr)
		return code, stderr.String()
	}
	does := func(line string) {
		t.Helper()
		if code, stderr := holdfast(strings.Fields(line)...); code != exitDone {
			t.Fatalf("holdfast %s: exit code %d, %s", line, code, stderr)
		}
	}
	// attempts that are to fail with the code of a conflict.
	conflicts := func(volume string, flags ...string) string {
		t.Helper()
		code, stderr := holdfast(append([]string{"attach", volume, "node-1", "--cluster", "east"}, flags...)...)
		last := strings.Split(strings.TrimSpace(stderr), "\n")
		if code != exitConflict || !strings.Contains(last[len(last)-1], volume) {
			t.Errorf("attach %s %q: exit code %d, %q; want %d, and the volume in its last line", volume, flags, code, stderr, exitConflict)
		}
		return strings.Join(last[:len(last)-1], "\n")
	}
	expect := func(a *eventAPI, want ...string) {
		t.Helper()
		if got, asked := a.taken(); !slices.Equal(got, want) {
			t.Errorf("the Events are %q, want %q; asked for was %q", got, want, asked)
		}
	}
	does("attach vol-0 node-9 --cluster east --cluster-uid uid-of-east --driver d.example")
	does("attach vol-1 node-9 --cluster west --cluster-uid uid-of-west")
	does("attach vol-2 node-9 --cluster west")
	does("attach vol-3 node-9 --cluster west")
	does("detach vol-3 node-9 --cluster west --grace-period 1h")
	const onClaim, onCluster = "AttachConflict PersistentVolumeClaim shop/cart", "AttachConflict Namespace /kube-system"

	api, k := newEventAPI(t, "uid-of-east")
	kubeconfig := api.kubeconfig(t)
	if said := conflicts("vol-1"); said != "" {
		t.Errorf("without a kubeconfig it says %q", said)
	}
	does("attach vol-0 node-9 --cluster east --kubeconfig " + kubeconfig)
	if code, _ := holdfast("attach", "vol-1", "Not a node", "--cluster", "east", "--kubeconfig", kubeconfig); code != exitUsage {
		t.Errorf("exit code %d of what is invalid", code)
	}
	if _, asked := api.taken(); len(asked) != 0 {
		t.Errorf("asked for %q without a reason", asked)
	}
	if said := conflicts("vol-1", "--kubeconfig", kubeconfig); said != "" {
		t.Errorf("it says %q", said)
	}
	expect(api, onClaim)
	conflicts("vol-2", "--kubeconfig", kubeconfig, "--context", "it")
	conflicts("vol-3", "--kubeconfig", kubeconfig)
	expect(api, onClaim, onCluster, onCluster)

	for flag, why := range map[string]string{
		"--kubeconfig=" + filepath.Join(t.TempDir(), "none"): "no such file",
		"--context=none": "none",
	} {
		if said := conflicts("vol-1", flag); !strings.HasPrefix(said, "holdfast: no Event was written of what follows: ") || !strings.Contains(said, why) {
			t.Errorf("with %s it says %q, want %q in it", flag, said, why)
		}
	}
	other, _ := newEventAPI(t, "uid-of-another")
	if said := conflicts("vol-1", "--kubeconfig", other.kubeconfig(t)); !strings.Contains(said, `"uid-of-another": expected that of cluster "east", "uid-of-east"`) {
		t.Errorf("with another cluster's kubeconfig it says %q", said)
	}
	expect(other)
	api.refused = http.StatusForbidden
	if said := conflicts("vol-1", "--kubeconfig", kubeconfig); !strings.Contains(said, `cannot create resource "events"`) {
		t.Errorf("where Events are forbidden it says %q", said)
	}
	// All of it together takes so long at most: with an API server that hangs it
	// does not come to the Event.
	api.refused = 0
	_, before := api.taken()
	k.stall()
	said := conflicts("vol-1", "--kubeconfig", kubeconfig)
	k.release()
	if _, asked := api.taken(); !strings.Contains(said, "no Event was written") || len(asked) != len(before) {
		t.Errorf("where the API server hangs it says %q, and then asked for %q", said, asked[len(before):])
	}
	expect(api, onClaim, onCluster, onCluster)
}

// A controller tells of what it does, but not with --events=false.
func TestController_WritesEvents(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprint("events ", on), func(t *testing.T) {
			t.Parallel()
			etcd, prefix := statetest.Shared(t), statetest.Prefix(t)
			api, k := newEventAPI(t, "uid-of-east", "node-1", "node-2")
			flags, err := controllerLine(t, "--cluster", "east", "--kubeconfig", api.kubeconfig(t), "--endpoints", etcd.Endpoint(), "--prefix", prefix,
				"--listen", "", "--quarantine", "0", "--driver", "d.example", fmt.Sprintf("--events=%v", on))
			if err != nil {
				t.Fatal(err)
			}
			d, err := flags.daemon(io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- d.run(ctx) }()
			defer func() {
				stop()
				if err := <-ended; err != nil {
					t.Errorf("the controller: %v", err)
				}
			}()
			wait := func(what string, is func() bool) {
				t.Helper()
				if err := until(t.Context(), patience, what, func(context.Context) (bool, error) { return is(), nil }); err != nil {
					t.Fatal(err)
				}
			}
			wait("the controller is ready", func() bool { return len(d.ready.list()) == 0 })
			ledger, err := state.Open(t.Context(), state.Config{Endpoints: etcd.Endpoints(), Prefix: prefix, By: "test"})
			if err != nil {
				t.Fatal(err)
			}
			defer ledger.Close()
			east, err := ledger.Cluster(t.Context(), state.Identity{Name: "east"})
			if err != nil {
				t.Fatal(err)
			}
			for i, volume := range []string{"vol-1", "vol-2"} {
				if _, err := east.Attach(t.Context(), state.AttachRequest{Volume: volume, Node: name("node", i+1)}); err != nil {
					t.Fatal(err)
				}
			}
			k.drop("node-1")
			wait("vol-1 is removed", func() bool {
				v, err := ledger.Volume(t.Context(), "vol-1")
				return err == nil && len(v.Holds) == 0
			})
			if !on {
				if _, asked := api.taken(); len(asked) != 0 {
					t.Errorf("asked for %q", asked)
				}
				return
			}
			wait("the Event is written", func() bool { events, _ := api.taken(); return len(events) == 1 })
			if got, _ := api.taken(); got[0] != "OrphanRemoved PersistentVolumeClaim shop/cart" {
				t.Errorf("the Events are %q", got)
			}
		})
	}
}

// The Pod that a controller runs in is told of what has no claim, but only where
// that Pod is one of the cluster.
func TestTeller_Pod(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "holdfast-system")
	t.Setenv("POD_NAME", "holdfast-0")
	t.Setenv("POD_UID", "uid-of-pod")
	if p := events.PodFromEnvironment(); p == nil || *p != (events.Pod{Namespace: "holdfast-system", Name: "holdfast-0", UID: "uid-of-pod"}) {
		t.Errorf("the Pod is %+v", p)
	}
	if (&daemon{flags: &controllerFlags{clusters: clusterSpecs{{name: "east"}}}}).ownPod() == nil {
		t.Error("the Pod is not taken for one of the cluster that it runs in")
	}
	for _, f := range []controllerFlags{
		{clusters: clusterSpecs{{name: "east"}}, nodeFlags: nodeFlags{kubeconfig: "k"}},
		{clusters: clusterSpecs{{name: "east"}}, nodeFlags: nodeFlags{context: "c"}},
		{clusters: clusterSpecs{{name: "east", kubeconfig: "k"}}},
	} {
		if p := (&daemon{flags: &f}).ownPod(); p != nil {
			t.Errorf("with %+v of %+v the Pod is taken for one of the cluster", f.nodeFlags, f.clusters)
		}
	}
	t.Setenv("POD_NAME", "")
	if p := events.PodFromEnvironment(); p != nil {
		t.Errorf("without a name the Pod is %+v", p)
	}
}

// telling registers what a controller of a Kubernetes cluster serves beside.
func telling(t *testing.T, to prometheus.Registerer) {
	t.Helper()
	r, err := events.New(events.Config{Cluster: "east", Client: kubefake.NewClientset().EventsV1(), Registerer: to})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
}
