package history

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Stories of a ledger, and what breaks in each: nothing, or one invariant. Each
// pair differs in what the invariant is about.
var stories = []struct {
	name  string
	tell  func(*story)
	broke Invariant // "": nothing
}{
	{"attach, detach, handoff", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.detach("v", "a", "node-1", 9)
		s.attach("v", "a", "node-2", 4)
	}, ""},
	{"a second exclusive hold", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.attach("v", "a", "node-2", 4)
	}, TwoExclusive},
	{"a migration", func(s *story) { s.migrate(s.attach("v", "a", "node-1", 4)) }, ""},
	{"a migration from another than the holder", func(s *story) { s.migrate(s.attach("v", "a", "node-3", 4)) }, TwoExclusive},
	{"a migration with another source token", func(s *story) { s.migrate(s.attach("v", "a", "node-1", 4) + 1) }, OrphanKeys},
	{"a third hold while overdue", func(s *story) {
		s.migrate(s.attach("v", "a", "node-1", 4))
		s.now += 11 * time.Second
		s.step(del("migrations/v"))
		s.attach("v", "a", "node-3", 4)
	}, ThirdHold},
	{"shared holds", func(s *story) {
		for _, node := range []string{"node-1", "node-2"} {
			s.call(CallAttach, "v", "a", node)
			s.step(put("holds/v/s/a/"+node, `{"epoch":1}`, 0), put("attachments/a/"+node+"/v", `{"mode":"shared","epoch":1}`, 4))
		}
	}, ""},
	{"both modes", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.call(CallAttach, "v", "a", "node-2")
		s.step(put("holds/v/s/a/node-2", `{"epoch":1}`, 0))
	}, MixedModes},
	{"another cluster's grace", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.detach("v", "a", "node-1", 9)
		s.attach("v", "b", "node-1", 4)
	}, GraceBroken},
	{"another cluster's grace, by force", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.detach("v", "a", "node-1", 9)
		s.attach("v", "b", "node-1", 4, del("detachments/v/x/a/node-1"),
			put("journal/b/1", `{"action":"forced","volume":"v","node":"node-1"}`, 93))
	}, ""},
	{"another cluster's grace, by force that nobody put on record", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.detach("v", "a", "node-1", 9)
		s.attach("v", "b", "node-1", 4, del("detachments/v/x/a/node-1"))
	}, GraceBroken},
	{"a hold put again", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.step(put("holds/v/x/a/node-1", `{"epoch":1}`, 0))
	}, HoldRewritten},

	// Tokens, freezes.
	{"a hold of another epoch", func(s *story) { s.step(put("ledger", `{"epoch":2}`, 0)); s.attach("v", "a", "node-1", 4) }, TokenNotGrown},
	{"an epoch that falls", func(s *story) { s.step(put("ledger", `{"epoch":0}`, 0)) }, TokenNotGrown},
	{"an attach under a freeze", func(s *story) {
		s.step(put("ledger", `{"epoch":1,"frozen":{"by":"me"}}`, 0))
		s.attach("v", "a", "node-1", 4)
	}, FrozenWrite},
	{"an attach under a restore's freeze", func(s *story) {
		s.step(put("freezes/b", `{"known":{"epoch":1}}`, 0))
		s.attach("v", "a", "node-1", 4)
	}, FrozenWrite},
	{"a detach under a freeze", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.step(put("ledger", `{"epoch":1,"frozen":{"by":"me"}}`, 0))
		s.detach("v", "a", "node-1", 9)
	}, ""},
	{"a restore's freeze lifted", func(s *story) {
		s.step(put("freezes/b", `{"known":{"epoch":7}}`, 0))
		s.step(del("freezes/b"), put("ledger", `{"epoch":8}`, 0))
	}, ""},
	{"a restore's freeze lifted below what it knew of", func(s *story) {
		s.step(put("freezes/b", `{"known":{"epoch":8}}`, 0))
		s.step(del("freezes/b"), put("ledger", `{"epoch":8}`, 0))
	}, FreezeLifted},
	{"a restore's freeze lifted, and the epoch as before", func(s *story) {
		s.step(put("freezes/b", `{"known":{"epoch":0}}`, 0))
		s.step(del("freezes/b"), put("ledger", `{"epoch":1}`, 0))
	}, FreezeLifted},

	// Calls.
	{"a hold that nobody asked for", func(s *story) { s.step(put("holds/v/x/a/node-1", `{"epoch":1}`, 0)) }, UnaskedHold},
	{"an attach that comes before its hold's end, and takes long", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		b := s.call(CallAttach, "v", "a", "node-1")
		s.detach("v", "a", "node-1", 9)
		b.Done(false)
		s.step(put("holds/v/x/a/node-1", `{"epoch":1}`, 0))
	}, ""},
	{"an attach that comes after its hold's end", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.detach("v", "a", "node-1", 9)
		s.step(put("holds/v/x/a/node-1", `{"epoch":1}`, 0))
	}, UnaskedHold},
	{"a detach that comes after the next attach", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.detach("v", "a", "node-1", 9)
		s.attach("v", "a", "node-1", 4)
		s.step(ends("v", "a", "node-1", 9)...)
	}, UnexplainedEnd},
	{"a detach of another token", func(s *story) {
		hold := s.attach("v", "a", "node-1", 4)
		s.told.Begin(Call{Kind: CallEnd, Volume: "v", Cluster: "a", Node: "node-1", Token: newToken(1, hold) + 1})
		s.step(ends("v", "a", "node-1", 9)...)
	}, UnexplainedEnd},
	{"a detach of a whole node", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.call(CallEnd, "", "a", "node-1")
		s.step(ends("v", "a", "node-1", 9)...)
	}, ""},
	{"a detach of another cluster's", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.call(CallEnd, "", "b", "")
		s.step(ends("v", "a", "node-1", 9)...)
	}, UnexplainedEnd},
	{"an end long after its call", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.call(CallEnd, "v", "a", "node-1").Done(true)
		s.now += time.Second
		s.step(ends("v", "a", "node-1", 9)...)
	}, UnexplainedEnd},
	{"an end without a detachment", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.call(CallEnd, "v", "a", "node-1")
		s.step(del("holds/v/x/a/node-1"), del("attachments/a/node-1/v"))
	}, UnexplainedEnd},
	{"an end whose detachment names its token", func(s *story) {
		hold := s.attach("v", "a", "node-1", 4)
		s.call(CallEnd, "v", "a", "node-1")
		s.step(append(ends("v", "a", "node-1", 9)[:2],
			put("detachments/v/x/a/node-1", fmt.Sprintf(`{"graceMs":10000,"token":%d}`, newToken(1, hold)), 9))...)
	}, ""},
	{"an end whose detachment names another token", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.call(CallEnd, "v", "a", "node-1")
		s.step(append(ends("v", "a", "node-1", 9)[:2], put("detachments/v/x/a/node-1", `{"graceMs":10000,"token":7}`, 9))...)
	}, UnexplainedEnd},
	{"an eviction", func(s *story) {
		hold := s.attach("v", "a", "node-1", 4)
		s.now += 3 * time.Second
		s.step(del("attachments/a/node-1/v"))
		s.call(CallEvict, "", "a", "")
		s.step(entry("evicted", newToken(1, hold), evidence{}), del("holds/v/x/a/node-1"), put("detachments/v/x/a/node-1", `{"graceMs":10000}`, 9))
	}, ""},
	{"an eviction of what is stood by", func(s *story) {
		hold := s.attach("v", "a", "node-1", 4)
		s.call(CallEvict, "", "a", "")
		s.step(append(ends("v", "a", "node-1", 9), entry("evicted", newToken(1, hold), evidence{}))...)
	}, UnexplainedEnd},
	{"a journal that tells of an end that was none", func(s *story) {
		hold := s.attach("v", "a", "node-1", 4)
		s.step(entry("evicted", newToken(1, hold), evidence{}))
	}, UnexplainedEnd},

	// Removals.
	{"a removal", func(s *story) { s.remove(s.orphan()) }, ""},
	{"a removal by who does not lead", func(s *story) { hold, e := s.orphan(); e.Leader++; s.remove(hold, e) }, WrongRemoval},
	{"a removal of another attachment", func(s *story) { hold, e := s.orphan(); e.Attachment--; s.remove(hold, e) }, WrongRemoval},
	{"a removal for another departure", func(s *story) { hold, e := s.orphan(); e.Departure--; s.remove(hold, e) }, WrongRemoval},
	{"a removal in quarantine", func(s *story) {
		hold, e := s.orphan()
		e.Departure = s.step(put("departures/a/node-1", `{}`, 0), put("quarantines/a/node-1", `{}`, 92))
		s.remove(hold, e)
	}, WrongRemoval},
	{"a removal while paused", func(s *story) { hold, e := s.orphan(); s.step(put("pauses/a", `{}`, 0)); s.remove(hold, e) }, WrongRemoval},
	{"a removal in the node's grace", func(s *story) {
		hold, e := s.orphan()
		s.step(put("detachments/v/s/a/node-1", `{"graceMs":10000}`, 9))
		s.remove(hold, e)
	}, WrongRemoval},
	{"a removal under a freeze", func(s *story) { hold, e := s.orphan(); s.step(put("freezes/a", `{}`, 0)); s.remove(hold, e) }, FrozenWrite},
	{"a removal of a node that is back for a moment", func(s *story) {
		hold, e := s.orphan()
		s.told.Present("a", "node-1")
		s.now += 4 * time.Second
		s.remove(hold, e)
	}, ""},
	{"a removal of a node that is back for longer than a live check is good", func(s *story) {
		hold, e := s.orphan()
		s.told.Present("a", "node-1")
		s.now += 5 * time.Second
		s.remove(hold, e)
	}, WrongRemoval},
	{"a removal of what an attach stood by without a trace", func(s *story) {
		hold, e := s.orphan()
		s.call(CallAttach, "v", "a", "node-1").Succeeded()
		s.remove(hold, e)
	}, WrongRemoval},
	{"a removal of what an attach stood by before it was judged", func(s *story) {
		hold, e := s.orphan()
		b := s.call(CallAttach, "v", "a", "node-1")
		e.Attachment = s.step(put("attachments/a/node-1/v", `{"mode":"exclusive","epoch":1}`, 4))
		b.Succeeded()
		s.remove(hold, e)
	}, ""},

	// Waits.
	{"a grace that ends", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.detach("v", "a", "node-1", 9)
		s.now += 10 * time.Second
		s.step(del("detachments/v/x/a/node-1"))
	}, ""},
	{"a grace that ends early", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		b := s.call(CallEnd, "v", "a", "node-1")
		s.step(ends("v", "a", "node-1", 9)...)
		b.Done(true)
		s.now += 9 * time.Second
		s.step(del("detachments/v/x/a/node-1"))
	}, EarlyEnd},
	{"a grace that ends early and of which nobody was told", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.detach("v", "a", "node-1", 9)
		s.step(del("detachments/v/x/a/node-1"))
	}, ""},
	{"a grace that its own cluster's attach ends", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.detach("v", "a", "node-1", 9)
		s.attach("v", "a", "node-2", 4, del("detachments/v/x/a/node-1"))
	}, EarlyEnd},
	{"a grace that another volume's attach ends", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		b := s.call(CallEnd, "v", "a", "node-1")
		s.step(ends("v", "a", "node-1", 9)...)
		b.Done(true)
		s.now += 20 * time.Second
		s.attach("w", "a", "node-2", 4, del("detachments/v/x/a/node-1"), put("journal/a/1", `{"action":"forced","volume":"w","node":"node-2"}`, 93))
	}, EarlyEnd},
	{"a removal's grace that ends early", func(s *story) {
		s.remove(s.orphan())
		s.step(del("detachments/v/x/a/node-1"))
	}, EarlyEnd},
	{"a removal's grace that ends early, of an etcd that stood still", func(s *story) {
		hold, e := s.orphan()
		s.stalls[s.mirror.revision+1] = 6 * time.Second
		s.remove(hold, e)
		s.step(del("detachments/v/x/a/node-1"))
	}, ""},
	{"a grace whose lease is revoked by hand", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.call(CallEnd, "v", "a", "node-1").Done(true)
		s.told.Revoked(9)
		s.step(ends("v", "a", "node-1", 9)...)
		s.step(del("detachments/v/x/a/node-1"))
	}, UnexplainedEnd}, // of the call that was over, and of nothing else
	{"a grace that is cleared", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.detach("v", "a", "node-1", 9)
		s.call(CallClear, "v", "a", "")
		s.step(del("detachments/v/x/a/node-1"))
	}, ""},
	{"a window that ends early", func(s *story) {
		hold := s.attach("v", "a", "node-1", 4)
		s.migrate(hold)
		s.call(CallMigrate, "v", "b", "node-2").Done(true)
		s.told.calls = map[string][]*Begun{} // everybody was told
		s.step(del("migrations/v"))
	}, EarlyEnd},
	{"a window that is committed", func(s *story) {
		s.migrate(s.attach("v", "a", "node-1", 4))
		s.detach("v", "a", "node-1", 9, del("migrations/v"))
	}, ""},
	{"a quarantine that ends early, and is waited for all the same", func(s *story) {
		hold, e := s.orphan()
		s.step(del("departures/a/node-1"))
		e.Departure = s.step(put("departures/a/node-1", `{"since":"2026-01-01T00:00:00Z"}`, 0), put("quarantines/a/node-1", `{"until":"2026-01-01T00:00:10Z"}`, 92))
		s.step(del("quarantines/a/node-1"))
		s.now += 10 * time.Second
		s.remove(hold, e)
	}, ""},
	{"a removal after a quarantine that ended early", func(s *story) {
		hold, e := s.orphan()
		s.step(del("departures/a/node-1"))
		e.Departure = s.step(put("departures/a/node-1", `{"since":"2026-01-01T00:00:00Z"}`, 0), put("quarantines/a/node-1", `{"until":"2026-01-01T00:00:10Z"}`, 92))
		s.step(del("quarantines/a/node-1"))
		s.now += 8 * time.Second
		s.remove(hold, e)
	}, WrongRemoval},
	{"a quarantine whose node is back", func(s *story) {
		s.step(put("departures/a/node-1", `{"since":"2026-01-01T00:00:00Z"}`, 0), put("quarantines/a/node-1", `{"until":"2026-01-01T00:00:10Z"}`, 92))
		s.step(del("quarantines/a/node-1"), del("departures/a/node-1"))
	}, ""},
	{"a quarantine that outlives its departure", func(s *story) {
		s.step(put("departures/a/node-1", `{}`, 0), put("quarantines/a/node-1", `{}`, 92))
		s.step(del("departures/a/node-1"))
	}, OrphanKeys},
	{"a pause that is resumed", func(s *story) {
		s.step(put("pauses/a", `{}`, 0))
		s.step(del("pauses/a"), put("journal/a/1", `{"action":"resumed"}`, 93))
	}, ""},
	{"a pause that goes", func(s *story) { s.step(put("pauses/a", `{}`, 0)); s.step(del("pauses/a")) }, EarlyEnd},
	{"a journal entry that goes early", func(s *story) {
		s.step(put("journal/a/1", `{"action":"resumed"}`, 93))
		s.step(del("journal/a/1"))
	}, EarlyEnd},

	// Attachments.
	{"an attachment that lapses", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.now += 2 * time.Second
		s.step(del("attachments/a/node-1/v"))
	}, ""},
	{"an attachment that lapses early", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.step(del("attachments/a/node-1/v"))
	}, AttachmentLapse},
	{"an attachment that goes while its lease is there", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.attach("w", "a", "node-1", 4)
		s.now += 2 * time.Second
		s.step(del("attachments/a/node-1/v"))
	}, AttachmentLapse},
	{"attachments that lapse together", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.attach("w", "a", "node-1", 4)
		s.now += 2 * time.Second
		s.step(del("attachments/a/node-1/v"), del("attachments/a/node-1/w"))
	}, ""},
	{"an attachment that goes with a put", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.now += 2 * time.Second
		s.step(del("attachments/a/node-1/v"), put("clusters/a", `{}`, 0))
	}, AttachmentLapse},

	// Shapes.
	{"a hold under a lease", func(s *story) { s.call(CallAttach, "v", "a", "n"); s.step(put("holds/v/x/a/n", `{"epoch":1}`, 4)) }, LeaseShape},
	{"an attachment under none", func(s *story) { s.attach("v", "a", "node-1", 0) }, LeaseShape},
	{"a pause with an end under no lease", func(s *story) { s.step(put("pauses/a", `{"until":"2026-01-01T00:00:10Z"}`, 0)) }, LeaseShape},
	{"a witness", func(s *story) { s.step(put("witnesses/a", `{}`, 0)) }, ""},
	{"an attachment of no hold", func(s *story) { s.step(put("attachments/a/n/v", `{"mode":"exclusive","epoch":1}`, 4)) }, OrphanKeys},
	{"a hold that leaves its attachment", func(s *story) {
		s.attach("v", "a", "node-1", 4)
		s.call(CallEnd, "v", "a", "node-1")
		s.step(del("holds/v/x/a/node-1"), put("detachments/v/x/a/node-1", `{"graceMs":10000}`, 9))
	}, OrphanKeys},
	{"a window of one hold", func(s *story) {
		s.migrate(s.attach("v", "a", "node-1", 4))
		s.detach("v", "a", "node-1", 9)
	}, OrphanKeys},
	{"a cluster that is lost", func(s *story) { s.step(put("clusters/a", `{}`, 0)); s.step(del("clusters/a")) }, LostRecord},
	{"a key that is not the ledger's", func(s *story) { s.step(put("holds/v%2f/x/a/n", `{}`, 0)) }, UnknownKey},
	{"a value that does not decode", func(s *story) { s.step(put("departures/a/n", `{`, 0)) }, UnknownKey},
}

func TestChecker(t *testing.T) {
	for _, st := range stories {
		t.Run(st.name, func(t *testing.T) {
			s := tell(t)
			st.tell(s)
			report := s.checker.Report()
			switch err := report.Err(); {
			case st.broke == "" && err != nil:
				t.Error(err)
			case st.broke != "" && !errors.Is(err, st.broke):
				t.Errorf("broke %v, and expected %v", err, st.broke)
			}
			for _, v := range report.Violations {
				if v.Revision == 0 || v.When.Upper <= v.When.Lower || v.Detail == "" {
					t.Errorf("a violation that says little: %+v", v)
				}
			}
			if st.broke != "" && report.Evaluated[st.broke] == 0 {
				t.Errorf("%s broke and was not counted", st.broke)
			}
		})
	}
}

// What nobody was told of is kept apart.
func TestChecker_Tolerates(t *testing.T) {
	s := tell(t)
	s.attach("v", "a", "node-1", 4)
	s.detach("v", "a", "node-1", 9)
	s.step(del("detachments/v/x/a/node-1"))
	if r := s.checker.Report(); r.Err() != nil || len(r.Tolerated) != 1 || !errors.Is(r.Tolerated[0], EarlyEnd) {
		t.Errorf("report: %+v", r)
	}
}

// So it is where the caller named the hold that it ended.
func TestChecker_ToleratesByToken(t *testing.T) {
	s := tell(t)
	hold := s.attach("v", "a", "node-1", 4)
	token := newToken(1, hold)
	s.told.Begin(Call{Kind: CallEnd, Volume: "v", Cluster: "a", Node: "node-1", Token: token}).Done(false)
	s.step(del("holds/v/x/a/node-1"), del("attachments/a/node-1/v"),
		put("detachments/v/x/a/node-1", fmt.Sprintf(`{"graceMs":10000,"token":%d}`, token), 9))
	s.step(del("detachments/v/x/a/node-1"))
	if r := s.checker.Report(); r.Err() != nil || len(r.Tolerated) != 1 {
		t.Errorf("report: %+v", r)
	}
}

func TestChecker_AtRest(t *testing.T) {
	s := tell(t)
	s.attach("v", "a", "node-1", 4)
	s.now += 3 * time.Second
	s.step(del("attachments/a/node-1/v"))
	s.checker.Quiet([]string{"b"})
	must(t, s.checker.Report().Err())
	s.checker.Quiet([]string{"a", "b"})
	if err := s.checker.Report().Err(); !errors.Is(err, OrphanKeys) {
		t.Errorf("a hold that nobody stands by: %v", err)
	}
}

// A restored etcd may not be written before the epoch has been raised above
// every one there was, and tokens grow over it.
func TestChecker_OverARestore(t *testing.T) {
	s := tell(t)
	s.attach("w", "a", "node-1", 4)
	snapshot := newMirror(s.mirror.revision, nil)
	for k, kv := range s.mirror.kvs {
		snapshot.kvs[k] = kv
	}
	for range 5 {
		s.step(put("clusters/a", `{}`, 0))
	}
	s.attach("v", "a", "node-1", 4)
	s.begin(2, snapshot)
	must(t, s.checker.Report().Err())
	s.step(put("ledger", `{"epoch":1,"frozen":null}`, 0)) // as it was: that accepts nothing
	for range 4 {
		s.step(put("clusters/a", `{}`, 0))
	}
	s.attach("v", "a", "node-2", 4) // under the very token that was lost
	err := s.checker.Report().Err()
	for _, want := range []Invariant{WrittenWhileRestored, TokenNotGrown} {
		if !errors.Is(err, want) {
			t.Errorf("%v is not %s", err, want)
		}
	}
	s.checker.report.Violations, s.checker.report.Violated = nil, 0
	s.step(put("ledger", `{"epoch":2}`, 0))
	s.call(CallAttach, "u", "a", "node-1")
	s.step(put("holds/u/x/a/node-1", `{"epoch":2}`, 0))
	if r := s.checker.Report(); r.Err() != nil || r.Segments != 2 {
		t.Errorf("after the epoch was raised: %+v", r)
	}
}

// When what a segment's list has was put is not known, and so not how long it was.
func TestChecker_SkipsWaitsOfBeforeItsList(t *testing.T) {
	s := tell(t)
	s.attach("v", "a", "node-1", 4)
	s.call(CallEnd, "v", "a", "node-1").Done(false)
	s.step(ends("v", "a", "node-1", 9)...)
	s.told = NewTold(s.told.now)
	s.checker.told = s.told // nobody knows of a call any more
	s.begin(2, s.mirror)
	s.step(del("detachments/v/x/a/node-1"))
	if r := s.checker.Report(); r.Err() != nil || r.Skipped != 1 || len(r.Tolerated) != 0 {
		t.Errorf("report: %+v", r)
	}
}

func TestReport_SaysWhatItKnows(t *testing.T) {
	s := tell(t)
	s.attach("v%2F1", "a", "node-1", 4)
	s.attach("v%2F1", "a", "node-2", 4)
	got := s.checker.Report().Err().Error()
	for _, want := range []string{"two-exclusive", "v%2F1", "node-1", "node-2", `{"epoch":1}`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
}
