package watch

import (
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/holdfast-storage/holdfast/state"
)

// record is an attachment as the index keeps it: 64 bytes, for there may be a
// million. Its volume is the key that it is found by, its cluster the index's
// and its node the entry's.
type record struct {
	uid    unique.Handle[string] // few UIDs, many attachments
	token  state.Token
	since  int64 // milliseconds since 1970, which is what etcd's record has
	lease  state.LeaseID
	create int64
	mod    int64
	list   uint32 // the last list that had it
	mode   byte   // its letter; 0 where the record does not decode
}

func newRecord(a state.Attachment, list uint32) *record {
	r := &record{
		uid: unique.Make(a.NodeUID), token: a.Token, since: a.Since.UnixMilli(),
		lease: a.Lease, create: a.CreateRevision, mod: a.ModRevision, list: list,
	}
	if a.Mode != "" {
		r.mode = a.Mode.Letter()[0]
	}
	return r
}

func (r *record) modeOf() state.Mode {
	switch r.mode {
	case 'x':
		return state.Exclusive
	case 's':
		return state.Shared
	}
	return ""
}

// entry is what the index has of one node: in the Node list, or with records, or both.
type entry struct {
	name string

	node     Node
	listed   bool   // in the Node list
	nodeList uint32 // the last Node list that had it

	records map[string]*record // by volume
	broken  map[string]error   // by volume: why a record does not decode
	alien   int                // records that were made under another UID than node's
	graces  map[string]struct{}

	departure     *state.Departure
	departureList uint32
	departureSeen time.Time // when its ModRevision came, on the monotonic clock
	returned      int64     // ModRevision of the last departure that the Node list contradicted

	quarantine     *state.Quarantine
	quarantineList uint32

	// What the index's counts have of the entry.
	missing, suspect bool
}

// empty: nothing is left that the entry would be kept for.
func (e *entry) empty() bool {
	return !e.listed && len(e.records) == 0 && e.departure == nil && e.quarantine == nil
}

// contradicts says whether the Node list contradicts the departure on record.
func (e *entry) contradicts(matchUID bool) bool {
	d := e.departure
	if d == nil || !e.listed {
		return false
	}
	switch d.Reason {
	case state.NodeGone:
		return true
	case state.OutOfService:
		return !e.node.OutOfService
	case state.NodeReplaced:
		return !matchUID || d.UID == e.node.UID
	}
	return false
}

// differs says whether r was made under another Node UID than the present
// one's. An unknown UID differs from none.
func (e *entry) differs(r *record) bool {
	uid := r.uid.Value()
	return e.listed && uid != "" && e.node.UID != "" && uid != e.node.UID
}

func (e *entry) recount() {
	e.alien = 0
	for _, r := range e.records {
		if e.differs(r) {
			e.alien++
		}
	}
}

// held is a record as it is at one moment.
type held struct {
	volume string
	record
	broken error
}

// holding copies the records, in no order.
func (e *entry) holding() []held {
	if len(e.records) == 0 {
		return nil
	}
	out := make([]held, 0, len(e.records))
	for volume, r := range e.records {
		out = append(out, held{volume, *r, e.broken[volume]})
	}
	return out
}

// attachmentsOf makes of a node's records what callers see, in the order of volumes.
func attachmentsOf(cluster, node string, all []held) []state.Attachment {
	if len(all) == 0 {
		return nil
	}
	order := make([]*held, len(all)) // smaller to move about
	for i := range all {
		order[i] = &all[i]
	}
	slices.SortFunc(order, func(a, b *held) int { return strings.Compare(a.volume, b.volume) })
	out := make([]state.Attachment, len(all))
	for i, r := range order {
		out[i] = state.Attachment{
			Volume: r.volume, Cluster: cluster, Node: node,
			Mode: r.modeOf(), NodeUID: r.uid.Value(), Since: time.UnixMilli(r.since).UTC(), Token: r.token,
			Lease: r.lease, CreateRevision: r.create, ModRevision: r.mod, Broken: r.broken,
		}
	}
	return out
}

// nameSet is a set of names that is read sorted, and more often than it changes.
type nameSet struct {
	names  map[string]struct{}
	sorted []string // nil: sort again; never changed once handed out
}

func (s *nameSet) set(name string, in bool) {
	if s.names == nil {
		s.names = make(map[string]struct{})
	}
	if in {
		s.names[name] = struct{}{}
	} else {
		delete(s.names, name)
	}
	s.sorted = nil
}

func (s *nameSet) list() []string {
	if s.sorted == nil && len(s.names) > 0 {
		s.sorted = make([]string, 0, len(s.names))
		for name := range s.names {
			s.sorted = append(s.sorted, name)
		}
		slices.Sort(s.sorted)
	}
	return s.sorted
}
