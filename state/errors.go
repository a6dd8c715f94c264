package state

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// What an operation may fail with. Match with errors.Is; every error that a
// method of this package returns and that is not the caller's own context
// error wraps one of these.
var (
	// ErrConflict: another hold stands in the way, or the record that the
	// operation relied on has changed. Often a *ConflictError.
	ErrConflict = errors.New("conflict")
	// ErrNotFound: the record that the operation is about is not there.
	ErrNotFound = errors.New("not found")
	// ErrInGrace: the volume was detached by another cluster just now. A *GraceError.
	ErrInGrace = errors.New("in its grace period")
	// ErrStaleToken: the hold's token is another one than the caller's.
	ErrStaleToken = errors.New("stale token")
	// ErrLapsed: the holder's attachment is gone. Still held; see Ledger.Evict.
	ErrLapsed = errors.New("lapsed")
	// ErrFrozen: an operator, or a restore that was noticed, has frozen the ledger.
	ErrFrozen = errors.New("ledger is frozen")
	// ErrRestoreNoticed: somebody noticed a restored or replaced etcd and froze the
	// ledger, until an operator accepts what is there. An ErrFrozen.
	ErrRestoreNoticed = fmt.Errorf("%w after a restore", ErrFrozen)
	// ErrPaused: an operator has paused removal in this cluster.
	ErrPaused = errors.New("removal is paused")
	// ErrNotLeader: the election key that the request compared is not the leader's.
	ErrNotLeader = errors.New("not the leader")
	// ErrClusterMismatch: the name belongs to a cluster with another kube-system UID.
	ErrClusterMismatch = errors.New("another cluster has this name")
	// ErrNoSpace: etcd's quota is used up. Nothing was written.
	ErrNoSpace = errors.New("etcd is out of space")
	// ErrInvalid: an argument, flag or setting cannot be used.
	ErrInvalid = errors.New("invalid")
	// ErrUnknownOutcome: the request was sent and its answer never came; it may
	// or may not have been, or still be, carried out. Calling again is safe.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrShortWait: what was asked for is done, and stands. The wait that it began (a
	// grace, a window, a pause) was answered too late for its lease, could not be put
	// again, and may end before its time. It comes beside the result, where there is
	// one. Calling again makes no longer wait.
	ErrShortWait = errors.New("done, but its wait may end early")
	// ErrRestored: etcd answers with another identity or an older revision than
	// before. This process writes no more.
	ErrRestored = errors.New("etcd was restored or replaced")
	// ErrUnavailable: etcd did not answer, and nothing was sent that could still be carried out.
	ErrUnavailable = errors.New("etcd is unavailable")
	// ErrUnsafeEtcd: a member is older than the oldest version without faults that
	// matter here. See Config.AllowUnsafeEtcd.
	ErrUnsafeEtcd = errors.New("etcd is too old")
	// ErrPermission: etcd refused the credentials or the role.
	ErrPermission = errors.New("permission denied by etcd")
	// ErrBeyondRole: etcd knows the user, and its role does not reach what the
	// request is about. An ErrPermission. See ClusterPermissions.
	ErrBeyondRole = fmt.Errorf("%w: beyond the user's role", ErrPermission)
	// ErrNoLedger: there is no ledger below the prefix, and this process may not
	// make it: it was opened read-only, or its etcd role only reads the ledger's
	// record. An ErrNotFound.
	ErrNoLedger = fmt.Errorf("%w: no ledger", ErrNotFound)
	// ErrReadOnly: the ledger was opened read-only.
	ErrReadOnly = errors.New("ledger is opened read-only")
)

func invalid(field, got, expected string) error {
	return fmt.Errorf("%w %s %q: expected %s", ErrInvalid, field, excerpt(got), expected)
}

// ConflictError says who holds a volume. It is an ErrConflict, and an
// ErrLapsed too when every holder has lapsed.
type ConflictError struct {
	Volume   string
	Holders  []Hold
	Revision int64
	// Detail says more where the holders alone do not explain the conflict.
	Detail string
}

func (e *ConflictError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "volume %q", e.Volume)
	for i, h := range e.Holders {
		sep := ","
		if i == 0 {
			sep = " is held by"
		}
		fmt.Fprintf(&b, "%s node %s of cluster %s (%s", sep, h.Node, h.Cluster, h.Mode)
		if !h.Since.IsZero() {
			fmt.Fprintf(&b, ", since %s", h.Since.UTC().Format(time.RFC3339))
		}
		if h.Token != 0 {
			fmt.Fprintf(&b, ", token %s", h.Token)
		}
		if h.Lapsed {
			b.WriteString(", lapsed")
		}
		if h.Broken != nil {
			b.WriteString(", its record does not decode")
		}
		b.WriteString(")")
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	fmt.Fprintf(&b, " [revision %d]", e.Revision)
	return b.String()
}

// Is makes the error match ErrConflict and, if all holders have lapsed, ErrLapsed.
func (e *ConflictError) Is(target error) bool {
	switch target {
	case ErrConflict:
		return true
	case ErrLapsed:
		for _, h := range e.Holders {
			if !h.Lapsed {
				return false
			}
		}
		return len(e.Holders) > 0
	}
	return false
}

// GraceError says who detached a volume and how long its grace period lasts. It is an ErrInGrace.
type GraceError struct {
	Volume      string
	Detachments []Detachment
	// Left is what etcd says is left of the longest grace, rounded up to whole
	// seconds. A leader change of etcd makes it longer.
	Left     time.Duration
	Revision int64
}

func (e *GraceError) Error() string {
	var by []string
	for _, d := range e.Detachments {
		by = append(by, fmt.Sprintf("node %s of cluster %s at %s", d.Node, d.Cluster, d.At.UTC().Format(time.RFC3339)))
	}
	return fmt.Sprintf("volume %q is in its grace period: detached by %s, %s left for its own cluster alone [revision %d]",
		e.Volume, strings.Join(by, " and "), e.Left.Round(time.Second), e.Revision)
}

// Is makes the error match ErrInGrace.
func (e *GraceError) Is(target error) bool { return target == ErrInGrace }

// MismatchError says whose name it is. It is an ErrClusterMismatch.
type MismatchError struct {
	Cluster string
	// Recorded is the identity on record, Given the one that this process was started with.
	Recorded, Given string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("cluster %q is on record with the kube-system UID %q, and this process has %q: "+
		"expected a name of its own for each cluster, and a rebind where one was built anew",
		e.Cluster, e.Recorded, e.Given)
}

// Is makes the error match ErrClusterMismatch.
func (e *MismatchError) Is(target error) bool { return target == ErrClusterMismatch }
