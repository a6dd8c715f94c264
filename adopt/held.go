package adopt

import (
	"context"
	"slices"

	"github.com/holdfast-storage/holdfast/state"
)

// Holder is a node that holds a volume.
type Holder struct {
	Cluster string     `json:"cluster"`
	Node    string     `json:"node"`
	Mode    state.Mode `json:"mode"`

	revision int64 // the create revision of the hold's key
}

func (h Holder) place() state.Place { return state.Place{Cluster: h.Cluster, Node: h.Node} }

// excludes tells whether the hold keeps another node from holding the volume in
// a mode. Of an unknown mode nothing more is said than of a shared one.
func (h Holder) excludes(mode state.Mode) bool {
	return h.Mode == state.Exclusive || mode == state.Exclusive
}

// suffices tells whether the hold is one that a node of a mode may go by. One
// that is stricter than the access modes is the driver's own choice.
func (h Holder) suffices(mode state.Mode) bool {
	return h.Mode == state.Exclusive || mode != state.Exclusive
}

// Held is what the ledger has that matters to one cluster. The zero value is a
// ledger that is empty, or not there yet.
type Held struct {
	// Holders are by volume: the cluster's own, and the others' of the volumes
	// that it has attached too.
	Holders map[string][]Holder
	// Migrations are the open windows that the cluster has a part in, by volume.
	Migrations map[string]state.Migration
	// Graces are the detachments of the other clusters that keep the cluster
	// from attaching, by volume. Only ReadForImport fills them in.
	Graces map[string][]state.Detachment
	// Detached are the cluster's own nodes that have detached within a grace
	// period, by volume. Only ReadForImport fills them in.
	Detached map[string][]string

	own int // the cluster's holds
}

// ReadHeld reads what the ledger has, in one walk of the keys of all holds: they
// are ordered by volume. r says which volumes of other clusters matter.
//
// The windows are read after the holds: a migration that begins in between is
// then known for one.
func ReadHeld(ctx context.Context, l *state.Ledger, cluster string, r *Reading) (*Held, error) {
	wanted := make(map[string]bool, len(r.Attachments))
	for _, a := range r.Attachments {
		wanted[a.Volume] = true
	}
	held := &Held{Holders: map[string][]Holder{}, Migrations: map[string]state.Migration{}}
	for h, err := range l.HoldKeys(ctx, "") {
		if err != nil {
			return nil, err
		}
		if h.Cluster == cluster {
			held.own++
		} else if !wanted[h.Volume] {
			continue
		}
		held.Holders[h.Volume] = append(held.Holders[h.Volume], Holder{Cluster: h.Cluster, Node: h.Node, Mode: h.Mode, revision: h.Revision})
	}
	for m, err := range l.Migrations(ctx) {
		if err != nil {
			return nil, err
		}
		if m.Broken == nil && (m.Source.Cluster == cluster || m.Target.Cluster == cluster) {
			held.Migrations[m.Volume] = m
		}
	}
	return held, nil
}

// ReadForImport is ReadHeld with the graces.
func ReadForImport(ctx context.Context, l *state.Ledger, cluster string, r *Reading) (*Held, error) {
	held, err := ReadHeld(ctx, l, cluster, r)
	if err != nil {
		return nil, err
	}
	held.Graces, held.Detached = map[string][]state.Detachment{}, map[string][]string{}
	for d, err := range l.Detachments(ctx, "") {
		if err != nil {
			return nil, err
		}
		switch {
		case d.Cluster == cluster:
			held.Detached[d.Volume] = append(held.Detached[d.Volume], d.Node)
		case d.Mode == state.Exclusive:
			held.Graces[d.Volume] = append(held.Graces[d.Volume], d)
		}
	}
	return held, nil
}

// of is the hold that a node of the cluster has of a volume.
func (h *Held) of(volume string, place state.Place) (Holder, bool) {
	i := slices.IndexFunc(h.Holders[volume], func(o Holder) bool { return o.place() == place })
	if i < 0 {
		return Holder{}, false
	}
	return h.Holders[volume][i], true
}

// blocking are the holds that keep a node from holding a volume in a mode.
func (h *Held) blocking(volume string, place state.Place, mode state.Mode) []Holder {
	var out []Holder
	for _, o := range h.Holders[volume] {
		if o.place() != place && o.excludes(mode) {
			out = append(out, o)
		}
	}
	return out
}
