package history

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Invariant is what must always be so. As an error it stands for every
// violation of it: errors.Is(violation, TwoExclusive).
type Invariant string

// Error makes an Invariant a sentinel.
func (i Invariant) Error() string { return "history: " + string(i) }

// The invariants, by the name of what breaks them.
const (
	// TwoExclusive: a second exclusive hold, and no window was opened with it.
	TwoExclusive Invariant = "two-exclusive"
	// ThirdHold: a third exclusive hold of a volume.
	ThirdHold Invariant = "third-hold"
	// MixedModes: an exclusive and a shared hold of one volume.
	MixedModes Invariant = "mixed-modes"
	// GraceBroken: a hold in another cluster's grace, unforced.
	GraceBroken Invariant = "grace-broken"
	// HoldRewritten: a hold is put once; its record never changes.
	HoldRewritten Invariant = "hold-rewritten"
	// TokenNotGrown: a hold whose token is not above those of all holds that its volume had.
	TokenNotGrown Invariant = "token-not-grown"
	// FrozenWrite: a hold, a removal or an eviction under a freeze.
	FrozenWrite Invariant = "frozen-write"
	// FreezeLifted: a restore's freeze goes without the epoch above all it knew of.
	FreezeLifted Invariant = "freeze-lifted"
	// WrittenWhileRestored: a hold, a removal or an eviction in a restored etcd
	// before the epoch was raised.
	WrittenWhileRestored Invariant = "written-while-restored"
	// UnaskedHold: a hold that no call can have put.
	UnaskedHold Invariant = "unasked-hold"
	// UnexplainedEnd: a hold ends without a detachment, or nobody has ended it.
	UnexplainedEnd Invariant = "unexplained-end"
	// WrongRemoval: a removal of what a node stands behind, or on evidence that is not so.
	WrongRemoval Invariant = "wrong-removal"
	// EarlyEnd: a wait that ends before its time, or not by its lease.
	EarlyEnd Invariant = "early-end"
	// AttachmentLapse: an attachment that goes without its hold, and not by its lease.
	AttachmentLapse Invariant = "attachment-lapse"
	// LeaseShape: a record under a lease that must have none, or under none.
	LeaseShape Invariant = "lease-shape"
	// OrphanKeys: records that only exist together, apart.
	OrphanKeys Invariant = "orphan-keys"
	// LostRecord: what is never deleted, deleted.
	LostRecord Invariant = "lost-record"
	// UnknownKey: a key below the prefix which is not the ledger's, or a value that does not decode.
	UnknownKey Invariant = "unknown-key"
)

// Invariants are all of them.
var Invariants = []Invariant{
	TwoExclusive, ThirdHold, MixedModes, GraceBroken, HoldRewritten, TokenNotGrown, FrozenWrite, FreezeLifted,
	WrittenWhileRestored, UnaskedHold, UnexplainedEnd, WrongRemoval, EarlyEnd, AttachmentLapse, LeaseShape, OrphanKeys, LostRecord, UnknownKey,
}

// Violation is an invariant broken.
type Violation struct {
	Invariant Invariant
	// Key is the one it was seen at, and Volume, Cluster and Node are the key's.
	Key      Key
	Segment  int
	Revision int64
	When     Bounds
	Detail   string
	// Records are those involved, as they stood before the revision or in it.
	Records []string
}

func (v Violation) Error() string {
	out := fmt.Sprintf("%s: segment %d, revision %d, between %v and %v: %s: %s", v.Invariant, v.Segment, v.Revision,
		v.When.Lower.Round(time.Millisecond), v.When.Upper.Round(time.Millisecond), v.Key.below(), v.Detail)
	if len(v.Records) > 0 {
		out += "\n\t" + strings.Join(v.Records, "\n\t")
	}
	return out
}

// Unwrap makes errors.Is find the invariant.
func (v Violation) Unwrap() error { return v.Invariant }

// Report is what a checker has found so far.
type Report struct {
	Segments, Revisions, Events int
	// Removed is how many orphans were removed.
	Removed int
	// Evaluated counts how often each invariant was looked at. One that stays
	// at zero says nothing.
	Evaluated map[Invariant]int
	// Violations are the first of them, Violated is how many there were.
	Violations []Violation
	Violated   int
	// Tolerated would be violations, had anybody been told: a wait that was cut
	// short and whose call has not returned, or with an unknown outcome, or that
	// was left by a removal while etcd stood still.
	Tolerated []Violation
	// Ended counts the waits that ended by themselves, by kind; Skipped those
	// of them that could not be judged, as they came with a segment's list.
	Ended   map[Kind]int
	Skipped int
	// Unproven counts events in the present segment whose former value etcd had
	// compacted away, so that only their version could be checked.
	Unproven int
}

// Err joins the violations; nil if there are none.
func (r Report) Err() error {
	if r.Violated == 0 {
		return nil
	}
	lines := make([]error, len(r.Violations))
	for i, v := range r.Violations {
		lines[i] = v
	}
	return fmt.Errorf("history: %d violations:\n%w", r.Violated, errors.Join(lines...))
}
