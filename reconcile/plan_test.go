package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// planCase is what a block of testdata/plan says. Without a word to the
// contrary all gates are open and the view has been continuous since revision 100.
type planCase struct {
	cluster watch.ClusterView
	node    watch.NodeView
	gates   Gates
}

func newPlanCase() *planCase {
	fine := watch.Source{Loaded: true, Synced: true, Fresh: true}
	return &planCase{
		cluster: watch.ClusterView{
			Sources:  watch.Sources{Nodes: fine, Etcd: fine},
			Ledger:   state.LedgerRecord{UUID: "ledger"},
			Identity: state.ClusterRecord{UID: "ours"},
		},
		node:  watch.NodeView{Name: "n1", InGrace: map[string]bool{}, ContinuousSince: 100},
		gates: Gates{UID: "ours", Leading: true},
	}
}

func (c *planCase) apply(t *testing.T, line string) {
	verb, words, pairs := fields(line)
	number := func(key string) int64 {
		if pairs[key] == "" {
			return 0
		}
		n, err := strconv.ParseInt(pairs[key], 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return n
	}
	var broken error
	if words["broken"] {
		broken = errors.New("does not decode")
	}
	source := func(s *watch.Source) {
		s.Loaded, s.Synced, s.Fresh = !words["never-loaded"], !words["never-loaded"] && !words["relisting"], !words["stale"] && !words["never-loaded"]
	}
	switch verb {
	case "nodes":
		source(&c.cluster.Sources.Nodes)
	case "etcd":
		source(&c.cluster.Sources.Etcd)
	case "identity":
		c.cluster.Identity = state.ClusterRecord{UID: pairs["uid"], Broken: broken}
	case "ledger":
		if words["frozen"] {
			c.cluster.Ledger.Frozen = &state.Freeze{}
		}
		if words["restored"] {
			c.cluster.Freezes = []state.RestoreFreeze{{Cluster: "b"}}
		}
		c.cluster.Ledger.Broken = broken
	case "paused":
		c.cluster.Pause = &state.Pause{Broken: broken}
	case "gates":
		c.gates.Unwitnessed = words["unwitnessed"]
		c.gates.Leading, c.gates.Braked, c.gates.MatchNodeUID = !words["not-leading"], words["braked"], words["match-uid"]
	case "present":
		c.node.Present = true
		c.node.Node = watch.Node{
			Name: "n1", UID: pairs["uid"], Deleting: words["deleting"], OutOfService: words["out-of-service"], Ready: !words["not-ready"],
		}
	case "attachment":
		for v := range words {
			if v != "broken" {
				c.node.Attachments = append(c.node.Attachments, state.Attachment{Volume: v, Node: "n1", NodeUID: pairs["uid"], Broken: broken})
			}
		}
	case "departure":
		d := state.Departure{Node: "n1", UID: pairs["uid"], ModRevision: number("rev"), Broken: broken}
		for r := range words {
			if r != "broken" {
				d.Reason = state.DepartureReason(r)
			}
		}
		c.node.Departure = &d
	case "quarantine":
		c.node.Quarantined = true
	case "detachment":
		for v := range words {
			c.node.InGrace[v] = true
		}
	default:
		t.Fatalf("%q: no such line in a plan", line)
	}
}

func TestPlan(t *testing.T) {
	script(t, "plan", func() func(*testing.T, []string) string {
		return func(t *testing.T, input []string) string {
			c := newPlanCase()
			for _, line := range input {
				c.apply(t, line)
			}
			return describe(Plan(c.cluster, c.node, c.gates))
		}
	})
}

func describe(p NodePlan) string {
	var b strings.Builder
	b.WriteString(string(p.Next))
	if d := p.Departure; d != nil && (p.Next == StepDepart || p.Next == StepReturn) {
		fmt.Fprintf(&b, " %s", d.Reason)
		if d.UID != "" {
			fmt.Fprintf(&b, " of %s", d.UID)
		}
		if d.ModRevision != 0 && p.Next == StepDepart {
			fmt.Fprintf(&b, ", replacing revision %d", d.ModRevision)
		}
		if p.Next == StepReturn {
			fmt.Fprintf(&b, ", %s", map[bool]string{true: "the node is back", false: "nothing needs it"}[p.Returned])
		}
	}
	b.WriteString("\n")
	for _, o := range p.Orphans {
		fmt.Fprintf(&b, "  %s %s: %s", o.Attachment.Volume, o.Reason, o.Next())
		if len(o.Obstacles) > 0 {
			fmt.Fprintf(&b, " %v", o.Obstacles)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Whatever is put together: an orphan without obstacles has a departure that
// covers it, is trusted and has waited, all gates are open, and its node is not
// there as the one that it was attached to.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		flip := func(name string) bool { return rapid.Bool().Draw(t, name) }
		uid := func(name string) string { return rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, name) }
		source := func(name string) watch.Source {
			return watch.Source{Loaded: flip(name + " loaded"), Synced: flip(name + " synced"), Fresh: flip(name + " fresh")}
		}
		c := newPlanCase()
		c.cluster.Sources = watch.Sources{Nodes: source("nodes"), Etcd: source("etcd")}
		if flip("paused") {
			c.cluster.Pause = &state.Pause{}
		}
		if flip("frozen") {
			c.cluster.Ledger.Frozen = &state.Freeze{}
		}
		if flip("restored") {
			c.cluster.Freezes = []state.RestoreFreeze{{Cluster: "b"}}
		}
		c.cluster.Identity.UID = rapid.SampledFrom([]string{"ours", "theirs"}).Draw(t, "identity")
		c.gates = Gates{UID: "ours", Leading: flip("leading"), Unwitnessed: flip("unwitnessed"), Braked: flip("braked"), MatchNodeUID: flip("match UID")}
		c.node.Present, c.node.Quarantined = flip("present"), flip("quarantined")
		if c.node.Present {
			c.node.Node = watch.Node{UID: uid("node UID"), OutOfService: flip("taint"), Deleting: flip("deleting"), Ready: flip("ready")}
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "attachments") {
			v := fmt.Sprint("v", i)
			c.node.Attachments = append(c.node.Attachments, state.Attachment{Volume: v, Node: "n1", NodeUID: uid("attachment UID")})
			c.node.InGrace[v] = flip("in grace")
		}
		if flip("departure") {
			c.node.Departure = &state.Departure{
				Node: "n1", UID: uid("departure UID"), ModRevision: rapid.SampledFrom([]int64{99, 100, 101}).Draw(t, "departure's revision"),
				Reason: rapid.SampledFrom([]state.DepartureReason{state.NodeGone, state.NodeReplaced, state.OutOfService}).Draw(t, "reason"),
			}
		}
		p := Plan(c.cluster, c.node, c.gates)
		order := Obstacles()
		for _, o := range p.Orphans {
			if !slices.IsSortedFunc(o.Obstacles, func(a, b Obstacle) int { return slices.Index(order, a) - slices.Index(order, b) }) {
				t.Fatalf("obstacles out of order: %v", o.Obstacles)
			}
		}
		for _, o := range p.Removable() {
			d := c.node.Departure
			switch s := c.cluster.Sources; {
			case !s.Nodes.Synced || !s.Nodes.Fresh || !s.Etcd.Synced || !s.Etcd.Fresh:
				t.Fatal("a source is not synced or not fresh")
			case c.cluster.Pause != nil || c.cluster.Ledger.Frozen != nil || len(c.cluster.Freezes) > 0 || c.cluster.Identity.UID != "ours" || !c.gates.Leading || c.gates.Unwitnessed:
				t.Fatal("a gate is shut")
			case c.gates.Braked && o.Reason != state.OutOfService:
				t.Fatal("braked")
			case c.node.InGrace[o.Attachment.Volume]:
				t.Fatal("in grace")
			case d == nil || d.ModRevision <= c.node.ContinuousSince || d.Reason != o.Reason || c.node.Quarantined:
				t.Fatalf("not waited out: %+v", d)
			case o.Reason == state.NodeGone && c.node.Present:
				t.Fatal("the node is there")
			case o.Reason == state.OutOfService && !c.node.Node.OutOfService:
				t.Fatal("the node has no taint")
			case o.Reason == state.NodeReplaced && (!c.gates.MatchNodeUID || o.Attachment.NodeUID == c.node.Node.UID || o.Attachment.NodeUID != d.UID):
				t.Fatal("the node is not replaced")
			}
		}
		if p.Next == StepRemove && len(p.Removable()) == 0 || p.Next == StepDepart && len(p.Orphans) == 0 {
			t.Fatalf("nothing to %s", p.Next)
		}
	})
}
