package history

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// story is a history made up: a revision a step, each at an exact time.
type story struct {
	t       *testing.T
	now     time.Duration
	told    *Told
	checker *Checker
	mirror  *mirror
	times   map[int64]time.Duration
	stalls  map[int64]time.Duration // how much earlier each may have been
}

const at = "2026-01-01T00:00:00Z"

// wide is how far the bounds are apart.
const wide = 100 * time.Millisecond

func tell(t *testing.T) *story {
	s := &story{t: t, now: time.Second, times: map[int64]time.Duration{}, stalls: map[int64]time.Duration{}}
	s.told = NewTold(func() time.Duration { return s.now })
	s.checker = NewChecker(Checks{LeastLapse: 2 * time.Second, Retention: 30 * time.Second, AttachesTold: true}, s.told)
	s.begin(1, newMirror(1, nil))
	s.step(put("ledger", `{"epoch":1,"frozen":null}`, 0))
	return s
}

func (s *story) begin(segment int, m *mirror) {
	s.mirror = m
	s.checker.Begin(segment, m.revision, slices.Collect(maps.Values(m.kvs)), func(revision int64, received time.Duration) Bounds {
		return Bounds{s.times[revision] - wide - s.stalls[revision], min(s.times[revision]+wide, received)}
	})
}

type do func(*story) Event

func put(key, value string, lease int64) do {
	return func(s *story) Event {
		key := "/holdfast/v1/" + key
		had := s.mirror.kvs[key]
		kv := KV{Key: key, Value: value, Create: had.Create, Mod: s.mirror.revision + 1, Version: had.Version + 1, Lease: lease}
		if had.Version == 0 {
			kv.Create = kv.Mod
		}
		return Event{KV: kv}
	}
}

func del(key string) do {
	return func(s *story) Event {
		return Event{KV: KV{Key: "/holdfast/v1/" + key, Mod: s.mirror.revision + 1}, Delete: true}
	}
}

// step makes one revision, half a second after the last, and returns its number.
func (s *story) step(does ...do) int64 {
	s.t.Helper()
	s.now += 500 * time.Millisecond
	r := Revision{Segment: 1, Number: s.mirror.revision + 1, Received: s.now + time.Second}
	for _, d := range does {
		r.Events = append(r.Events, d(s))
	}
	s.times[r.Number] = s.now
	if err := s.mirror.admit(r.Number, r.Events); err != nil {
		s.t.Fatal(err)
	}
	s.checker.Take(r)
	return r.Number
}

func (s *story) call(kind CallKind, volume, cluster, node string) *Begun {
	return s.told.Begin(Call{Kind: kind, Volume: volume, Cluster: cluster, Node: node})
}

// attach is an exclusive hold of epoch 1, as an attach puts it.
func (s *story) attach(volume, cluster, node string, lease int64, more ...do) int64 {
	s.call(CallAttach, volume, cluster, node).Done(false)
	return s.step(append(more, put("holds/"+volume+"/x/"+cluster+"/"+node, `{"epoch":1}`, 0),
		put("attachments/"+cluster+"/"+node+"/"+volume, `{"mode":"exclusive","epoch":1}`, lease))...)
}

// ends are what every end does to an exclusive hold; its grace is 10 s.
func ends(volume, cluster, node string, lease int64) []do {
	return []do{
		del("holds/" + volume + "/x/" + cluster + "/" + node), del("attachments/" + cluster + "/" + node + "/" + volume),
		put("detachments/"+volume+"/x/"+cluster+"/"+node, `{"graceMs":10000}`, lease),
	}
}

func (s *story) detach(volume, cluster, node string, lease int64, more ...do) {
	s.call(CallEnd, volume, cluster, node).Done(false)
	s.step(append(more, ends(volume, cluster, node, lease)...)...)
}

// migrate opens a window of 10 s from a's node-1 to b's node-2.
func (s *story) migrate(source int64) {
	s.call(CallMigrate, "v", "b", "node-2").Done(false)
	s.step(put("holds/v/x/b/node-2", `{"epoch":1}`, 0), put("attachments/b/node-2/v", `{"mode":"exclusive","epoch":1}`, 5),
		put("migrations/v", fmt.Sprintf(`{"source":{"cluster":"a","node":"node-1"},"target":{"cluster":"b","node":"node-2"},
			"sourceToken":%d,"epoch":1,"since":%q,"deadline":"2026-01-01T00:00:10Z"}`, newToken(1, source), at), 6))
}

// orphan makes a node leave that holds v, and returns the evidence for its removal.
func (s *story) orphan() (hold int64, e evidence) {
	e.Leader = s.step(put("elections/a/1", "me", 90))
	s.step(put("elections/a/2", "the next", 91))
	s.told.Present("a", "node-1")
	e.Attachment = s.attach("v", "a", "node-1", 4)
	s.told.Leaving("a", "node-1")
	e.Departure = s.step(put("departures/a/node-1", fmt.Sprintf(`{"since":%q}`, at), 0),
		put("quarantines/a/node-1", `{"until":"2026-01-01T00:00:10Z"}`, 92))
	s.now += 10 * time.Second
	s.step(del("quarantines/a/node-1"))
	return e.Attachment, e
}

func entry(action string, token uint64, e evidence) do {
	if action == "removed" { // as those of a node that end together
		return put("journal/a/"+action, fmt.Sprintf(`{"action":%q,"node":"node-1","orphans":[{"volume":"v","mode":"exclusive","token":%d,"attachmentRevision":%d}],
			"evidence":{"departureRevision":%d,"leaderRevision":%d}}`, action, token, e.Attachment, e.Departure, e.Leader), 93)
	}
	return put("journal/a/"+action, fmt.Sprintf(`{"action":%q,"volume":"v","node":"node-1","mode":"exclusive","token":%d,
		"evidence":{"attachmentRevision":%d,"departureRevision":%d,"leaderRevision":%d}}`, action, token, e.Attachment, e.Departure, e.Leader), 93)
}

func (s *story) remove(hold int64, e evidence) {
	s.step(append(ends("v", "a", "node-1", 9), entry("removed", newToken(1, hold), e))...)
}
