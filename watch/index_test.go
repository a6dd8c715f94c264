package watch

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-storage/holdfast/state"
)

// The scripts' lines:
//
//	new [match-uid] [no-quarantine]         begin with an empty index
//	nodes SINCE NAME[,uid=UID][,oos]...     a whole Node list
//	node NAME[,uid=UID][,oos]               a Node as it is now
//	node-gone NAME
//	PART [reset] [synced] REVISION [EVENTS]  a batch; PART is attachments, departures, quarantines, pause, ledger or cluster
//	grace NODE VOLUME, grace-over NODE VOLUME
//	show NODE..., counts, leases, lapses
//
// where EVENTs are separated by " ; ". An EVENT is put or del, the names, and
// FIELD=VALUE of mod, lease, uid, token, reason, why, frozen and
// broken. What a change asks for is printed as it is found.
func TestIndexScripts(t *testing.T) {
	runScripts(t, "testdata/index/*.txt", func(t *testing.T) func(string) string {
		s := &indexScript{t: t, ix: newIndex("a", false, true)}
		return s.run
	})
}

type indexScript struct {
	t  *testing.T
	ix *index
}

func (s *indexScript) run(line string) string {
	words := strings.Fields(line)
	verb, args := words[0], words[1:]
	switch verb {
	case "new":
		s.ix = newIndex("a", slices.Contains(args, "match-uid"), !slices.Contains(args, "no-quarantine"))
		return ""
	case "nodes":
		var nodes []Node
		for _, a := range args[1:] {
			nodes = append(nodes, s.node(a))
		}
		return s.asked(s.ix.replaceNodes(nodes, s.number(args[0])))
	case "node":
		return s.asked(s.ix.applyNode(s.node(args[0]), false))
	case "node-gone":
		return s.asked(s.ix.applyNode(Node{Name: args[0]}, true))
	case "grace":
		return fmt.Sprintln("waits anew:", s.ix.awaitGrace(args[0], args[1]))
	case "grace-over":
		return s.asked(s.ix.endGrace(args[0], args[1]))
	case "show":
		return s.show(args)
	case "counts":
		return s.counts()
	case "leases":
		var out []string
		for _, id := range slices.Sorted(maps.Keys(s.ix.leases)) {
			out = append(out, fmt.Sprintf("%d:%d", id, s.ix.leases[id]))
		}
		return fmt.Sprintln(strings.Join(out, " "))
	case "lapses":
		return s.lapses()
	}
	for p := range parts {
		if p.String() == verb {
			return s.batch(p, args)
		}
	}
	s.t.Fatalf("no such line: %s", line)
	return ""
}

func (s *indexScript) batch(p part, args []string) string {
	var b state.Batch
	for len(args) > 0 {
		switch word := args[0]; word {
		case "reset":
			b.Reset = true
		case "synced":
			b.Synced = true
		case "put", "del":
			end := len(args)
			if i := slices.Index(args, ";"); i >= 0 {
				end = i
			}
			b.Events = append(b.Events, s.event(p, args[:end]))
			args = args[end:]
			if len(args) == 0 {
				continue
			}
		default:
			b.Revision = s.number(word)
		}
		args = args[1:]
	}
	return s.asked(s.ix.apply(p, b))
}

func (s *indexScript) event(p part, words []string) state.Event {
	e := state.Event{Type: state.Put}
	if words[0] == "del" {
		e.Type = state.Delete
	}
	var names []string
	field := map[string]string{}
	for _, w := range words[1:] {
		if name, value, ok := strings.Cut(w, "="); ok {
			field[name] = value
		} else {
			names = append(names, w)
		}
	}
	names = append(names, "", "")
	number := func(name string) int64 {
		if field[name] == "" {
			return 0
		}
		return s.number(field[name])
	}
	e.Key = p.String() + "/" + strings.TrimRight(strings.Join(names, "/"), "/")
	if field["broken"] != "" {
		e.Broken = errors.New(field["broken"])
	}
	mod := number("mod")
	switch p {
	case partAttachments:
		e.Record = state.Attachment{
			Cluster: "a", Node: names[0], Volume: names[1], Mode: state.Exclusive, NodeUID: field["uid"], ModRevision: mod,
			CreateRevision: mod, Token: state.Token(number("token")), Lease: state.LeaseID(number("lease")), Broken: e.Broken,
		}
	case partDepartures:
		e.Record = state.Departure{
			Cluster: "a", Node: names[0], Reason: state.DepartureReason(field["reason"]), ModRevision: mod, Broken: e.Broken,
		}
	case partQuarantines:
		e.Record = state.Quarantine{Cluster: "a", Node: names[0], ModRevision: mod, Broken: e.Broken}
	case partPause:
		e.Record = state.Pause{Cluster: "a", Why: field["why"], ModRevision: mod, Broken: e.Broken}
	case partLedger:
		r := state.LedgerRecord{UUID: "l", ModRevision: mod, Broken: e.Broken}
		if field["frozen"] != "" {
			r.Frozen = &state.Freeze{By: field["frozen"]}
		}
		e.Record = r
	case partFreezes:
		e.Record = state.RestoreFreeze{Cluster: names[0], Why: field["why"], ModRevision: mod, Broken: e.Broken}
	case partCluster:
		e.Record = state.ClusterRecord{Cluster: "a", UID: field["uid"], ModRevision: mod, Broken: e.Broken}
	}
	return e
}

func (s *indexScript) node(arg string) Node {
	words := strings.Split(arg, ",")
	n := Node{Name: words[0], Ready: true}
	for _, w := range words[1:] {
		switch {
		case w == "oos":
			n.OutOfService = true
		case w == "unready":
			n.Ready = false
		case strings.HasPrefix(w, "uid="):
			n.UID = w[len("uid="):]
		default:
			s.t.Fatalf("node %q", arg)
		}
	}
	return n
}

func (s *indexScript) number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *indexScript) asked(c changes) string {
	var out strings.Builder
	if c.all {
		fmt.Fprintln(&out, "look at all suspects:", s.ix.suspects.list())
	}
	if len(c.nodes) > 0 {
		fmt.Fprintln(&out, "look at", strings.Join(slices.Sorted(maps.Keys(c.nodes)), " "))
	}
	for _, b := range c.broken {
		fmt.Fprintf(&out, "report %s: %v\n", b.key, b.err)
	}
	for _, r := range c.released {
		fmt.Fprintln(&out, "wait no more for the grace of", r.volume, "on", r.node)
	}
	if out.Len() == 0 {
		return "-\n"
	}
	return out.String()
}

func (s *indexScript) show(names []string) string {
	var out strings.Builder
	for _, name := range names {
		v := s.ix.view(name)
		fmt.Fprintf(&out, "%s: %s", name, map[bool]string{true: "present", false: "absent"}[v.Present])
		if v.Node.UID != "" {
			fmt.Fprintf(&out, " uid=%s", v.Node.UID)
		}
		if v.Node.OutOfService {
			out.WriteString(" out-of-service")
		}
		for _, a := range v.Attachments {
			fmt.Fprintf(&out, " %s@%d", a.Volume, a.ModRevision)
			if a.Broken != nil {
				out.WriteString("(broken)")
			}
			if v.InGrace[a.Volume] {
				out.WriteString("(grace)")
			}
		}
		if v.Departure != nil {
			fmt.Fprintf(&out, " departed@%d(%s)", v.Departure.ModRevision, v.Departure.Reason)
		}
		if v.Quarantined {
			out.WriteString(" quarantined")
		}
		fmt.Fprintf(&out, " since=%d\n", v.ContinuousSince)
	}
	return out.String()
}

func (s *indexScript) counts() string {
	c := s.ix.counts()
	var out strings.Builder
	fmt.Fprintf(&out, "nodes=%d attachments=%d attached=%d missing=%v suspects=%v",
		c.Nodes, c.Attachments, c.WithAttachments, c.Missing, s.ix.suspects.list())
	fmt.Fprintf(&out, " entries=%d broken=%v", len(s.ix.entries), s.ix.broken)
	if c.Pause != nil {
		fmt.Fprintf(&out, " paused(%s)", c.Pause.Why)
	}
	if c.Ledger.Frozen != nil {
		fmt.Fprintf(&out, " frozen(%s)", c.Ledger.Frozen.By)
	}
	for _, f := range c.Freezes {
		fmt.Fprintf(&out, " restored(%s: %s)", f.Cluster, f.Why)
	}
	if c.Identity.UID != "" {
		fmt.Fprintf(&out, " uid=%s", c.Identity.UID)
	}
	out.WriteString("\n")
	return out.String()
}

func (s *indexScript) lapses() string {
	lapses, overflowed := s.ix.lapses.take(100, s.ix.leases)
	slices.SortFunc(lapses, func(a, b Lapse) int { return strings.Compare(a.Node+"/"+a.Volume, b.Node+"/"+b.Volume) })
	var out strings.Builder
	for _, l := range lapses {
		fmt.Fprintf(&out, "%s/%s token=%d lease=%d gone=%v\n", l.Node, l.Volume, l.Token, l.Lease, l.LeaseGone)
	}
	if overflowed {
		out.WriteString("overflowed\n")
	}
	if out.Len() == 0 {
		return "none\n"
	}
	return out.String()
}
