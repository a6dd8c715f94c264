package watch

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Claim names the PersistentVolumeClaim that a volume belongs to.
type Claim struct{ Namespace, Name, UID string }

// Claims knows which PersistentVolumeClaim a CSI volume belongs to, from the
// cluster's PersistentVolumes. Nothing is decided by it: it says whom to tell of
// a volume. Where the PersistentVolumes cannot be read, nobody is known, or who
// was known last; the log says so once. It is safe for concurrent use.
type Claims struct {
	pvs   corev1client.PersistentVolumesGetter
	log   *slog.Logger
	again *wait.Backoff // see Kubernetes
	tried chan struct{} // closed once there was a list, or none could be had

	seed   maphash.Seed
	mu     sync.RWMutex
	claims map[string]*claimed // by volume handle
	said   string              // the trouble that the log has
	trying sync.Once
}

// NewClaims makes a Claims of a client such as clientset.CoreV1(). It does not
// connect yet. A nil log means slog.Default().
func NewClaims(pvs corev1client.PersistentVolumesGetter, log *slog.Logger) *Claims {
	if log == nil {
		log = slog.Default()
	}
	return &Claims{pvs: pvs, log: log, tried: make(chan struct{}), seed: maphash.MakeSeed(), claims: map[string]*claimed{}}
}

// Run lists and watches the PersistentVolumes until ctx ends, and then returns
// ctx's error. It goes on trying whatever happens.
func (c *Claims) Run(ctx context.Context) error {
	lister := pagedLister{&cache.ListWatch{ListWithContextFunc: c.list, WatchFuncWithContext: c.watch}}
	// A Reflector, for the reason that Kubernetes.Run has one. What it would log
	// at each try, say says once.
	silent := klog.Logger{}
	cache.NewReflectorWithOptions(lister, &corev1.PersistentVolume{}, claimStore{c}, cache.ReflectorOptions{
		Name: "persistent volumes", Logger: &silent, Backoff: c.again,
	}).RunWithContext(klog.NewContext(ctx, silent))
	return ctx.Err()
}

// Claim looks up whose a volume is. It waits for the first list, for as long as
// ctx lasts, but for no other. Handles are unique within one CSI driver: with
// driver empty, a volume that more than one driver has is nobody's.
func (c *Claims) Claim(ctx context.Context, driver, volume string) (Claim, bool) {
	select {
	case <-c.tried:
	case <-ctx.Done():
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	var one owner
	for e := c.claims[volume]; e != nil; e = e.next {
		one.consider(driver, e.driver.Value(), e.claim)
	}
	return one.claim()
}

// owner is what a look for a volume's claim has found so far.
type owner struct {
	driver string
	found  func() Claim
	twice  bool // under two drivers
}

func (o *owner) consider(wanted, driver string, claim func() Claim) {
	switch {
	case wanted != "" && driver != wanted:
	case o.found == nil:
		o.driver, o.found = driver, claim
	case o.driver != driver:
		o.twice = true
	}
}

func (o *owner) claim() (Claim, bool) {
	if o.found == nil || o.twice {
		return Claim{}, false
	}
	return o.found(), true
}

// FindClaim looks up once whose a volume is, past every cache, as Claim does. It
// reads the PersistentVolumes in pages, up to all of them.
func FindClaim(ctx context.Context, pvs corev1client.PersistentVolumesGetter, driver, volume string) (Claim, bool, error) {
	var one owner
	_, err := eachVolume(ctx, pvs, func(v *slimVolume) bool {
		if v.handle == volume {
			one.consider(driver, v.driver, func() Claim { return v.claim })
		}
		return driver == "" || one.found == nil
	})
	if err != nil {
		return Claim{}, false, err
	}
	claim, ok := one.claim()
	return claim, ok, nil
}

// volumesAPage bounds the memory that a list takes: of each page only what
// slimVolume has is kept. A PersistentVolume is some 2 KB.
const volumesAPage = 500

// eachVolume lists the PersistentVolumes that are somebody's, in pages, until
// more is false, and returns the list's resource version.
func eachVolume(ctx context.Context, pvs corev1client.PersistentVolumesGetter, more func(*slimVolume) bool) (string, error) {
	// Without a resource version: the API server answers other lists from its
	// cache, and then whole, whatever the limit.
	for opts := (metav1.ListOptions{Limit: volumesAPage}); ; {
		page, err := pvs.PersistentVolumes().List(ctx, opts)
		if err != nil {
			return "", fmt.Errorf("listing PersistentVolumes: %w", err)
		}
		for i := range page.Items {
			if v := slim(&page.Items[i]); v.owned() && !more(v) {
				return page.ResourceVersion, nil
			}
		}
		if opts.Continue = page.Continue; opts.Continue == "" {
			return page.ResourceVersion, nil
		}
	}
}

// say logs a trouble when it begins, and its end. It is over when a watch has
// begun, and not with a list: a role may allow the one and not the other.
func (c *Claims) say(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	trouble := ""
	switch {
	case IsForbidden(err), IsUnauthorized(err):
		trouble = "forbidden"
	case err != nil:
		trouble = "away"
	}
	c.mu.Lock()
	before := c.said
	c.said = trouble
	c.mu.Unlock()
	switch {
	case trouble == before:
	case err != nil:
		c.log.Warn("PersistentVolumes cannot be read: events about volumes may not find their claims, and nothing else depends on it",
			"error", err)
	default:
		c.log.Info("PersistentVolumes can be read again")
	}
	if err != nil {
		c.trying.Do(func() { close(c.tried) })
	}
}

// claimed is what is kept of a PersistentVolume that is somebody's, beside the
// handle that it is found by: there may be tens of thousands.
type claimed struct {
	driver, namespace unique.Handle[string]
	name, uid         string
	pv                uint64 // a hash of the PersistentVolume's name
	next              *claimed
}

func (e *claimed) claim() Claim {
	return Claim{Namespace: e.namespace.Value(), Name: e.name, UID: e.uid}
}

// put takes in one PersistentVolume as it is now.
func (c *Claims) put(into map[string]*claimed, v *slimVolume, gone bool) {
	pv := maphash.String(c.seed, v.name)
	for at := into[v.handle]; at != nil; at = at.next {
		if at.pv == pv {
			into[v.handle] = without(into[v.handle], at)
			break
		}
	}
	if !gone && v.owned() {
		into[v.handle] = &claimed{
			driver: unique.Make(v.driver), namespace: unique.Make(v.claim.Namespace),
			name: v.claim.Name, uid: v.claim.UID, pv: pv, next: into[v.handle],
		}
	}
	if into[v.handle] == nil {
		delete(into, v.handle)
	}
}

// without is a list without one of its entries.
func without(first, gone *claimed) *claimed {
	if first == gone {
		return gone.next
	}
	for e := first; e != nil; e = e.next {
		if e.next == gone {
			e.next = gone.next
		}
	}
	return first
}
