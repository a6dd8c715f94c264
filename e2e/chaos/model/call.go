package model

import (
	"math"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// Kind is what a call asks for. The set is closed.
type Kind string

// The kinds of calls. Freeze and Unfreeze are about the ledger, all others
// about one volume.
const (
	Attach   Kind = "attach"
	Detach   Kind = "detach"
	Migrate  Kind = "migrate"
	Commit   Kind = "commit"
	Abort    Kind = "abort"
	Clear    Kind = "clear"
	Remove   Kind = "remove"
	Evict    Kind = "evict"
	Rearm    Kind = "rearm"
	Get      Kind = "get"
	Freeze   Kind = "freeze"
	Unfreeze Kind = "unfreeze"
	// arrival is no call: a hold that was seen comes into being, by one of the
	// calls that may have made it.
	arrival Kind = "arrival"
)

// Outcome is how a call ended, as far as its caller was told.
type Outcome string

// The outcomes.
const (
	OK         Outcome = "ok"
	Conflict   Outcome = "conflict"
	InGrace    Outcome = "in-grace"
	StaleToken Outcome = "stale-token"
	NotFound   Outcome = "not-found"
	Frozen     Outcome = "frozen"
	// Refused: a removal or an eviction whose evidence had changed.
	Refused Outcome = "refused"
	// Unavailable: definitely not carried out, and nothing learned.
	Unavailable Outcome = "unavailable"
	// Unknown: may have been carried out, or still be at any later moment.
	Unknown Outcome = "unknown"
)

// Op is what was asked for. Its fields are those of the kind alone.
type Op struct {
	Kind   Kind   `json:"kind"`
	Volume string `json:"volume,omitempty"`
	// Place is the node that the call is about; of a migration the source.
	Place state.Place `json:"place,omitzero"`
	// Mode is the hold's or the detachment's; empty means exclusive. A detach
	// does not know it.
	Mode state.Mode `json:"mode,omitempty"`
	// Token is the hold's that the call named, of a migration the source's; 0
	// where the caller named none.
	Token state.Token `json:"token,omitempty"`
	// Target and TargetToken: Migrate names the place, Commit and Abort both.
	Target      state.Place `json:"target,omitzero"`
	TargetToken state.Token `json:"targetToken,omitempty"`
	IgnoreGrace bool        `json:"ignoreGrace,omitempty"`
	// Revision is the ModRevision of the detachment that Clear names.
	Revision int64 `json:"revision,omitempty"`
	// Wait is the least length of what the call begins: the grace of an end,
	// the window of a migration. 0: it may end at any moment.
	Wait time.Duration `json:"wait,omitempty"`
	// Session is how long the attachment that the call puts stands at least,
	// from the call's begin: a third of Config.AttachmentTTL, since a lease is
	// handed out for as long as it has that left. 0: it may lapse at any moment.
	Session time.Duration `json:"session,omitempty"`
}

func (o Op) mode() state.Mode {
	if o.Mode == "" {
		return state.Exclusive
	}
	return o.Mode
}

// loser is the side that a Commit or an Abort ends.
func (o Op) loser() (state.Place, state.Token) {
	if o.Kind == Commit {
		return o.Place, o.Token
	}
	return o.Target, o.TargetToken
}

// Hold is a hold as an answer showed it.
type Hold struct {
	Place  state.Place `json:"place"`
	Mode   state.Mode  `json:"mode"`
	Token  state.Token `json:"token"`
	Lapsed bool        `json:"lapsed,omitempty"`
}

// Detachment is a detachment as an answer showed it.
type Detachment struct {
	Place state.Place `json:"place"`
	Mode  state.Mode  `json:"mode"`
	Token state.Token `json:"token,omitempty"`
	// At is the writer's clock in nanoseconds. It is never compared with a
	// time: it tells a record that was put again from another end's.
	At       int64 `json:"at,omitempty"`
	Revision int64 `json:"revision,omitempty"`
}

// Migration is a window as an answer showed it.
type Migration struct {
	Source      state.Place `json:"source"`
	Target      state.Place `json:"target"`
	SourceToken state.Token `json:"sourceToken"`
	TargetToken state.Token `json:"targetToken"`
}

// Result is what a caller was told.
type Result struct {
	Outcome Outcome `json:"outcome"`
	// Token is the attached hold's.
	Token state.Token `json:"token,omitempty"`
	// Existed: the detach ended a hold, and Detachments has what it left.
	Existed bool `json:"existed,omitempty"`
	// Holds are all holds (get), or the holders that a conflict named.
	Holds []Hold `json:"holds,omitempty"`
	// Detachments are all of the volume (get), or those that ErrInGrace named.
	Detachments []Detachment `json:"detachments,omitempty"`
	Migration   *Migration   `json:"migration,omitempty"`
	// Refused is the reason: one of state's Refused constants.
	Refused string `json:"refused,omitempty"`
	// Revision is etcd's, at which the answer was true; 0 if it did not say.
	Revision int64 `json:"revision,omitempty"`
	// Short: carried out, but the wait that it began may end early.
	Short bool   `json:"short,omitempty"`
	Err   string `json:"err,omitempty"`
}

// Never is the end of a call that was never answered.
const Never time.Duration = math.MaxInt64

// Call is one call and its answer.
type Call struct {
	Client int           `json:"client"`
	Begin  time.Duration `json:"begin"`
	End    time.Duration `json:"end"`
	Op     Op            `json:"op"`
	Result Result        `json:"result"`
}

func (c *Call) until() time.Duration {
	if c.Op.Wait == 0 || c.Result.Short {
		return 0
	}
	return c.Begin + c.Op.Wait
}

// Away is a time in which a controller may remove whatever holds a node has.
type Away struct {
	Place state.Place   `json:"place"`
	From  time.Duration `json:"from"`
	To    time.Duration `json:"to"`
	// Wait is the grace that a removal leaves at least; 0 if not known.
	Wait time.Duration `json:"wait,omitempty"`
}

// Cut is a time in which etcd was set back to an older state.
type Cut struct {
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
}

// History is all that a run recorded.
type History struct {
	Calls []Call `json:"calls"`
	Aways []Away `json:"aways,omitempty"`
	Cuts  []Cut  `json:"cuts,omitempty"`
}
