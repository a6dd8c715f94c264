package model

import (
	"context"
	"errors"

	"github.com/holdfast-storage/holdfast/state"
)

// Attached is the result of Cluster.Attach.
func Attached(h state.Hold, err error) Result {
	if err != nil {
		return Failed(err)
	}
	return Result{Outcome: OK, Token: h.Token}
}

// Detached is the result of Cluster.Detach. With an error beside an end, the
// hold has ended and only its grace is in doubt.
func Detached(e state.Ended, err error) Result {
	switch {
	case !e.Existed && err != nil:
		return Failed(err)
	case !e.Existed:
		return Result{Outcome: OK}
	}
	return Result{
		Outcome: OK, Existed: true, Revision: e.Detachment.ModRevision,
		Detachments: []Detachment{toDetachment(e.Detachment)}, Short: err != nil, Err: text(err),
	}
}

// Migrated is the result of Cluster.Migrate.
func Migrated(m state.Migration, err error) Result {
	if m.TargetToken == 0 {
		return Failed(err)
	}
	return Result{Outcome: OK, Revision: m.Revision, Migration: toMigration(m), Short: err != nil, Err: text(err)}
}

// Finished is the result of Cluster.Commit and Cluster.Abort, which have no answer
// but the error: one of them says that the end was carried out.
func Finished(err error) Result {
	if errors.Is(err, state.ErrShortWait) {
		return Result{Outcome: OK, Short: true, Err: text(err)}
	}
	return Failed(err)
}

// Ended is the result of one member of Leadership.Remove or Ledger.Evict; err
// is that of the whole call.
func Ended(r state.EndResult, err error) Result {
	switch {
	case r.Ended:
		return Result{Outcome: OK, Short: r.Err != nil, Err: text(r.Err)}
	case r.Refused != "":
		return Result{Outcome: Refused, Refused: r.Refused}
	case r.Err != nil:
		return Failed(r.Err)
	}
	return Failed(err)
}

// Read is the result of Ledger.Volume.
func Read(v *state.Volume, err error) Result {
	if err != nil {
		// A read changes nothing, whatever became of it.
		return Result{Outcome: Unavailable, Err: text(err)}
	}
	res := Result{Outcome: OK, Revision: v.Revision, Holds: toHolds(v.Holds), Detachments: toDetachments(v.Detachments)}
	if v.Migration != nil {
		res.Migration = toMigration(*v.Migration)
	}
	return res
}

// Failed is the result of a call that answers nothing but an error: Clear,
// Rearm, Freeze and Unfreeze. nil is OK.
func Failed(err error) Result {
	res := Result{Outcome: OutcomeOf(err), Err: text(err)}
	var conflict *state.ConflictError
	var grace *state.GraceError
	switch {
	case res.Outcome == Unknown:
	case errors.As(err, &conflict):
		res.Holds, res.Revision = toHolds(conflict.Holders), conflict.Revision
	case errors.As(err, &grace):
		res.Detachments, res.Revision = toDetachments(grace.Detachments), grace.Revision
	}
	return res
}

// OutcomeOf sorts an error of package state. What it does not know may have
// been carried out.
func OutcomeOf(err error) Outcome {
	for _, c := range []struct {
		is error
		o  Outcome
	}{
		{nil, OK},
		{state.ErrUnknownOutcome, Unknown}, // first: it wraps what the last send was told
		{state.ErrInGrace, InGrace},
		{state.ErrStaleToken, StaleToken},
		{state.ErrConflict, Conflict},
		{state.ErrNotFound, NotFound},
		{state.ErrFrozen, Frozen},
		{state.ErrUnavailable, Unavailable},
		{state.ErrNoSpace, Unavailable},
		{state.ErrPaused, Unavailable},
		{state.ErrNotLeader, Unavailable},
		{state.ErrClusterMismatch, Unavailable},
		{state.ErrRestored, Unavailable},
		{state.ErrInvalid, Unavailable},
		{state.ErrPermission, Unavailable},
		{state.ErrReadOnly, Unavailable},
		// Bare, the caller's own: its call was never sent.
		{context.Canceled, Unavailable},
		{context.DeadlineExceeded, Unavailable},
	} {
		if errors.Is(err, c.is) {
			return c.o
		}
	}
	return Unknown
}

func toHolds(holds []state.Hold) []Hold {
	out := make([]Hold, 0, len(holds))
	for _, h := range holds {
		out = append(out, Hold{Place: h.Place(), Mode: h.Mode, Token: h.Token, Lapsed: h.Lapsed})
	}
	return out
}

func toDetachment(d state.Detachment) Detachment {
	return Detachment{
		Place: state.Place{Cluster: d.Cluster, Node: d.Node}, Mode: d.Mode, Token: d.Token,
		At: d.At.UnixNano(), Revision: d.ModRevision,
	}
}

func toDetachments(detachments []state.Detachment) []Detachment {
	out := make([]Detachment, 0, len(detachments))
	for _, d := range detachments {
		out = append(out, toDetachment(d))
	}
	return out
}

func toMigration(m state.Migration) *Migration {
	return &Migration{Source: m.Source, Target: m.Target, SourceToken: m.SourceToken, TargetToken: m.TargetToken}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
