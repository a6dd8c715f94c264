package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
)

const (
	// requestTimeout bounds one request to the API server.
	requestTimeout = 5 * time.Second
	// eventPatience is how old an Event may get before it is given up, while the
	// API server is away. Kubernetes forgets Events after an hour anyway.
	eventPatience = 2 * time.Minute
	// The pauses between tries.
	firstPause = time.Second
	lastPause  = 15 * time.Second
	// refusalEvery bounds the lines about Events that were refused one by one.
	refusalEvery = 10 * time.Minute
)

// The values of the label result.
const (
	resultSent      = "sent"
	resultDropped   = "dropped"
	resultForbidden = "forbidden"
	resultError     = "error"
)

func newMetrics() *prometheus.CounterVec {
	m := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_events_total",
		Help: "Kubernetes Events, by reason and result: sent, dropped (over the rate, or none could be written for too long), forbidden, error.",
	}, []string{"reason", "result"})
	for _, reason := range Reasons() {
		for _, result := range []string{resultSent, resultDropped, resultForbidden, resultError} {
			m.WithLabelValues(string(reason), result)
		}
	}
	return m
}

// register makes the metrics seen under the cluster's label, and returns what
// takes them back.
func (r *Recorder) register() (unregister func(), err error) {
	if r.cfg.Registerer == nil {
		return func() {}, nil
	}
	to := prometheus.WrapRegistererWith(prometheus.Labels{"cluster": r.cfg.Cluster}, r.cfg.Registerer)
	if err := to.Register(r.metrics); err != nil {
		return nil, fmt.Errorf("metrics of the Events of cluster %s: %w", r.cfg.Cluster, err)
	}
	return func() { to.Unregister(r.metrics) }, nil
}

// settle counts what came of an Event.
func (r *Recorder) settle(reason Reason, result string, err error) {
	r.metrics.WithLabelValues(string(reason), result).Inc()
	if r.settled != nil {
		r.settled(err)
	}
}

var errTooMany = errors.New("too many Events in a short time")

// write is one request: a new Event, or with a patch the count of one that there is.
type write struct {
	event *eventsv1.Event
	patch []byte
	since time.Time
}

// sink is what client-go's broadcaster writes to. It takes an Event and returns
// at once, without an error: the broadcaster would try again for minutes, in a
// goroutine for each Event, and log them all.
type sink struct {
	r      *Recorder
	writes chan<- write
}

var _ events.EventSink = sink{}

// Create takes a new Event.
func (s sink) Create(_ context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	return s.take(e, nil)
}

// Patch takes a new count of an Event.
func (s sink) Patch(_ context.Context, e *eventsv1.Event, patch []byte) (*eventsv1.Event, error) {
	return s.take(e, patch)
}

// Update is not called by the broadcaster, and the role does not allow it.
func (sink) Update(context.Context, *eventsv1.Event) (*eventsv1.Event, error) {
	return nil, errors.New("an Event is created or patched, and never updated")
}

func (s sink) take(e *eventsv1.Event, patch []byte) (*eventsv1.Event, error) {
	reason, limit := Reason(e.Reason), s.r.limit
	if reason == BrakeEngaged || reason == BrakeReleased {
		limit = s.r.alarms
	}
	if !limit.Allow() {
		s.r.settle(reason, resultDropped, errTooMany)
		return e, nil
	}
	select {
	case s.writes <- write{event: e.DeepCopy(), patch: patch, since: time.Now()}: // the broadcaster counts on in its own
	default:
		s.r.settle(reason, resultDropped, errors.New("too many Events wait already"))
	}
	return e, nil
}

// write writes one Event after the other until ctx ends.
func (r *Recorder) write(ctx context.Context, writes <-chan write) {
	for {
		select {
		case w := <-writes:
			r.deliver(ctx, w)
		case <-ctx.Done():
			for {
				select {
				case w := <-writes:
					r.settle(Reason(w.event.Reason), resultDropped, ctx.Err())
				default:
					return
				}
			}
		}
	}
}

// deliver tries until an Event is written or refused, or has got too old.
func (r *Recorder) deliver(ctx context.Context, w write) {
	reason := Reason(w.event.Reason)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := r.send(ctx, w)
		if ctx.Err() != nil {
			r.settle(reason, resultDropped, ctx.Err())
			return
		}
		result := resultOf(err)
		r.say(result, err)
		if result != resultError || !passing(err) || time.Since(w.since) >= r.patience {
			r.settle(reason, result, err)
			return
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// send is one request, or two where the Event to count on is not there any more.
func (r *Recorder) send(ctx context.Context, w write) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	to := events.EventSinkImpl{Interface: r.cfg.Client}
	if w.patch != nil {
		if _, err := to.Patch(ctx, w.event, w.patch); !apierrors.IsNotFound(err) {
			return err
		}
	}
	_, err := to.Create(ctx, w.event)
	if apierrors.IsAlreadyExists(err) {
		return nil // an earlier try got through after all
	}
	return err
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return resultSent
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return resultError // a Forbidden too, and no matter of the role
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return resultForbidden
	}
	return resultError
}

// passing: it may go better later. What the API server says of the Event itself does not.
func passing(err error) bool {
	var answered apierrors.APIStatus
	if !errors.As(err, &answered) {
		return true // it was not reached
	}
	return answered.Status().Code >= 500 || apierrors.IsTooManyRequests(err)
}

// say logs a trouble when it begins, and its end. Nobody's work waits for an
// Event, so it is no error.
func (r *Recorder) say(result string, err error) {
	trouble := ""
	switch {
	case result == resultForbidden:
		trouble = result
	case result == resultError && passing(err):
		trouble = "away"
	case result == resultError: // one Event, of which the next need know nothing
		r.refusals.Do(func() { r.log.Warn("an Event was refused", "error", err) })
		return
	}
	before := r.said
	r.said = trouble
	switch {
	case trouble == before:
	case trouble == resultForbidden:
		r.log.Warn("Events may not be written, and all else goes on; expected create and patch of events in events.k8s.io", "error", err)
	case trouble != "":
		r.log.Warn("Events cannot be written for now, and all else goes on", "error", err)
	default:
		r.log.Info("Events are written again")
	}
}
