// Package events tells the owners of volumes, and whoever runs a cluster, what
// Holdfast has done or cannot do about them, as Kubernetes Events. It decides
// nothing and nothing waits for it: what cannot be told in time is counted and
// dropped.
package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"k8s.io/client-go/kubernetes/scheme"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// Reason says what an Event is about. The set is closed.
type Reason string

// The reasons of an Event.
const (
	// AttachConflict: a volume could not be attached, since it is held or in its grace period.
	AttachConflict Reason = "AttachConflict"
	// OrphanRemoved: a hold of a node that is gone was removed.
	OrphanRemoved Reason = "OrphanRemoved"
	// BrakeEngaged: nothing is removed any more, since too many nodes are missing.
	BrakeEngaged Reason = "BrakeEngaged"
	// BrakeReleased: removals go on.
	BrakeReleased Reason = "BrakeReleased"
	// MigrationOverdue: two nodes hold a volume, and its migration's window is over.
	MigrationOverdue Reason = "MigrationOverdue"
	// HoldLapsed: a hold was found that its cluster's controllers had not stood by.
	HoldLapsed Reason = "HoldLapsed"
)

// Reasons lists them.
func Reasons() []Reason {
	return []Reason{AttachConflict, OrphanRemoved, BrakeEngaged, BrakeReleased, MigrationOverdue, HoldLapsed}
}

// The defaults of a Config.
const (
	DefaultRate  = 5
	DefaultBurst = 100
)

// The Events about the brake have a bucket of their own: they are few, and it
// engages just when there is much else to tell.
const (
	alarmEvery = time.Minute
	alarmBurst = 5
)

const (
	// controllerName is the Events' reportingController.
	controllerName = "holdfast"
	// reportsQueued and writesQueued bound what waits: for a look at whose the
	// volume is, and for the API server.
	reportsQueued = 512
	writesQueued  = 256
	// claimsPatience is how long after the start a report may wait for the first
	// list of PersistentVolumes; lookPatience bounds a later look.
	claimsPatience = 10 * time.Second
	lookPatience   = time.Second
)

// Claims finds the PersistentVolumeClaim of a volume; false where none is known.
// It may take its time, up to the end of ctx. A *watch.Claims is one.
type Claims interface {
	Claim(ctx context.Context, driver, volume string) (watch.Claim, bool)
}

// Pod is the Pod that the process runs in.
type Pod struct{ Namespace, Name, UID string }

// PodFromEnvironment is the Pod that POD_NAMESPACE, POD_NAME and POD_UID name,
// as the downward API sets them; nil if they do not.
func PodFromEnvironment() *Pod {
	p := Pod{Namespace: os.Getenv("POD_NAMESPACE"), Name: os.Getenv("POD_NAME"), UID: os.Getenv("POD_UID")}
	if p.Namespace == "" || p.Name == "" {
		return nil
	}
	return &p
}

// Config says of which cluster to tell, and to whom. Cluster and Client are needed.
type Config struct {
	// Cluster is the cluster's name in the ledger.
	Cluster string
	// ClusterUID is the UID of its kube-system namespace, where known.
	ClusterUID string
	// Driver is the CSI driver that the ledger has on record; nil, or an answer
	// that is empty, for none.
	Driver func() string
	// Client writes the cluster's Events, such as clientset.EventsV1().
	Client eventsclient.EventsV1Interface
	// Claims finds whom a volume belongs to; nil knows nobody.
	Claims Claims
	// Pod is the process's own, if it is one of this cluster. What has no claim is
	// told there, and without a Pod on the namespace kube-system.
	Pod *Pod
	// Rate and Burst bound the Events written; default 5 a second and 100 at once.
	Rate  float64
	Burst int

	// Logger gets what no caller is told; default slog.Default().
	Logger *slog.Logger
	// Registerer gets the metrics while Run runs; nil means none.
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() (Config, error) {
	if c.Client == nil {
		return c, fmt.Errorf("%w event recorder: expected a client of the cluster's Events", state.ErrInvalid)
	}
	if err := state.ValidateCluster(c.Cluster); err != nil {
		return c, fmt.Errorf("event recorder: %w", err)
	}
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	if c.Burst == 0 {
		c.Burst = DefaultBurst
	}
	if !(c.Rate > 0) || math.IsInf(c.Rate, 0) || c.Burst < 0 {
		return c, fmt.Errorf("%w rate of Events %v, burst %d: expected Events a second, above zero, and at least 1 at once", state.ErrInvalid, c.Rate, c.Burst)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// Recorder writes Events. Its methods only take note, and never block: what
// there is no room for is dropped and counted, and so is what is told while Run
// does not run for long. It is safe for concurrent use.
//
// Equal Events become one with a count, as client-go does it: those about the
// same object, hold and reason, until there is none for six minutes.
type Recorder struct {
	cfg           Config
	log           *slog.Logger
	metrics       *prometheus.CounterVec
	limit, alarms *rate.Limiter
	reports       chan report
	running       atomic.Bool
	patience      time.Duration // how old an Event may get while the API server is away
	said          string        // the trouble that the log has; write's alone
	refusals      rate.Sometimes
	settled       func(error) // told of the end of each Event; nil: nobody
}

// New makes a Recorder. It starts nothing: Run does. ErrInvalid names what is
// missing or cannot be used.
func New(cfg Config) (*Recorder, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Recorder{
		cfg: cfg, log: cfg.Logger.With("cluster", cfg.Cluster), metrics: newMetrics(),
		limit:   rate.NewLimiter(rate.Limit(cfg.Rate), cfg.Burst),
		alarms:  rate.NewLimiter(rate.Every(alarmEvery), alarmBurst),
		reports: make(chan report, reportsQueued), patience: eventPatience,
		refusals: rate.Sometimes{Interval: refusalEvery},
	}, nil
}

// Run writes what it is told until ctx ends, and then returns ctx's error. It
// ends for no other reason once it has begun. What waits then is dropped. It can
// be called again when it has returned.
func (r *Recorder) Run(ctx context.Context) error {
	if !r.running.CompareAndSwap(false, true) {
		return errors.New("the event recorder runs already")
	}
	defer r.running.Store(false)
	unregister, err := r.register()
	if err != nil {
		return err
	}
	defer unregister()

	// client-go logs each Event that it cannot write, whole. Here it always can:
	// the sink takes all, and tells of troubles once.
	silent := klog.Logger{}
	writes := make(chan write, writesQueued)
	broadcaster := events.NewBroadcaster(sink{r, writes})
	// What it has begun ends with ctx: all of it is short, since the sink never blocks.
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(klog.NewContext(ctx, silent)); err != nil {
		return fmt.Errorf("event recorder: %w", err)
	}
	to := broadcaster.NewRecorder(scheme.Scheme, controllerName).WithLogger(silent)
	var joined sync.WaitGroup
	joined.Go(func() { r.feed(ctx, to) })
	joined.Go(func() { r.write(ctx, writes) })
	joined.Wait()
	return ctx.Err()
}

// feed turns reports into Events about somebody.
func (r *Recorder) feed(ctx context.Context, to events.EventRecorder) {
	first := time.Now().Add(claimsPatience)
	for {
		select {
		case <-ctx.Done():
			return
		case rep := <-r.reports:
			// A removal is hardly ever told of twice. Over the rate client-go would
			// only keep it, for minutes, to count on: of a node replacement thousands.
			if rep.reason == OrphanRemoved && r.limit.Tokens() < 1 {
				r.settle(rep.reason, resultDropped, errTooMany)
				continue
			}
			until := time.Now().Add(lookPatience)
			if until.Before(first) {
				until = first
			}
			looking, cancel := context.WithDeadline(ctx, until)
			regarding := r.regarding(looking, rep)
			cancel()
			to.Eventf(regarding, nil, rep.kind, string(rep.reason), rep.action, "%s", line(rep.note, maxNote))
		}
	}
}

// take notes a report, if there is room.
func (r *Recorder) take(rep report) {
	select {
	case r.reports <- rep:
	default:
		r.settle(rep.reason, resultDropped, errors.New("too many Events wait already"))
	}
}

// Once reports a conflict as Recorder.Conflict does, for a process that is about
// to end. It returns when the Event is written, or with what kept it from that,
// by the end of ctx at the latest. With another error than a conflict or a grace
// it does nothing.
func Once(ctx context.Context, cfg Config, conflict error) error {
	r, err := New(cfg)
	if err != nil {
		return err
	}
	rep, ok := conflictReport(conflict)
	if !ok {
		return nil
	}
	written := make(chan error, 1)
	r.patience, r.settled = 0, func(err error) {
		select {
		case written <- err:
		default:
		}
	}
	running, cancel := context.WithCancel(ctx)
	var joined sync.WaitGroup
	joined.Go(func() { _ = r.Run(running) })
	defer joined.Wait()
	defer cancel()
	r.take(rep)
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the Event was not written in time: %w", ctx.Err())
	}
}
