package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fate says what an error of a request means for what it would have written.
type fate int

const (
	// refused: nothing was written, and nothing will be.
	refused fate = iota
	// refusedForNow: nothing was written, and it is worth sending again.
	refusedForNow
	// ambiguous: it may have been written, or may still be.
	ambiguous
)

// sentError: the caller no longer waits for an answer that may still come.
type sentError struct{ cause error }

func (e *sentError) Error() string { return e.cause.Error() }
func (e *sentError) Unwrap() error { return e.cause }

// classify sorts an error of etcd's client, and makes it one of ours.
func classify(err error) (fate, error) {
	if errors.Is(err, ErrRestored) || errors.Is(err, ErrInvalid) {
		return refused, err
	}
	var etcdErr rpctypes.EtcdError
	known := errors.As(rpctypes.Error(err), &etcdErr)
	switch {
	case !known:
	case is(etcdErr, rpctypes.ErrNoSpace):
		return refused, fmt.Errorf("%w: its quota is used up; free space and clear the NOSPACE alarm (%s)", ErrNoSpace, etcdErr.Error())
	case is(etcdErr, rpctypes.ErrPermissionDenied):
		return refused, fmt.Errorf("%w (%s)", ErrBeyondRole, etcdErr.Error())
	case is(etcdErr, rpctypes.ErrAuthFailed, rpctypes.ErrUserNotFound, rpctypes.ErrPermissionNotGranted, rpctypes.ErrUserEmpty):
		return refused, fmt.Errorf("%w: %s", ErrPermission, etcdErr.Error())
	case is(etcdErr, rpctypes.ErrCompacted):
		// Not sent again as it is: a list has to begin anew, at a later revision.
		return refused, fmt.Errorf("%w: what was being read has been compacted away meanwhile; begin again (%s)", ErrUnavailable, etcdErr.Error())
	case is(etcdErr, rpctypes.ErrLeaseNotFound, rpctypes.ErrTooManyRequests, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision):
		return refusedForNow, etcdErr
	}
	code := status.Code(err)
	if known {
		code = etcdErr.Code()
	}
	switch code {
	case codes.InvalidArgument, codes.OutOfRange, codes.NotFound, codes.FailedPrecondition, codes.ResourceExhausted, codes.AlreadyExists:
		return refused, fmt.Errorf("etcd refused the request: %w", err)
	case codes.PermissionDenied, codes.Unauthenticated:
		return refused, fmt.Errorf("%w: %w", ErrPermission, err)
	}
	return ambiguous, err
}

// classify knows beside that whether this process has a user: then an etcd that
// misses one has had its authentication switched on under way, and the client,
// which has logged in by now, only needs to send again.
func (l *Ledger) classify(err error) (fate, error) {
	if l.cfg.Username != "" && errors.Is(rpctypes.Error(err), rpctypes.ErrUserEmpty) {
		return refusedForNow, err
	}
	return classify(err)
}

func is(err rpctypes.EtcdError, targets ...error) bool {
	for _, e := range targets {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// backoff waits a little longer each time and returns early when ctx ends.
type backoff struct{ next time.Duration }

const (
	firstBackoff = 10 * time.Millisecond
	lastBackoff  = 500 * time.Millisecond
)

func (b *backoff) wait(ctx context.Context) error {
	b.next = min(max(2*b.next, firstBackoff), lastBackoff)
	t := time.NewTimer(b.next)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// patience is how long an operation is sent again when no answer comes: half a
// grace, so that what fences a late request (the detachment that a later end
// leaves) is still there when the last one arrives.
func (l *Ledger) patience() time.Duration { return l.cfg.GracePeriod / 2 }

// written is the revisions that a request's answers say it made: 1 or 0. A write
// makes a revision of its own: an etcd that has lost just one write would
// otherwise pass for the one it was, once it has taken another.
func written(answers []*pb.ResponseOp) int64 {
	for _, a := range answers {
		if a.GetResponsePut() != nil || a.GetResponseDeleteRange().GetDeleted() > 0 || written(a.GetResponseTxn().GetResponses()) > 0 {
			return 1
		}
	}
	return 0
}

// observe checks the header of an answer against what this process has seen:
// least is the revision that it must have at least, the last one known when the
// request was sent, and beyond that if it has written.
func (l *Ledger) observe(h *pb.ResponseHeader, least int64) error {
	if err := l.halted(); err != nil {
		return err
	}
	switch {
	case h == nil:
		return nil
	case h.ClusterId != l.etcdID.Load() && !l.etcdID.CompareAndSwap(0, h.ClusterId):
		return l.halt(fmt.Errorf("%w: its cluster ID is %x and was %x", ErrRestored, h.ClusterId, l.etcdID.Load()))
	case h.Revision < least:
		return l.halt(fmt.Errorf("%w: it answers at revision %d, and had come to at least %d", ErrRestored, h.Revision, least))
	}
	for {
		seen := l.seen.Load()
		if h.Revision <= seen || l.seen.CompareAndSwap(seen, h.Revision) {
			return nil
		}
	}
}

// halt makes this process write no more: another etcd answers than the one
// that its memory is about.
func (l *Ledger) halt(err error) error {
	if l.halting.CompareAndSwap(nil, &err) {
		l.log.Error("etcd is not the one it was: this process stops writing", "error", err)
		l.noticed(err)
	}
	return l.halted()
}

func (l *Ledger) halted() error {
	if err := l.halting.Load(); err != nil {
		return *err
	}
	return nil
}

// read sends a read-only, linearizable transaction, again where no answer came.
func (l *Ledger) read(ctx context.Context, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	var resp *clientv3.TxnResponse
	err := l.again(ctx, func(ctx context.Context) (*pb.ResponseHeader, error) {
		r, err := l.client.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return nil, err
		}
		resp = r
		return r.Header, nil
	})
	return resp, err
}

// look is read, of what operations read too.
func (l *Ledger) look(ctx context.Context, ops []*pb.RequestOp) (*pb.TxnResponse, error) {
	var resp *pb.TxnResponse
	err := l.again(ctx, func(ctx context.Context) (*pb.ResponseHeader, error) {
		r, err := l.transact(ctx, &pb.TxnRequest{Success: ops})
		if err != nil {
			return nil, err
		}
		resp = r
		return r.Header, nil
	})
	return resp, err
}

// again calls a request that is safe to repeat until it is answered, ctx ends
// or patience runs out.
func (l *Ledger) again(ctx context.Context, call func(context.Context) (*pb.ResponseHeader, error)) error {
	until := time.Now().Add(max(l.patience(), l.cfg.RequestTimeout))
	var wait backoff
	for {
		sent := l.seen.Load()
		one, cancel := context.WithTimeout(ctx, l.cfg.RequestTimeout)
		header, err := call(one)
		cancel()
		if err == nil {
			return l.observe(header, sent)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w (%w)", ErrUnavailable, ctx.Err(), err)
		}
		f, err := l.classify(err)
		if f == refused {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if werr := wait.wait(ctx); werr != nil {
			return fmt.Errorf("%w: %w (%w)", ErrUnavailable, werr, err)
		}
	}
}
