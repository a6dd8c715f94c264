package main

import (
	"context"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// The records as -o json and -o yaml print them: state's own form, with what
// that leaves out. Their shape is stable: fields are added, never renamed.

// Durations are in seconds. What is left of one is as etcd says it, and is said
// by get alone.

type holdView struct {
	state.Hold
	// Broken is why the record in etcd does not decode. It counts as held.
	Broken string `json:"broken,omitempty"`
}

func viewHold(h state.Hold) holdView { return holdView{h, text(h.Broken)} }

type attachmentView struct {
	state.Attachment
	LeftSeconds *float64 `json:"leftSeconds,omitempty"`
	Broken      string   `json:"broken,omitempty"`
}

func viewAttachment(a state.Attachment) attachmentView {
	return attachmentView{Attachment: a, Broken: text(a.Broken)}
}

type detachmentView struct {
	state.Detachment
	Grace        any      `json:"grace,omitempty"` // hides nanoseconds; see GraceSeconds
	GraceSeconds float64  `json:"graceSeconds"`
	LeftSeconds  *float64 `json:"leftSeconds,omitempty"`
	Broken       string   `json:"broken,omitempty"`
}

func viewDetachment(d state.Detachment) detachmentView {
	return detachmentView{Detachment: d, GraceSeconds: d.Grace.Seconds(), Broken: text(d.Broken)}
}

type migrationView struct {
	state.Migration
	LeftSeconds *float64 `json:"leftSeconds,omitempty"`
	Broken      string   `json:"broken,omitempty"`
}

func viewMigration(m state.Migration) migrationView {
	return migrationView{Migration: m, Broken: text(m.Broken)}
}

type entryView struct {
	state.Entry
	Broken string `json:"broken,omitempty"`
}

func viewEntry(e state.Entry) entryView { return entryView{e, text(e.Broken)} }

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// leases asks etcd what is left of leases, each once.
type leases struct {
	ledger *state.Ledger
	known  map[state.LeaseID]time.Duration
}

func newLeases(l *state.Ledger) *leases {
	return &leases{ledger: l, known: map[state.LeaseID]time.Duration{}}
}

// left puts what is left of a lease, in seconds: 0 for one that is gone, or
// about to go.
func (l *leases) left(ctx context.Context, id state.LeaseID, put **float64) error {
	left, ok := l.known[id]
	if !ok && id != 0 {
		var err error
		if left, err = l.ledger.TimeLeft(ctx, id); err != nil {
			return err
		}
		l.known[id] = left
	}
	s := left.Seconds()
	*put = &s
	return nil
}
