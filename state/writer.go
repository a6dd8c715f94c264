package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/holdfast-storage/holdfast/failpoint"
)

const (
	// requestOperations bounds the operations of one request. etcd takes 125
	// nested transactions of three compares each (max-txn-ops 128).
	requestOperations = 64
	// requestsUnderWay bounds the requests that wait for an answer at one time: so
	// few that calls gather meanwhile.
	requestsUnderWay = 4
	// mostUnderWay bounds them where many calls are about one volume, which no
	// gathering brings into one request.
	mostUnderWay = 64
)

// operation is what one caller asks for: a transaction that is nested in a
// request, with its own compares and its own answer.
type operation interface {
	// take gets the leases that the operation's records go under.
	take(ctx context.Context) (leases, error)
	// branch builds the nested transaction.
	branch(a attempt) *pb.TxnRequest
	// settle reads the nested answer. It returns errPast if the only thing in
	// the way is a record newer than a.r.
	settle(a attempt, answer *pb.TxnResponse) error
}

// attempt is what an operation is built from, each time that it is sent.
type attempt struct {
	// r is the last revision that this process had seen when the call came in.
	// A late or resent request touches nothing that came after it.
	r int64
	// epoch is the ledger's, and leases are where the operation's records go.
	epoch  uint16
	leases leases
	// resent: it was sent before, and no answer came.
	resent bool
	// asks: what stands in the way is to be read in the same request. What is likely
	// to succeed need not ask: all that an operation could want to know is most of
	// its bytes, which etcd decodes twice, logs, and checks everyone's access to.
	asks bool
	// rested: the volume is expected to have no detachment at all, which is cheaper
	// to compare than which it may have. Never together with asks.
	rested bool
	// revision is the answer's; set for settle only.
	revision int64
}

// errPast: a compare with R failed, and nothing else stands in the way.
var errPast = errors.New("a record is newer than what this process had seen")

// errUnasked: a compare failed, so that nothing was written, and the operation
// did not ask why.
var errUnasked = errors.New("something stands in the way")

// call is one operation on its way through the writer.
type call struct {
	// about is the volume, or the key, that the operation is about. etcd
	// evaluates all compares of a request before it writes anything, so two
	// operations about one volume must never share a request.
	about   string
	op      operation
	guard   guard
	attempt attempt
	done    chan struct{}
	taken   atomic.Bool // by a request, or by its caller who no longer waits

	// unasked: it did not ask, and was built without what would tell.
	unasked bool
	// part is where its answer is.
	part part

	// Set before done is closed.
	answer *pb.TxnResponse
	err    error
	fate   fate
}

// writer gathers the calls that wait while requests are under way into the
// next request. It is the one place that builds requests. An idle writer sends
// a call at once.
type writer struct {
	ledger *Ledger
	ctx    context.Context //nolint:containedctx // the requests' life, which is no caller's
	stop   context.CancelFunc
	joined sync.WaitGroup

	mu      sync.Mutex
	waiting []*call
	gone    int // calls taken back since those were last thrown away
	flying  int
	trust   trust
	closed  bool
}

func newWriter(l *Ledger) *writer {
	w := &writer{ledger: l, trust: trust{level: trustVolumes}}
	w.ctx, w.stop = context.WithCancel(context.Background())
	return w
}

// close fails the calls that wait and returns when no request is under way.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.stop()
	w.joined.Wait()
}

// background runs what no caller waits for, unless the writer is closed. Its
// context ends with the writer, which waits for it.
func (w *writer) background(run func(context.Context)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.joined.Go(func() { run(w.ctx) })
	}
	return !w.closed
}

// submit sends a call once and waits for its answer. If ctx ends first the call
// is taken back where it was not sent yet.
func (w *writer) submit(ctx context.Context, c *call) error {
	if err := ctx.Err(); err != nil {
		return err // c.fate is refused: it was never sent
	}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		c.fate = refused
		return fmt.Errorf("%w: the ledger is closed", ErrUnavailable)
	}
	if _, lasts := c.op.(lasting); !lasts && w.flying == 0 && len(w.waiting) == 0 {
		w.flying++
		w.joined.Add(1)
		w.mu.Unlock()
		return w.carry(ctx, c)
	}
	w.waiting = append(w.waiting, c)
	if w.flying < requestsUnderWay {
		w.flying++
		w.joined.Add(1)
		go w.fly()
	}
	w.mu.Unlock()

	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	if c.taken.CompareAndSwap(false, true) {
		w.takenBack()
		return ctx.Err() // c.fate is refused: it was never sent
	}
	select {
	case <-c.done:
		return c.err
	default:
		return &sentError{cause: ctx.Err()}
	}
}

// carry has a caller send its own call, where no other is under way: two goroutines
// less are woken, a twentieth of what it takes. The request ends when the caller
// goes, so the call must not be one of which something is left to see to then.
func (w *writer) carry(ctx context.Context, c *call) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.ctx, cancel)()
	w.send(ctx, []*call{c})
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) > 0 {
		go w.fly() // for those that came meanwhile
	} else {
		w.flying--
		w.joined.Done()
	}
	return c.err
}

// takenBack throws away what nobody waits for any longer, once it may be half of
// the queue: while etcd is stalled callers come and give up, and no request goes.
func (w *writer) takenBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone++; 2*w.gone > len(w.waiting) {
		w.waiting = slices.DeleteFunc(w.waiting, func(c *call) bool { return c.taken.Load() })
		w.gone = 0
	}
}

// fly sends requests until no call waits, or more are under way than there should
// be for long.
func (w *writer) fly() {
	defer w.joined.Done()
	for {
		batch := w.next()
		if batch == nil {
			return
		}
		w.send(w.ctx, batch)
		if w.surplus() {
			return
		}
	}
}

func (w *writer) surplus() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.flying <= requestsUnderWay {
		return false
	}
	w.flying--
	return true
}

// next takes the oldest waiting call and whatever else may share its request. What
// may not for its volume's sake goes in one of its own.
func (w *writer) next() []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var batch, rest []*call
	about := make(map[string]bool)
	crowded := false
	for _, c := range w.waiting {
		share := len(batch) == 0 || c.guard == batch[0].guard
		if about[c.about] {
			crowded = true
			c.attempt.asks = true // what goes before it is likely to stand in its way
		}
		if !share || len(batch) == requestOperations || about[c.about] {
			rest = append(rest, c)
			continue
		}
		if !c.taken.CompareAndSwap(false, true) {
			continue
		}
		about[c.about] = !failpoint.Planted(failpoint.ShareVolume)
		batch = append(batch, c)
	}
	w.waiting = rest
	switch {
	case batch == nil:
		w.flying--
	case crowded && w.flying < mostUnderWay:
		w.flying++
		w.joined.Add(1)
		go w.fly()
	}
	return batch
}

// send sends one request and tells each call its part of the answer.
func (w *writer) send(ctx context.Context, batch []*call) {
	if batch = w.lease(ctx, batch); len(batch) == 0 {
		return
	}
	sending, cancel := context.WithTimeout(ctx, w.ledger.cfg.RequestTimeout)
	defer cancel()
	resp, err := w.commit(sending, batch)
	var why error
	if err == nil && !resp.Succeeded && !flat(batch) {
		if why = batch[0].guard.learn(w.ledger, resp); why == nil {
			why = errGuard
		}
	}
	var f fate
	if err != nil {
		f, err = w.ledger.classify(err)
		if f != ambiguous && len(batch) > 1 && !errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrRestored) {
			// One member may have spoilt it for all, so each goes by itself.
			for _, c := range batch {
				w.send(ctx, []*call{c})
			}
			return
		}
	}
	for _, c := range batch {
		c.err, c.fate = err, f
		switch {
		case err != nil:
		case why != nil:
			c.err = why
		default:
			c.answer = c.part.of(resp)
			c.attempt.revision = resp.Header.Revision
		}
	}
	w.learn(batch)
	for _, c := range batch {
		close(c.done)
	}
}

// lease gets each call its lease, and fails the calls that get none.
func (w *writer) lease(ctx context.Context, batch []*call) []*call {
	ctx, cancel := context.WithTimeout(ctx, w.ledger.cfg.RequestTimeout)
	defer cancel()
	ctx = sharingNoSpace(ctx)
	ready := batch[:0:0]
	for _, c := range batch {
		s, err := c.op.take(ctx)
		if err != nil {
			c.err, c.fate = err, refused
			if errors.Is(err, ErrUnavailable) {
				c.fate = refusedForNow
			}
			close(c.done)
			continue
		}
		c.attempt.leases = s
		ready = append(ready, c)
	}
	return ready
}

// errGuard: what the request's outer compares relied on has moved; it was read
// anew, and the request may be sent again.
var errGuard = errors.New("the guard's records have moved")

// commit builds the request and sends it. The ledger's epoch is read together
// with the revision that the guard compares.
func (w *writer) commit(ctx context.Context, batch []*call) (*pb.TxnResponse, error) {
	g := batch[0].guard
	request := w.request(batch)
	if err := oneAVolume(batch); err != nil {
		return nil, err
	}
	sent := w.ledger.seen.Load()
	resp, err := w.ledger.transact(ctx, request)
	if err != nil {
		for _, c := range batch {
			// Refused for a lease, maybe: one that was empty somebody else can have put a key on.
			if errors.Is(err, rpctypes.ErrLeaseNotFound) || errors.Is(err, rpctypes.ErrPermissionDenied) {
				g.dropLease(w.ledger, c.attempt.leases)
			}
		}
		return nil, err
	}
	w.ledger.metrics.request(len(batch))
	if err := w.ledger.observe(resp.Header, sent+written(resp.Responses)); err != nil {
		return nil, err
	}
	return resp, nil
}
