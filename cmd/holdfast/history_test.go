package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// What must never be found in etcd's own history of a ledger. etcd keeps no
// times, so a test puts the key clockKey again and again, with the time since
// its start as its value: what lies between two such puts happened between the
// two times. It puts marks below markPrefix, too, for what it does to the nodes.
const (
	clockKey   = "/clock"
	markPrefix = "/marks/"
	ledgerRoot = state.DefaultPrefix + "v1/"
	// liveCheckGood is how long a live check allows a removal, by the design.
	liveCheckGood = 5 * time.Second
)

// The values of a mark: put before the node is taken out of the node file, and
// after it is put back.
const (
	nodeLeaves = "leaves"
	nodeIsBack = "back"
)

// The first segments of the ledger's keys.
const (
	kindHolds     = "holds"
	kindGraces    = "detachments"
	kindWindows   = "migrations"
	kindSessions  = "attachments"
	kindDeparted  = "departures"
	kindWaits     = "quarantines"
	kindJournal   = "journal"
	kindElections = "elections"
)

// replay follows a history, a revision at a time.
type replay struct {
	quarantine time.Duration
	now        map[string]statetest.KV // the keys as they are before the revision
	ticks      []tick
	marks      map[string]mark
	journaled  map[string]int64 // volume, node and token of each removal

	problems []string
	ends     []ending
	ended    map[string]int // waits that ended by themselves, by kind
}

type tick struct {
	revision int64
	at       time.Duration // when its put was sent
}

type mark struct {
	what     string
	revision int64
}

// ending is a hold that has ended.
type ending struct {
	key      string
	created  int64 // the hold's create revision
	revision int64
	removed  bool // by a reconciler, as the journal says
}

// replayHistory checks a whole history, from etcd's first revision on.
func replayHistory(events []statetest.Event, quarantine time.Duration) *replay {
	r := &replay{
		quarantine: quarantine,
		now:        map[string]statetest.KV{}, marks: map[string]mark{}, journaled: map[string]int64{}, ended: map[string]int{},
	}
	for _, e := range events {
		if e.Key == clockKey && !e.Deleted {
			ns, err := strconv.ParseInt(e.Value, 10, 64)
			if err != nil {
				r.problem(e.ModRevision, "the clock shows %q", e.Value)
			}
			r.ticks = append(r.ticks, tick{revision: e.ModRevision, at: time.Duration(ns)})
		}
	}
	for len(events) > 0 {
		n := 1
		for n < len(events) && events[n].ModRevision == events[0].ModRevision {
			n++
		}
		r.step(revision{number: events[0].ModRevision, events: events[:n]})
		events = events[n:]
	}
	return r
}

func (r *replay) problem(revision int64, format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf("revision %d: ", revision)+fmt.Sprintf(format, args...))
}

// revision is all that one transaction, or the end of one lease, has changed.
type revision struct {
	number int64
	events []statetest.Event
}

// has finds a change of a key in the revision.
func (v revision) has(key string, deleted bool) bool {
	return slices.ContainsFunc(v.events, func(e statetest.Event) bool { return e.Key == key && e.Deleted == deleted })
}

func (v revision) hasBelow(prefix string, deleted bool) bool {
	return slices.ContainsFunc(v.events, func(e statetest.Event) bool {
		return strings.HasPrefix(e.Key, prefix) && e.Deleted == deleted
	})
}

func (r *replay) step(v revision) {
	for _, e := range v.events {
		switch {
		case e.Key == clockKey:
		case strings.HasPrefix(e.Key, markPrefix):
			r.marks[strings.TrimPrefix(e.Key, markPrefix)] = mark{what: e.Value, revision: v.number}
		case !strings.HasPrefix(e.Key, ledgerRoot):
			r.problem(v.number, "a key that is not the ledger's: %s", e.Key)
		case e.Deleted:
			r.deleted(v, e)
		default:
			r.put(v, e)
		}
	}
	for _, e := range v.events {
		if e.Deleted {
			delete(r.now, e.Key)
		} else {
			r.now[e.Key] = e.KV
		}
	}
}

// parts are a key's, after the ledger's root. The names that the tests use
// have nothing to escape.
func parts(key string) []string { return strings.Split(strings.TrimPrefix(key, ledgerRoot), "/") }

func (r *replay) put(v revision, e statetest.Event) {
	p := parts(e.Key)
	leased := e.Lease != 0
	switch p[0] {
	case kindHolds:
		if _, there := r.now[e.Key]; there || leased {
			r.problem(v.number, "%s is a fact: put once, under no lease", e.Key)
		}
		r.attached(v, p)
	case kindDeparted:
		if leased {
			r.problem(v.number, "%s is under a lease", e.Key)
		}
	case kindWaits:
		// Put again by itself only where the first put took too long.
		_, again := r.now[e.Key]
		if !again && !v.has(ledgerRoot+kindDeparted+"/"+p[1]+"/"+p[2], false) {
			r.problem(v.number, "%s is put without its departure", e.Key)
		}
		fallthrough
	case kindSessions, kindGraces, kindWindows, kindElections:
		if !leased {
			r.problem(v.number, "%s is put under no lease: it would never end", e.Key)
		}
	case kindJournal:
		r.wroteJournal(v, e, leased)
	case "ledger", "clusters", "pauses":
	case "witnesses":
		if leased {
			r.problem(v.number, "%s is put under a lease: it would end", e.Key)
		}
	default:
		r.problem(v.number, "a kind of key that is not the ledger's: %s", e.Key)
	}
}

// attached checks a new hold against what was there before.
func (r *replay) attached(v revision, p []string) {
	volume, mode, cluster := p[1], p[2], p[3]
	migration := v.has(ledgerRoot+kindWindows+"/"+volume, false)
	others := 0
	for key := range r.now {
		q := parts(key)
		switch {
		case q[0] == kindHolds && q[1] == volume && (mode == "x" || q[2] == "x") && !slices.Equal(p, q):
			others++
		case q[0] == kindGraces && q[1] == volume && q[2] == "x" && q[3] != cluster && !migration:
			r.problem(v.number, "%v is attached in the grace of %v", p[1:], q[1:])
		}
	}
	if others > 0 && (!migration || others > 1) {
		r.problem(v.number, "%v is attached, and %d other holds stand in its way", p[1:], others)
	}
}

func (r *replay) wroteJournal(v revision, e statetest.Event, leased bool) {
	var entry journalEntry
	if err := json.Unmarshal([]byte(e.Value), &entry); err != nil || !leased {
		r.problem(v.number, "%s: %v (leased: %v)", e.Key, err, leased)
	}
	if entry.Action != string(state.ActionRemoved) {
		return
	}
	for _, o := range entry.all() {
		id := fmt.Sprintf("%s of %s, token %d", o.Volume, entry.Node, o.Token)
		if before, twice := r.journaled[id]; twice {
			r.problem(v.number, "%s was removed already, at revision %d", id, before)
		}
		r.journaled[id] = v.number
	}
}

// journalEntry tells of one orphan or of several.
type journalEntry struct {
	Action, Node string
	journalOrphan
	Orphans []journalOrphan
}

type journalOrphan struct {
	Volume string
	Token  uint64
}

func (e journalEntry) all() []journalOrphan {
	if len(e.Orphans) == 0 {
		return []journalOrphan{e.journalOrphan}
	}
	return e.Orphans
}

func (r *replay) deleted(v revision, e statetest.Event) {
	before, there := r.now[e.Key]
	if !there {
		r.problem(v.number, "%s is deleted and was not there", e.Key)
		return
	}
	p := parts(e.Key)
	switch p[0] {
	case kindHolds:
		r.detached(v, before, p)
	case kindSessions:
		cluster, node, volume := p[1], p[2], p[3]
		x, s := holdKey(volume, "x", cluster, node), holdKey(volume, "s", cluster, node)
		if !v.has(x, true) && !v.has(s, true) {
			r.problem(v.number, "%s is gone and its hold is not: it lapsed, or was lost", e.Key)
		}
	case kindGraces:
		r.waited(v, before, graceOf(before.Value))
	case kindWindows:
		if !v.hasBelow(ledgerRoot+kindHolds+"/"+p[1]+"/", true) {
			r.waited(v, before, windowOf(before.Value))
		}
	case kindWaits:
		departure := ledgerRoot + kindDeparted + "/" + p[1] + "/" + p[2]
		if !v.has(departure, true) && !v.has(departure, false) {
			r.waited(v, before, r.quarantine)
		}
	case kindDeparted, kindElections, "pauses":
	default:
		r.problem(v.number, "%s is lost", e.Key)
	}
}

func holdKey(volume, mode, cluster, node string) string {
	return ledgerRoot + strings.Join([]string{kindHolds, volume, mode, cluster, node}, "/")
}

// detached checks the end of a hold: who ended it, and whether they might.
func (r *replay) detached(v revision, before statetest.KV, p []string) {
	name := strings.Join(p[1:], "/")
	if !v.has(ledgerRoot+kindGraces+"/"+name, false) {
		r.problem(v.number, "%s is lost: a hold ends with a detachment", before.Key)
	}
	end := ending{key: before.Key, created: before.CreateRevision, revision: v.number}
	for _, e := range v.events {
		var entry journalEntry
		if strings.HasPrefix(e.Key, ledgerRoot+kindJournal+"/") && json.Unmarshal([]byte(e.Value), &entry) == nil {
			about := slices.ContainsFunc(entry.all(), func(o journalOrphan) bool { return o.Volume == p[1] })
			end.removed = end.removed || entry.Action == string(state.ActionRemoved) && about && entry.Node == p[4]
		}
	}
	r.ends = append(r.ends, end)
	if end.removed {
		r.removal(v, before, p)
	}
}

// removal checks that a reconciler had every reason: its node was away, its
// departure on record, the quarantine over, and no grace of it running.
func (r *replay) removal(v revision, hold statetest.KV, p []string) {
	cluster, node := p[3], p[4]
	place := "/" + cluster + "/" + node
	departure, departed := r.now[ledgerRoot+kindDeparted+place]
	if !departed {
		r.problem(v.number, "%s is removed without a departure of its node", hold.Key)
	} else if r.atMost(departure.ModRevision, v.number) < r.quarantine {
		r.problem(v.number, "%s is removed %v after its node's departure, put at revision %d: the quarantine is %v",
			hold.Key, r.atMost(departure.ModRevision, v.number), departure.ModRevision, r.quarantine)
	}
	if _, waiting := r.now[ledgerRoot+kindWaits+place]; waiting {
		r.problem(v.number, "%s is removed in the quarantine of its node", hold.Key)
	}
	if _, grace := r.now[ledgerRoot+kindGraces+"/"+strings.Join(p[1:], "/")]; grace {
		r.problem(v.number, "%s is removed in a grace period of its node", hold.Key)
	}
	switch m := r.marks[node]; {
	case m.what == "":
		r.problem(v.number, "%s is removed, and its node was never away", hold.Key)
	case m.what == nodeIsBack && (hold.CreateRevision > m.revision || r.atMost(m.revision, v.number) > liveCheckGood):
		r.problem(v.number, "%s is removed, and its node is back since revision %d", hold.Key, m.revision)
	}
}

// waited checks a key that its lease has ended.
func (r *replay) waited(v revision, before statetest.KV, wait time.Duration) {
	r.ended[parts(before.Key)[0]]++
	if got := r.atMost(before.ModRevision, v.number); got < wait {
		r.problem(v.number, "%s ends at most %v after it was put at revision %d: it should have lasted for %v",
			before.Key, got, before.ModRevision, wait)
	}
}

// atMost is the longest time that may have passed between two revisions: from
// when the last tick before the first was sent to when the next but one after
// the second was, by when the one before that had been answered.
func (r *replay) atMost(from, to int64) time.Duration {
	begin, _ := slices.BinarySearchFunc(r.ticks, from, func(t tick, rev int64) int { return int(t.revision - rev) })
	end, _ := slices.BinarySearchFunc(r.ticks, to, func(t tick, rev int64) int { return int(t.revision - rev) })
	if begin == 0 || end+1 >= len(r.ticks) {
		return time.Duration(1<<63 - 1) // outside of what the clock has seen
	}
	return r.ticks[end+1].at - r.ticks[begin-1].at
}

func graceOf(value string) time.Duration {
	var v struct{ GraceMs int64 }
	if json.Unmarshal([]byte(value), &v) != nil || v.GraceMs == 0 {
		return time.Duration(1<<63 - 1)
	}
	return time.Duration(v.GraceMs) * time.Millisecond
}

func windowOf(value string) time.Duration {
	var v struct{ Since, Deadline time.Time }
	if json.Unmarshal([]byte(value), &v) != nil || v.Deadline.IsZero() {
		return time.Duration(1<<63 - 1)
	}
	return v.Deadline.Sub(v.Since)
}
