package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/rest"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/events"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// eventsFlag turns a controller's Events off.
type eventsFlag struct{ events bool }

func (f *eventsFlag) add(fs *pflag.FlagSet) {
	fs.BoolVar(&f.events, "events", true, "tell the owners of volumes, where the nodes come from Kubernetes, by Events on their PersistentVolumeClaims")
}

// teller tells a cluster of what happens, by Events.
type teller struct {
	*events.Recorder
	claims *watch.Claims
	log    *slog.Logger
}

// teller makes one for a cluster whose nodes come from Kubernetes; nil for any
// other, if Events are off, or if there is no way to write them: nothing else
// depends on it.
func (s *served) teller(cluster *state.Cluster, watcher *watch.Watcher, api *rest.Config) *teller {
	if !s.d.flags.events || api == nil {
		return nil
	}
	t := &teller{log: s.log}
	core, writes, err := eventClients(api)
	if err == nil {
		t.claims = watch.NewClaims(core, s.log)
		t.Recorder, err = events.New(events.Config{
			Cluster: cluster.Name(), ClusterUID: cluster.UID(), Client: writes, Claims: t.claims, Pod: s.d.ownPod(),
			Driver: func() string { return watcher.Cluster().Ledger.Driver },
			Logger: s.d.log, Registerer: s.d.registry,
		})
	}
	if err != nil {
		s.log.Warn("no Events are written", "error", err)
		return nil
	}
	return t
}

// ownPod is the Pod that the process runs in, if it is one of the cluster: with a
// kubeconfig, and so in a hub, it may well be another's.
func (d *daemon) ownPod() *events.Pod {
	if d.hub() || d.flags.kubeconfig != "" || d.flags.context != "" {
		return nil
	}
	return events.PodFromEnvironment()
}

// run tells until ctx ends. That it cannot ends nothing else.
func (t *teller) run(ctx context.Context) error {
	err := together(ctx, t.Run, t.claims.Run)
	if err != nil && ctx.Err() == nil {
		t.log.Warn("no Events are written", "error", err)
	}
	<-ctx.Done()
	return ctx.Err()
}

// eventClients are for PersistentVolumes and Events. What they send is bounded
// by who sends it.
func eventClients(config *rest.Config) (corev1client.CoreV1Interface, eventsclient.EventsV1Interface, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.RateLimiter = -1, nil
	config.Timeout = 0 // it would end a watch too
	if config.ContentType == "" {
		config.ContentType = runtime.ContentTypeProtobuf
		config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	}
	core, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("client of PersistentVolumes: %w", err)
	}
	writes, err := eventsclient.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("client of Events: %w", err)
	}
	return core, writes, nil
}

const (
	// conflictPatience is how long a verb takes at most to report a conflict, and
	// claimPatience how much of it to find out whose the volume is.
	conflictPatience = 5 * time.Second
	claimPatience    = 3 * time.Second
)

// conflictFlags say where a verb that runs once reports a conflict, if anywhere.
type conflictFlags struct{ nodeFlags }

func (f *conflictFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "report a conflict by an Event in the cluster of this kubeconfig `file`, on the volume's PersistentVolumeClaim")
	fs.StringVar(&f.context, "context", "", "`name` of the kubeconfig's context (default its current one)")
}

// report reports a conflict to the cluster, where the flags say so. It fails
// with nothing: that it could not is a line on stderr.
func (f *conflictFlags) report(ctx context.Context, stderr io.Writer, c *state.Cluster, conflict error) {
	if f.kubeconfig == "" && f.context == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, conflictPatience)
	defer cancel()
	if err := f.write(ctx, c, conflict); err != nil {
		fmt.Fprintf(stderr, "holdfast: no Event was written of what follows: %s\n", cli.OneLine(err.Error()))
	}
}

func (f *conflictFlags) write(ctx context.Context, c *state.Cluster, conflict error) error {
	if !events.IsConflict(conflict) {
		return nil
	}
	api, err := f.rest()
	if err != nil {
		return err
	}
	core, writes, err := eventClients(api)
	if err != nil {
		return err
	}
	uid, err := watch.NewKubernetesFrom(core, nil).ClusterUID(ctx)
	if err == nil && uid != c.UID() {
		return fmt.Errorf("the kubeconfig is of a cluster with the kube-system UID %q: expected that of cluster %q, %q", uid, c.Name(), c.UID())
	}
	driver := c.Ledger().Config().Driver
	if record, err := c.Ledger().Record(ctx); err == nil && record.Driver != "" {
		driver = record.Driver
	}
	return events.Once(ctx, events.Config{
		Cluster: c.Name(), ClusterUID: c.UID(), Client: writes, Claims: listedClaims{core},
		Driver: func() string { return driver }, Logger: slog.New(slog.DiscardHandler),
	}, conflict)
}

// listedClaims finds a claim by a list, for one look.
type listedClaims struct {
	pvs corev1client.PersistentVolumesGetter
}

// Claim looks at all PersistentVolumes. Where they cannot be read, nobody is known.
func (l listedClaims) Claim(ctx context.Context, driver, volume string) (watch.Claim, bool) {
	ctx, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	claim, ok, err := watch.FindClaim(ctx, l.pvs, driver, volume)
	return claim, ok && err == nil
}
