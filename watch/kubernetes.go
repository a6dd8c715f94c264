package watch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	kubewatch "k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	// A live check is three requests for each node that is about to lose its
	// attachments. client-go's own 5 a second would make them queue.
	requestsPerSecond = 100
	requestBurst      = 200

	// liveTimeout bounds a look-up, whatever its context allows.
	liveTimeout = 5 * time.Second
	// identityTimeout does so for the question who the cluster is, which its
	// asker asks again.
	identityTimeout = 15 * time.Second
	// hungAfter is how long a watch may be silent before it is begun again. The
	// API server sends a bookmark about once a minute. It is longer than a
	// source is relied on without a word, so a watch that hangs is seen to.
	hungAfter = 3 * time.Minute
	// listTimeout is the same for a watch that begins with a whole list.
	listTimeout = 10 * time.Minute

	protobuf = "application/vnd.kubernetes.protobuf"
)

// Kubernetes is the NodeSource of a Kubernetes cluster.
type Kubernetes struct {
	core   corev1client.CoreV1Interface
	readyz func(context.Context) error
	hung   time.Duration
	again  *wait.Backoff          // between attempts to list; nil is the Reflector's own: 0.8 s to 1 min
	uid    atomic.Pointer[string] // what ClusterUID has said first
}

var _ NodeSource = (*Kubernetes)(nil)

// NewKubernetes makes a source of a cluster's Nodes. It does not connect yet.
// Unless cfg says otherwise it may send 100 requests a second, and takes
// protobuf, which costs the API server less.
func NewKubernetes(cfg *rest.Config) (*Kubernetes, error) {
	cfg = rest.CopyConfig(cfg)
	if cfg.QPS == 0 && cfg.RateLimiter == nil {
		cfg.QPS, cfg.Burst = requestsPerSecond, max(cfg.Burst, requestBurst)
	}
	if cfg.ContentType == "" {
		cfg.ContentType, cfg.AcceptContentTypes = protobuf, protobuf+","+runtime.ContentTypeJSON
	}
	cfg.Timeout = 0 // it would end a watch too
	core, err := corev1client.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client of the Kubernetes API: %w", err)
	}
	return NewKubernetesFrom(core, nil), nil
}

// NewKubernetesFrom makes a source of a client of the caller's own. readyz asks
// whether the API server is ready; nil asks its /readyz through the client.
func NewKubernetesFrom(core corev1client.CoreV1Interface, readyz func(context.Context) error) *Kubernetes {
	if readyz == nil {
		readyz = func(ctx context.Context) error {
			return core.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		}
	}
	return &Kubernetes{core: core, readyz: readyz, hung: hungAfter}
}

// Run lists and watches the Nodes. Only the fields of Node are kept.
func (k *Kubernetes) Run(ctx context.Context, revision func(context.Context) (int64, error), sink NodeSink) error {
	feed := &nodeFeed{
		k: k, ended: ctx.Err, sink: sink,
		revision: func() (int64, error) { return revision(ctx) },
	}
	lister := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc:  feed.list,
		WatchFuncWithContext: feed.watch,
	}, k.core)
	// A Reflector, not an informer: the Watcher has a store of its own. So there
	// is no second copy, no delay between the two, and no tombstone
	// (DeletedFinalStateUnknown), for a relist comes as a whole.
	cache.NewReflectorWithOptions(lister, &corev1.Node{}, nodeStore{feed}, cache.ReflectorOptions{
		Name: "nodes", Backoff: k.again,
	}).RunWithContext(ctx)
	feed.stop()
	return ctx.Err()
}

// nodeFeed is one Run: it knows each request that the Reflector makes.
type nodeFeed struct {
	k        *Kubernetes
	ended    func() error // not nil once Run is to end
	revision func() (int64, error)
	sink     NodeSink
	silence  *time.Timer // ends a watch that hangs
	endWatch func()      // ends the watch that was begun last; nil before the first
	listed   bool        // there was a list
	failing  bool        // what was heard last was an error
}

// heard passes on what was heard, but for errors of Run's own end.
func (f *nodeFeed) heard(err error) {
	if f.ended() == nil {
		f.failing = err != nil
		f.sink.Heard(err)
	}
}

// relisting: what happens until the new list is there goes unseen, so the old
// one is not relied on meanwhile. An error that says why, and for which it is
// not relied on anyway, is left to stand.
func (f *nodeFeed) relisting() {
	if f.listed && !f.failing {
		f.heard(errRelisting)
	}
}

var errRelisting = errors.New("the Nodes are being listed anew")

func (f *nodeFeed) list(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	if opts.Continue == "" { // not a further page
		f.relisting()
	}
	nodes, err := f.k.core.Nodes().List(ctx, opts)
	if err != nil {
		err = fmt.Errorf("listing Nodes: %w", err)
		f.heard(err)
		return nil, err
	}
	return nodes, nil // the store tells when the list is whole
}

func (f *nodeFeed) watch(ctx context.Context, opts metav1.ListOptions) (kubewatch.Interface, error) {
	limit := f.k.hung
	lists := opts.SendInitialEvents != nil && *opts.SendInitialEvents
	if lists {
		limit = max(limit, listTimeout)
		f.relisting()
	}
	w, err := f.k.core.Nodes().Watch(ctx, opts)
	if err != nil {
		f.heard(fmt.Errorf("watching Nodes: %w", err))
		if lists && (utilnet.IsConnectionRefused(err) || apierrors.IsTooManyRequests(err)) {
			// The Reflector would wait for up to a minute before it tries this
			// again, deaf to its context. Not recognising the error it goes on
			// to a plain list, and waits after that one's failure, listening.
			return nil, errors.New(err.Error())
		}
		return nil, err
	}
	if !lists {
		f.heard(nil)
	}
	f.expect(limit, w.Stop)
	return w, nil
}

// expect ends the watch that was begun if nothing comes of it for a while. The
// next one's end replaces it. Like the store's methods it is called from the
// Reflector's goroutine alone.
func (f *nodeFeed) expect(within time.Duration, end func()) {
	f.stop()
	f.silence, f.endWatch = time.AfterFunc(within, end), end
}

func (f *nodeFeed) stop() {
	if f.silence != nil {
		f.silence.Stop()
	}
}

// alive: the watch has brought something.
func (f *nodeFeed) alive() {
	if f.silence != nil {
		f.silence.Reset(f.k.hung)
	}
}

// nodeStore is where the Reflector puts what it sees: into the sink. It is
// called from one goroutine.
type nodeStore struct{ feed *nodeFeed }

var (
	_ cache.TransformingStore      = nodeStore{}
	_ cache.ReflectorBookmarkStore = nodeStore{}
)

// Transformer makes the Reflector keep, of a list that is streamed to it, no
// more of a Node than fromKubernetes reads.
func (nodeStore) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		n, ok := obj.(*corev1.Node)
		if !ok {
			return obj, nil
		}
		slim := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: n.Name, UID: n.UID, DeletionTimestamp: n.DeletionTimestamp, ResourceVersion: n.ResourceVersion,
		}}
		for _, t := range n.Spec.Taints {
			if t.Key == corev1.TaintNodeOutOfService {
				slim.Spec.Taints = append(slim.Spec.Taints, corev1.Taint{Key: t.Key})
			}
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				slim.Status.Conditions = append(slim.Status.Conditions, corev1.NodeCondition{Type: c.Type, Status: c.Status})
			}
		}
		return slim, nil
	}
}

// Replace passes a whole list on, with etcd's revision of after it: since then
// nothing goes unseen, being in the watch that goes on from the list. Of a node
// that came and went before the list neither would tell, so a departure is
// trusted only if it is newer than a revision that is newer than the list.
func (s nodeStore) Replace(objects []any, _ string) error {
	nodes := make([]Node, 0, len(objects))
	for _, o := range objects {
		n, ok := o.(*corev1.Node)
		if !ok {
			return fmt.Errorf("a list of Nodes has a %T in it", o)
		}
		nodes = append(nodes, fromKubernetes(n))
	}
	since, err := s.feed.revision()
	if err != nil {
		err = fmt.Errorf("etcd's revision, since which the list of Nodes is continuous: %w", err)
		s.feed.heard(err)
		if s.feed.endWatch != nil {
			s.feed.endWatch() // the Reflector leaves the watch of a list that cannot be taken open
		}
		return err
	}
	s.feed.alive()
	s.feed.listed, s.feed.failing = true, false
	s.feed.sink.ReplaceNodes(nodes, since)
	return nil
}

func (s nodeStore) Add(obj any) error    { return s.apply(obj, false) }
func (s nodeStore) Update(obj any) error { return s.apply(obj, false) }
func (s nodeStore) Delete(obj any) error { return s.apply(obj, true) }

// Resync has nothing to do: nothing is kept here.
func (nodeStore) Resync() error { return nil }

func (s nodeStore) apply(obj any, deleted bool) error {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return fmt.Errorf("a watch of Nodes has a %T in it", obj)
	}
	s.feed.alive()
	s.feed.failing = false
	s.feed.sink.ApplyNode(fromKubernetes(n), deleted)
	return nil
}

// Bookmark is the API server's word that there was nothing to say.
func (s nodeStore) Bookmark(string) error {
	s.feed.alive()
	s.feed.heard(nil)
	return nil
}

// Live asks the API server whether it is ready and still that of the cluster that
// ClusterUID has named, and then for the Node, past its caches. An API server that is starting can say of a Node that is there that it
// is not, and so can a proxy of a path that it does not serve.
func (k *Kubernetes) Live(ctx context.Context, name string) (Node, error) {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	if err := k.sound(ctx); err != nil {
		return Node{}, fmt.Errorf("looking up node %q: %w", name, err)
	}
	// After that, for a server that is ready only now may have answered before with
	// what is not so. No resource version: the API server asks its etcd, with a quorum.
	n, err := k.core.Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil && n.Name != name:
		return Node{}, fmt.Errorf("looking up node %q: the API server answered with %q", name, n.Name)
	case err == nil:
		return fromKubernetes(n), nil
	case saysAbsent(err, name):
		return Node{}, fmt.Errorf("%w: the API server has no %q", ErrNodeNotFound, name)
	}
	// Not to be taken for an answer that the node is not there, even where it is a 404.
	return Node{}, fmt.Errorf("looking up node %q: %w", name, err)
}

// sound asks both that the API server is ready and that it is the cluster's, at the
// same time.
func (k *Kubernetes) sound(ctx context.Context) error {
	same := make(chan error, 1)
	go func() { same <- k.sameCluster(ctx) }()
	ready, identity := k.readyz(ctx), <-same
	if ready != nil {
		return fmt.Errorf("the API server is not ready: %w", ready)
	}
	return identity
}

// saysAbsent: the API server itself says of this very Node that it is not there.
// client-go makes a NotFound, with the names of what was asked for, of any
// response with the status 404; the cause tells them apart.
func saysAbsent(err error, name string) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	d := status.Status().Details
	if d == nil || d.Kind != "nodes" || d.Group != "" || d.Name != name {
		return false
	}
	return !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// sameCluster fails where another cluster answers by now than the one that
// ClusterUID has named: one built anew at the same address, say. It has none of
// the nodes.
func (k *Kubernetes) sameCluster(ctx context.Context) error {
	first := k.uid.Load()
	if first == nil {
		return nil // nobody goes by it
	}
	uid, err := k.ClusterUID(ctx)
	if err == nil && uid != *first {
		err = fmt.Errorf("the API server is of a cluster with the kube-system UID %q by now: expected %q, as at the start", uid, *first)
	}
	return err
}

// ClusterUID is the UID of the kube-system namespace, which lives as long as
// the cluster.
func (k *Kubernetes) ClusterUID(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	ns, err := k.core.Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("namespace %s, whose UID is the cluster's identity: %w", metav1.NamespaceSystem, err)
	}
	if ns.UID == "" {
		return "", fmt.Errorf("namespace %s has no UID", metav1.NamespaceSystem)
	}
	uid := string(ns.UID)
	k.uid.CompareAndSwap(nil, &uid)
	return uid, nil
}
