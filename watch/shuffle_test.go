package watch

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-storage/holdfast/state"
)

// nodeSource is the Node list's place among the sources, behind the parts.
const nodeSource = int(parts)

// shuffled are sources that are behind: what has happened is told in the order of
// each source, and in no order between them. A watch that breaks loses what it had
// yet to tell, and lists anew, in pages between which the others go on.
type shuffled struct {
	*model
	pending [parts + 1][]func()

	// What is there, told or not.
	records map[waiter]state.Attachment
	departs map[string]state.Departure
	waiting map[string]state.Quarantine
	present map[string]Node
}

func (s *shuffled) later(source int, tell func()) {
	s.pending[source] = append(s.pending[source], tell)
}

// tell has the index and the model told of one change, as of a revision.
func (s *shuffled) tell(p part, typ state.EventType, record any, apply func()) {
	revision := s.revision
	s.later(int(p), func() {
		apply()
		s.shown(p, state.Batch{Revision: revision, Events: []state.Event{{Type: typ, Record: record}}})
	})
}

func (s *shuffled) shown(p part, b state.Batch) {
	s.viewed[p] = max(s.viewed[p], b.Revision)
	s.took(s.ix.apply(p, b))
}

func (s *shuffled) putAttachment(t *rapid.T) {
	at := waiter{node: pick(t, "node", names), volume: pick(t, "volume", volumes)}
	a := state.Attachment{
		Volume: at.volume, Cluster: "a", Node: at.node, Mode: state.Exclusive, NodeUID: pick(t, "uid", uids),
		ModRevision: s.next(), Lease: state.LeaseID(rapid.IntRange(1, 3).Draw(t, "lease")),
	}
	a.CreateRevision, a.Token = a.ModRevision, state.NewToken(1, a.ModRevision)
	s.records[at] = a
	s.tell(partAttachments, state.Put, a, func() { s.learn(at, a) })
}

func (s *shuffled) learn(at waiter, a state.Attachment) {
	s.model.records[at] = a
	delete(s.lapsed, at)
}

func (s *shuffled) dropAttachment(t *rapid.T) {
	at := waiter{node: pick(t, "node", names), volume: pick(t, "volume", volumes)}
	if _, there := s.records[at]; !there {
		t.Skip("nothing to drop")
	}
	s.next()
	delete(s.records, at)
	s.tell(partAttachments, state.Delete, state.Attachment{Cluster: "a", Node: at.node, Volume: at.volume}, func() { s.drop(at) })
}

// relistAttachments: those that it had yet to tell are lost, the list that it was
// in the middle of too.
func (s *shuffled) relistAttachments(*rapid.T) {
	list, revision := slices.Collect(maps.Values(s.records)), s.revision
	kept := maps.Clone(s.records)
	page := func(b state.Batch, events []state.Attachment) func() {
		return func() {
			b.Revision = revision
			for _, a := range events {
				s.learn(waiter{a.Node, a.Volume}, a)
				b.Events = append(b.Events, state.Event{Type: state.Put, Record: a})
			}
			if !b.Synced {
				s.took(s.ix.apply(partAttachments, b))
				return
			}
			for at := range maps.Clone(s.model.records) {
				if _, listed := kept[at]; !listed {
					s.drop(at)
				}
			}
			s.shown(partAttachments, b)
		}
	}
	half := len(list) / 2
	s.pending[partAttachments] = []func(){page(state.Batch{Reset: true}, list[:half]), page(state.Batch{}, list[half:]), page(state.Batch{Synced: true}, nil)}
}

func (s *shuffled) depart(t *rapid.T) {
	d := state.Departure{
		Cluster: "a", Node: pick(t, "node", names), ModRevision: s.next(),
		Reason: rapid.SampledFrom([]state.DepartureReason{state.NodeGone, state.OutOfService}).Draw(t, "reason"),
	}
	s.departs[d.Node] = d
	s.tell(partDepartures, state.Put, d, func() { s.departed[d.Node] = d })
	if rapid.Bool().Draw(t, "with a quarantine") { // of the same transaction
		q := state.Quarantine{Cluster: "a", Node: d.Node, ModRevision: d.ModRevision}
		s.waiting[q.Node] = q
		s.tell(partQuarantines, state.Put, q, func() { s.waits[q.Node] = q })
	}
}

func (s *shuffled) giveBack(t *rapid.T) {
	name := pick(t, "node", names)
	if _, there := s.departs[name]; !there {
		t.Skip("not departed")
	}
	s.next()
	delete(s.departs, name)
	s.tell(partDepartures, state.Delete, state.Departure{Cluster: "a", Node: name}, func() { delete(s.departed, name) })
}

func (s *shuffled) endQuarantine(t *rapid.T) {
	name := pick(t, "node", names)
	if _, there := s.waiting[name]; !there {
		t.Skip("not waited for")
	}
	s.next()
	delete(s.waiting, name)
	s.tell(partQuarantines, state.Delete, state.Quarantine{Cluster: "a", Node: name}, func() { delete(s.waits, name) })
}

// relistRest is a relist of the small parts, each a list of one page.
func (s *shuffled) relistRest(t *rapid.T) {
	revision := s.revision
	if rapid.Bool().Draw(t, "departures") {
		list := maps.Clone(s.departs)
		s.pending[partDepartures] = []func(){func() {
			b := state.Batch{Reset: true, Synced: true, Revision: revision}
			for _, d := range list {
				b.Events = append(b.Events, state.Event{Type: state.Put, Record: d})
			}
			s.departed = maps.Clone(list)
			s.shown(partDepartures, b)
		}}
		return
	}
	list := maps.Clone(s.waiting)
	s.pending[partQuarantines] = []func(){func() {
		b := state.Batch{Reset: true, Synced: true, Revision: revision}
		for _, q := range list {
			b.Events = append(b.Events, state.Event{Type: state.Put, Record: q})
		}
		s.waits = maps.Clone(list)
		s.shown(partQuarantines, b)
	}}
}

func (s *shuffled) node(t *rapid.T) {
	n := s.drawNode(t, pick(t, "node", names))
	gone := rapid.Bool().Draw(t, "gone")
	delete(s.present, n.Name)
	if !gone {
		s.present[n.Name] = n
	}
	s.later(nodeSource, func() {
		delete(s.nodes, n.Name)
		if !gone {
			s.nodes[n.Name] = n
		}
		s.took(s.ix.applyNode(n, gone))
	})
}

func (s *shuffled) relistNodes(*rapid.T) {
	list := maps.Clone(s.present)
	s.pending[nodeSource] = []func(){func() {
		s.nodes, s.since = maps.Clone(list), s.revision
		s.took(s.ix.replaceNodes(slices.Collect(maps.Values(list)), s.since))
	}}
}

func (s *shuffled) deliver(t *rapid.T) {
	from := rapid.IntRange(0, nodeSource).Draw(t, "source")
	if len(s.pending[from]) == 0 {
		t.Skip("it has nothing to tell")
	}
	for n := rapid.IntRange(1, 3).Draw(t, "changes"); n > 0 && len(s.pending[from]) > 0; n-- {
		next := s.pending[from][0]
		s.pending[from] = s.pending[from][1:]
		next()
	}
}

// settle has everything told, and expects that the index is the join of what is
// there, in whatever order it was told.
func (s *shuffled) settle(t *rapid.T) {
	for source := range s.pending {
		for _, next := range s.pending[source] {
			next()
		}
		s.pending[source] = nil
	}
	if !maps.Equal(s.nodes, s.present) || !maps.Equal(s.waits, s.waiting) || !maps.Equal(s.departed, s.departs) || len(s.model.records) != len(s.records) {
		t.Fatalf("not all was told: %v, want %v; %v, want %v", s.model.records, s.records, s.departed, s.departs)
	}
	s.compare()
}

func TestIndexIsThePlainJoin_Shuffled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &shuffled{
			model: newModel(t), records: map[waiter]state.Attachment{}, departs: map[string]state.Departure{},
			waiting: map[string]state.Quarantine{}, present: map[string]Node{},
		}
		t.Repeat(map[string]func(*rapid.T){
			"":                   func(*rapid.T) { s.compare() },
			"attach":             s.putAttachment,
			"detach":             s.dropAttachment,
			"depart":             s.depart,
			"return":             s.giveBack,
			"quarantine over":    s.endQuarantine,
			"node":               s.node,
			"relist attachments": s.relistAttachments,
			"relist the rest":    s.relistRest,
			"relist nodes":       s.relistNodes,
			"deliver":            s.deliver,
			"deliver again":      s.deliver,
			"deliver once more":  s.deliver,
		})
		s.settle(t)
	})
}
