package watch

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/holdfast-storage/holdfast/state"
)

// model is the join done the plain way: what etcd and the Node list have, and
// everything worked out from there each time.
type model struct {
	t  *rapid.T
	ix *index

	matchUID bool
	revision int64
	since    int64
	nodes    map[string]Node
	records  map[waiter]state.Attachment
	departed map[string]state.Departure
	waits    map[string]state.Quarantine
	graces   map[waiter]bool
	lapsed   map[waiter]bool
	returned map[string]int64 // departures that were contradicted, by node
	viewed   [parts]int64     // how far the index has seen

	told map[string]told
}

// told is what there was to know of a node after the change before.
type told struct {
	suspect bool
	view    NodeView
}

var (
	names   = []string{"n1", "n2", "n3", "n4"}
	volumes = []string{"v1", "v2", "v3"}
	uids    = []string{"", "u1", "u2"}
)

func pick(t *rapid.T, label string, from []string) string {
	return rapid.SampledFrom(from).Draw(t, label)
}

func (m *model) next() int64 { m.revision++; return m.revision }

// took checks that a change of the index asked to look at every node whose
// evidence changed and that is, or was, a suspect.
func (m *model) took(c changes) {
	for _, r := range c.released {
		if m.graces[r] {
			m.t.Fatalf("%v waits no more, and is to wait", r)
		}
	}
	for name, d := range m.departed {
		n, present := m.nodes[name]
		if present && (d.Reason != state.OutOfService || !n.OutOfService) {
			m.returned[name] = d.ModRevision
		}
	}
	for _, name := range names {
		was := m.told[name]
		is := told{suspect: m.suspect(name), view: m.view(name)}
		m.told[name] = is
		if _, asked := c.nodes[name]; asked || c.all && is.suspect {
			continue
		}
		diff := cmp.Diff(was.view, is.view, evidence()...)
		if diff != "" && (is.suspect || was.suspect) {
			m.t.Fatalf("%s changed, and was not to be looked at: %s", name, diff)
		}
	}
}

// evidence compares views as far as a decision rests on them.
func evidence() []cmp.Option {
	return []cmp.Option{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Node{}, "Ready", "Deleting")}
}

func (m *model) view(name string) NodeView {
	v := NodeView{Name: name, ContinuousSince: m.since}
	v.Node, v.Present = m.nodes[name], false
	_, v.Present = m.nodes[name]
	for _, volume := range volumes {
		at := waiter{node: name, volume: volume}
		if a, ok := m.records[at]; ok {
			v.Attachments = append(v.Attachments, a)
		}
		if m.graces[at] {
			if v.InGrace == nil {
				v.InGrace = map[string]bool{}
			}
			v.InGrace[volume] = true
		}
	}
	if d, ok := m.departed[name]; ok {
		v.Departure = &d
		v.Returned = m.returned[name] == d.ModRevision
		v.Quarantined = d.Reason != state.OutOfService && d.ModRevision > m.viewed[partQuarantines]
	}
	if _, ok := m.waits[name]; ok {
		v.Quarantined = true
	}
	return v
}

func (m *model) suspect(name string) bool {
	v := m.view(name)
	suspect := v.Departure != nil || m.waits[name].ModRevision != 0
	for _, a := range v.Attachments {
		other := a.NodeUID != "" && v.Node.UID != "" && a.NodeUID != v.Node.UID
		suspect = suspect || !v.Present || v.Node.OutOfService || m.matchUID && other
	}
	return suspect
}

// compare checks everything that the index says.
func (m *model) compare() {
	leases, missing, suspects := map[state.LeaseID]int{}, []string(nil), []string(nil)
	attached := map[string]bool{}
	for at, a := range m.records {
		leases[a.Lease]++
		attached[at.node] = true
	}
	for _, name := range names {
		if diff := cmp.Diff(m.view(name), m.ix.view(name), cmpopts.EquateEmpty()); diff != "" {
			m.t.Fatalf("view of %s, -model +index: %s", name, diff)
		}
		if _, present := m.nodes[name]; attached[name] && !present {
			missing = append(missing, name)
		}
		if m.suspect(name) {
			suspects = append(suspects, name)
		}
	}
	got := m.ix.counts()
	want := ClusterView{Nodes: len(m.nodes), Attachments: len(m.records), WithAttachments: len(attached), Missing: missing}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(state.LedgerRecord{}, state.ClusterRecord{})); diff != "" {
		m.t.Fatalf("counts, -model +index: %s", diff)
	}
	if diff := cmp.Diff(suspects, m.ix.suspects.list(), cmpopts.EquateEmpty()); diff != "" {
		m.t.Fatalf("suspects, -model +index: %s", diff)
	}
	if diff := cmp.Diff(leases, m.ix.leases); diff != "" {
		m.t.Fatalf("leases, -model +index: %s", diff)
	}
	for at := range m.ix.lapses.lapses {
		if !m.lapsed[at] {
			m.t.Fatalf("%v lapsed, and did not", at)
		}
	}
	if len(m.ix.lapses.lapses) != len(m.lapsed) {
		m.t.Fatalf("%d lapses, want %v", len(m.ix.lapses.lapses), m.lapsed)
	}
	if m.ix.departures != len(m.departed) || m.ix.quarantines != len(m.waits) {
		m.t.Fatalf("%d departures, %d quarantines; want %d, %d", m.ix.departures, m.ix.quarantines, len(m.departed), len(m.waits))
	}
}

func (m *model) batch(p part, events ...state.Event) {
	m.viewed[p] = m.revision
	m.took(m.ix.apply(p, state.Batch{Events: events, Revision: m.revision}))
}

func (m *model) attach(t *rapid.T) state.Event {
	at := waiter{node: pick(t, "node", names), volume: pick(t, "volume", volumes)}
	a := state.Attachment{
		Volume: at.volume, Cluster: "a", Node: at.node, Mode: state.Exclusive, NodeUID: pick(t, "uid", uids),
		ModRevision: m.next(), Lease: state.LeaseID(rapid.IntRange(1, 3).Draw(t, "lease")),
	}
	a.CreateRevision, a.Token = a.ModRevision, state.NewToken(1, a.ModRevision)
	m.records[at] = a
	delete(m.lapsed, at)
	return state.Event{Type: state.Put, Record: a}
}

func (m *model) detach(t *rapid.T) state.Event {
	at := waiter{node: pick(t, "node", names), volume: pick(t, "volume", volumes)}
	m.next()
	m.drop(at)
	return state.Event{Type: state.Delete, Record: state.Attachment{Cluster: "a", Node: at.node, Volume: at.volume}}
}

func (m *model) drop(at waiter) {
	if _, there := m.records[at]; there {
		delete(m.records, at)
		delete(m.graces, at)
		m.lapsed[at] = true
	}
}

// relist gives the attachments anew, in two pages, after some were lost unseen.
func (m *model) relist(t *rapid.T) {
	for at := range maps.Clone(m.records) {
		if rapid.IntRange(0, 3).Draw(t, "lost") == 0 {
			m.drop(at)
		}
	}
	m.next()
	var events []state.Event
	for _, a := range m.records {
		events = append(events, state.Event{Type: state.Put, Record: a})
	}
	cut := len(events) / 2
	c := m.ix.apply(partAttachments, state.Batch{Reset: true, Revision: m.revision, Events: events[:cut]})
	if c.all || len(c.nodes) > 0 || c.lapsed {
		t.Fatalf("half a list of what was there asks for %+v", c)
	}
	m.viewed[partAttachments] = m.revision
	m.took(m.ix.apply(partAttachments, state.Batch{Synced: true, Revision: m.revision, Events: events[cut:]}))
}

func (m *model) drawNode(t *rapid.T, name string) Node {
	return Node{
		Name: name, UID: pick(t, "uid", uids),
		OutOfService: rapid.Bool().Draw(t, "out of service"), Ready: rapid.Bool().Draw(t, "ready"),
	}
}

func newModel(t *rapid.T) *model {
	m := &model{
		t: t, matchUID: rapid.Bool().Draw(t, "match UIDs"),
		nodes: map[string]Node{}, records: map[waiter]state.Attachment{}, departed: map[string]state.Departure{},
		waits: map[string]state.Quarantine{}, graces: map[waiter]bool{}, lapsed: map[waiter]bool{}, told: map[string]told{},
		returned: map[string]int64{},
	}
	m.ix = newIndex("a", m.matchUID, true)
	for _, name := range names {
		m.told[name] = told{view: m.view(name)}
	}
	return m
}

func TestIndexIsThePlainJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { t.Repeat(newModel(t).actions()) })
}

func (m *model) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"": func(*rapid.T) { m.compare() },
		"attach": func(t *rapid.T) {
			m.batch(partAttachments, m.attach(t))
		},
		"detach": func(t *rapid.T) {
			m.batch(partAttachments, m.detach(t))
		},
		"attach and detach": func(t *rapid.T) {
			m.batch(partAttachments, m.attach(t), m.detach(t), m.attach(t))
		},
		"relist attachments": m.relist,
		"node": func(t *rapid.T) {
			n := m.drawNode(t, pick(t, "node", names))
			m.nodes[n.Name] = n
			m.took(m.ix.applyNode(n, false))
		},
		"node gone": func(t *rapid.T) {
			name := pick(t, "node", names)
			delete(m.nodes, name)
			m.took(m.ix.applyNode(Node{Name: name}, true))
		},
		"node list": func(t *rapid.T) {
			clear(m.nodes)
			for _, name := range names {
				if rapid.Bool().Draw(t, "there") {
					m.nodes[name] = m.drawNode(t, name)
				}
			}
			m.since = m.revision
			m.took(m.ix.replaceNodes(slices.Collect(maps.Values(m.nodes)), m.since))
		},
		"depart": func(t *rapid.T) {
			d := state.Departure{
				Cluster: "a", Node: pick(t, "node", names), ModRevision: m.next(),
				Reason: rapid.SampledFrom([]state.DepartureReason{state.NodeGone, state.OutOfService}).Draw(t, "reason"),
			}
			m.departed[d.Node] = d
			m.batch(partDepartures, state.Event{Type: state.Put, Record: d})
		},
		"return": func(t *rapid.T) {
			name := pick(t, "node", names)
			m.next()
			delete(m.departed, name)
			m.batch(partDepartures, state.Event{Type: state.Delete, Record: state.Departure{Cluster: "a", Node: name}})
		},
		"quarantine": func(t *rapid.T) {
			q := state.Quarantine{Cluster: "a", Node: pick(t, "node", names), ModRevision: m.next()}
			m.waits[q.Node] = q
			m.batch(partQuarantines, state.Event{Type: state.Put, Record: q})
		},
		"quarantine over": func(t *rapid.T) {
			name := pick(t, "node", names)
			m.next()
			delete(m.waits, name)
			m.batch(partQuarantines, state.Event{Type: state.Delete, Record: state.Quarantine{Cluster: "a", Node: name}})
		},
		"quarantines' progress": func(t *rapid.T) { m.batch(partQuarantines) },
		"await grace": func(t *rapid.T) {
			at := waiter{node: pick(t, "node", names), volume: pick(t, "volume", volumes)}
			_, there := m.records[at]
			if got, want := m.ix.awaitGrace(at.node, at.volume), there && !m.graces[at]; got != want {
				t.Fatalf("awaitGrace(%v) = %v, want %v", at, got, want)
			}
			if there {
				m.graces[at] = true
			}
			m.told[at.node] = told{suspect: m.suspect(at.node), view: m.view(at.node)}
		},
		"grace over": func(t *rapid.T) {
			at := waiter{node: pick(t, "node", names), volume: pick(t, "volume", volumes)}
			delete(m.graces, at)
			m.took(m.ix.endGrace(at.node, at.volume))
		},
		"take lapses": func(t *rapid.T) {
			taken, overflowed := m.ix.lapses.take(rapid.IntRange(0, 4).Draw(t, "limit"), m.ix.leases)
			if overflowed {
				t.Fatal("overflowed")
			}
			for _, l := range taken {
				delete(m.lapsed, waiter{node: l.Node, volume: l.Volume})
				if want := m.ix.leases[l.Lease] == 0; l.LeaseGone != want {
					t.Fatalf("%+v: want its lease gone: %v", l, want)
				}
			}
		},
	}
}
