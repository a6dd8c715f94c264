package model

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

var (
	a1 = state.Place{Cluster: "a", Node: "n1"}
	a2 = state.Place{Cluster: "a", Node: "n2"}
	b1 = state.Place{Cluster: "b", Node: "n1"}
)

// at makes a call about pvc-1, by milliseconds.
func at(begin, end int, op Op, res Result) Call {
	op.Volume = "pvc-1"
	return Call{Begin: time.Duration(begin) * time.Millisecond, End: time.Duration(end) * time.Millisecond, Op: op, Result: res}
}

// lost is a call whose answer never came: its caller gave up after 5 ms.
func lost(begin int, op Op) Call { return at(begin, begin+5, op, Result{Outcome: Unknown}) }

func attaching(p state.Place) Op { return Op{Kind: Attach, Place: p} }

func sharing(p state.Place) Op { return Op{Kind: Attach, Place: p, Mode: state.Shared} }

func detaching(p state.Place) Op { return Op{Kind: Detach, Place: p, Wait: time.Second} }

func migrating(from state.Place, token state.Token, to state.Place) Op {
	return Op{Kind: Migrate, Place: from, Token: token, Target: to, Wait: time.Second}
}

func ending(k Kind, p state.Place, token state.Token) Op {
	return Op{Kind: k, Place: p, Token: token, Wait: time.Second}
}

func finishing(k Kind, from state.Place, token state.Token, to state.Place, target state.Token) Op {
	return Op{Kind: k, Place: from, Token: token, Target: to, TargetToken: target, Wait: time.Second}
}

func token(t state.Token) Result { return Result{Outcome: OK, Token: t} }

func left(p state.Place, rev int64) Result {
	return Result{Outcome: OK, Existed: true, Revision: rev, Detachments: []Detachment{gone(p, rev)}}
}

func gone(p state.Place, rev int64) Detachment {
	return Detachment{Place: p, Mode: state.Exclusive, At: rev, Revision: rev}
}

func x(p state.Place, t state.Token) Hold { return Hold{Place: p, Mode: state.Exclusive, Token: t} }

func s(p state.Place, t state.Token) Hold { return Hold{Place: p, Mode: state.Shared, Token: t} }

func held(rev int64, holds ...Hold) Result { return Result{Outcome: OK, Revision: rev, Holds: holds} }

func withGrace(r Result, d ...Detachment) Result {
	r.Detachments = d
	return r
}

func conflict(rev int64, holds ...Hold) Result {
	return Result{Outcome: Conflict, Revision: rev, Holds: holds}
}

func inGrace(rev int64, d ...Detachment) Result {
	return Result{Outcome: InGrace, Revision: rev, Detachments: d}
}

func migrated(from state.Place, source state.Token, to state.Place, target state.Token) Result {
	return Result{Outcome: OK, Revision: target.Revision(), Migration: &Migration{Source: from, SourceToken: source, Target: to, TargetToken: target}}
}

var get = Op{Kind: Get}

func only(o Outcome) Result { return Result{Outcome: o} }

func refused(why string) Result { return Result{Outcome: Refused, Refused: why} }

type history struct {
	name  string
	calls []Call
	aways []Away
	cuts  []Cut
}

var explained = []history{
	{name: "attach, idempotent, detach, handed over to the same cluster", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(6, 9, attaching(a1), token(10)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(20, 25, attaching(a2), token(14)),
		at(30, 35, get, withGrace(held(15, x(a2, 14)), gone(a1, 12))),
	}},
	{name: "two at once, and one is told who won", calls: []Call{
		at(0, 9, attaching(a1), token(10)),
		at(0, 9, attaching(b1), conflict(10, x(a1, 10))),
	}},
	{name: "the other cluster waits out the grace", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(20, 25, attaching(b1), inGrace(13, gone(a1, 12))),
		at(1005, 1015, attaching(b1), token(20)),
	}},
	{name: "a grace that ends late", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(5000, 5009, attaching(b1), inGrace(13, gone(a1, 12))),
	}},
	{name: "the grace ignored", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(20, 25, Op{Kind: Attach, Place: b1, IgnoreGrace: true}, token(14)),
		at(30, 35, get, held(15, x(b1, 14))),
	}},
	{name: "the grace cleared", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(16, 17, Op{Kind: Clear, Place: a1, Revision: 12}, only(OK)),
		at(18, 19, Op{Kind: Clear, Place: a1, Revision: 12}, only(NotFound)),
		at(20, 25, attaching(b1), token(14)),
	}},
	{name: "shared by two, an exclusive one refused, a detach with nothing there", calls: []Call{
		at(0, 5, sharing(a1), token(10)),
		at(0, 5, sharing(b1), token(11)),
		at(6, 9, attaching(a2), conflict(11, s(a1, 10), s(b1, 11))),
		at(10, 11, detaching(a2), only(OK)),
	}},
	{name: "migration, committed", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(6, 9, migrating(a1, 10, b1), migrated(a1, 10, b1, 12)),
		at(10, 12, attaching(a2), conflict(12, x(a1, 10), x(b1, 12))),
		at(13, 15, finishing(Commit, a1, 10, b1, 12), only(OK)),
		at(16, 17, finishing(Abort, a1, 10, b1, 12), only(NotFound)),
		at(20, 25, get, withGrace(held(13, x(b1, 12)), Detachment{Place: a1, Mode: state.Exclusive, Token: 10, At: 77, Revision: 13})),
	}},
	{name: "a window that ends by itself", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(6, 9, migrating(a1, 10, b1), migrated(a1, 10, b1, 12)),
		at(1000, 1010, get, held(13, x(a1, 10), x(b1, 12))),
	}},
	{name: "an attach of unknown outcome that shows up later", calls: []Call{
		lost(0, attaching(a1)),
		at(10, 15, get, held(9)),
		at(20, 25, attaching(b1), conflict(12, x(a1, 11))),
	}},
	{name: "an attach of unknown outcome that never does", calls: []Call{
		lost(0, attaching(a1)),
		at(20, 25, attaching(b1), token(12)),
	}},
	{name: "a detach of unknown outcome that nobody sees but the next attach", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		lost(10, detaching(a1)),
		at(20, 25, attaching(a2), token(12)),
	}},
	{name: "a detach of unknown outcome that is seen by its detachment", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		lost(10, detaching(a1)),
		at(20, 25, attaching(b1), inGrace(12, gone(a1, 12))),
	}},
	{name: "an attach and a detach, both unknown, seen only by what they left", calls: []Call{
		lost(0, attaching(a1)), lost(6, detaching(a1)),
		at(20, 25, attaching(b1), inGrace(12, gone(a1, 12))),
	}},
	{name: "a detach that ends what an unknown attach had made", calls: []Call{
		lost(0, attaching(a1)),
		at(10, 15, detaching(a1), left(a1, 12)),
	}},
	{name: "a late attach, after the grace: what remains of ADR 6", calls: []Call{
		lost(0, attaching(a1)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(2000, 2005, get, held(20, x(a1, 19))),
	}},
	{name: "a migration of unknown outcome", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		lost(6, migrating(a1, 10, b1)),
		at(20, 25, attaching(a2), conflict(12, x(a1, 10), x(b1, 12))),
		at(30, 35, detaching(b1), left(b1, 14)),
	}},
	{name: "two calls for one hold, one of them told", calls: []Call{
		lost(0, attaching(a1)),
		at(1, 9, attaching(b1), conflict(11, x(a1, 10))),
		at(10, 15, attaching(a1), token(10)),
	}},
	{name: "removal, then eviction of a lapsed one", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(10, 12, ending(Remove, a1, 10), only(OK)),
		at(13, 15, attaching(a2), token(13)),
		at(20, 22, ending(Evict, a2, 13), only(OK)),
		at(23, 25, ending(Evict, a2, 13), refused(state.RefusedHold)),
	}},
	{name: "a removal by a controller", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(30, 35, attaching(a2), token(13)),
	}, aways: []Away{{Place: a1, From: 10 * time.Millisecond, To: Never}}},
	{name: "a restore that brings back a hold", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(30, 35, get, held(10, x(a1, 10))),
		at(36, 39, attaching(b1), conflict(11, x(a1, 10))),
		at(40, 45, detaching(a1), left(a1, 12)),
		at(46, 47, attaching(a2), token(13)),
	}, cuts: []Cut{{From: 20 * time.Millisecond, To: 25 * time.Millisecond}}},
	{name: "frozen, and not any more", calls: []Call{
		at(0, 5, Op{Kind: Freeze}, only(OK)),
		at(4, 8, attaching(a1), only(Frozen)),
		at(10, 15, Op{Kind: Unfreeze}, only(OK)),
		at(11, 12, attaching(a1), token(10)),
	}},
	{name: "lapsed, after its time", calls: []Call{
		at(0, 5, Op{Kind: Attach, Place: a1, Session: 50 * time.Millisecond}, token(10)),
		at(60, 65, get, held(11, Hold{Place: a1, Mode: state.Exclusive, Token: 10, Lapsed: true})),
		at(66, 67, ending(Evict, a1, 10), only(OK)),
	}},
}

var unexplained = []history{
	{name: "double exclusive", calls: []Call{
		at(0, 5, attaching(a1), token(10)), at(6, 9, attaching(b1), token(11)),
	}},
	{name: "exclusive beside shared", calls: []Call{
		at(0, 5, sharing(a1), token(10)), at(6, 9, attaching(b1), token(11)),
	}},
	{name: "a third hold in a migration", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(6, 9, migrating(a1, 10, b1), migrated(a1, 10, b1, 12)),
		at(10, 12, attaching(a2), token(13)),
	}},
	{name: "a migration of a volume that is migrating", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(6, 9, migrating(a1, 10, b1), migrated(a1, 10, b1, 12)),
		at(10, 12, migrating(a1, 10, a2), migrated(a1, 10, a2, 13)),
	}},
	{name: "a grace that ends early, by an attach", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(900, 910, attaching(b1), token(20)),
	}},
	{name: "a grace that ends early, by a read", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(900, 910, get, held(20)),
	}},
	{name: "an unseen end's grace that ends early", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		lost(10, detaching(a1)),
		at(900, 910, attaching(b1), token(20)),
	}},
	{name: "a window that ends early", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(6, 9, migrating(a1, 10, b1), migrated(a1, 10, b1, 12)),
		at(900, 910, finishing(Commit, a1, 10, b1, 12), only(NotFound)),
	}},
	{name: "a token that has not grown", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(20, 25, attaching(a1), token(9)),
	}},
	{name: "an idempotent attach with another token", calls: []Call{
		at(0, 5, attaching(a1), token(10)), at(10, 15, attaching(a1), token(11)),
	}},
	{name: "a detach with an old token that ended a newer hold", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(6, 7, detaching(a1), left(a1, 11)),
		at(8, 9, attaching(a1), token(12)),
		at(10, 15, Op{Kind: Detach, Place: a1, Token: 10, Wait: time.Second}, Result{
			Outcome: OK, Existed: true, Revision: 13, Detachments: []Detachment{{Place: a1, Mode: state.Exclusive, Token: 10, Revision: 13}}}),
	}},
	{name: "a late detach that ended a newer hold", calls: []Call{
		lost(0, detaching(a1)),
		at(10, 15, attaching(a1), token(12)),
		at(20, 25, get, held(20)),
	}},
	{name: "a detach that found nothing where there is a hold", calls: []Call{
		at(0, 5, attaching(a1), token(10)), at(6, 9, detaching(a1), only(OK)),
	}},
	{name: "a detach that ended what was not there", calls: []Call{
		at(6, 9, detaching(a1), left(a1, 11)),
	}},
	{name: "a stale token where there is no hold", calls: []Call{
		at(6, 9, Op{Kind: Detach, Place: a1, Token: 10}, only(StaleToken)),
	}},
	{name: "a conflict with one who never held", calls: []Call{
		at(0, 5, attaching(a1), conflict(11, x(b1, 10))),
	}},
	{name: "a conflict with one who has left before", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(6, 7, detaching(a1), left(a1, 11)),
		at(8, 9, attaching(a2), conflict(12, x(a1, 10))),
	}},
	{name: "a conflict that leaves one out", calls: []Call{
		at(0, 5, sharing(a1), token(10)), at(0, 5, sharing(b1), token(11)),
		at(6, 9, attaching(a2), conflict(12, s(b1, 11))),
	}},
	{name: "a stale read", calls: []Call{
		at(0, 5, attaching(a1), token(10)), at(6, 7, detaching(a1), left(a1, 11)),
		at(8, 9, get, held(10, x(a1, 10))),
	}},
	{name: "in another's grace where there is none", calls: []Call{
		at(0, 5, attaching(b1), inGrace(12, gone(a1, 12))),
	}},
	{name: "an attach of unknown outcome that shows up twice", calls: []Call{
		lost(0, attaching(a1)),
		at(10, 15, get, held(11, x(a1, 10))),
		at(20, 25, detaching(a1), left(a1, 12)),
		at(3000, 3005, get, held(20, x(a1, 19))),
	}},
	{name: "an attach that arrives after its node's detachment", calls: []Call{
		lost(0, attaching(a1)),
		at(6, 9, attaching(a1), token(10)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(20, 25, get, withGrace(held(20, x(a1, 19)), gone(a1, 12))),
	}},
	{name: "an attach that was sent once and arrives again", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(10, 15, detaching(a1), left(a1, 12)),
		at(3000, 3005, get, held(20, x(a1, 19))),
	}},
	{name: "a hold that vanished", calls: []Call{
		at(0, 5, attaching(a1), token(10)), at(6, 9, get, held(12)),
	}},
	{name: "a removal of a newer hold", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(6, 7, detaching(a1), left(a1, 11)),
		at(8, 9, attaching(a1), token(12)),
		at(2000, 2005, ending(Remove, a1, 10), only(OK)),
	}},
	{name: "a removal in the node's own grace", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(6, 7, detaching(a1), left(a1, 11)),
		at(8, 9, attaching(a1), token(12)),
		at(20, 25, ending(Remove, a1, 12), only(OK)),
	}},
	{name: "a removal before the node was away", calls: []Call{
		at(0, 5, attaching(a1), token(10)), at(6, 9, attaching(a2), token(13)),
	}, aways: []Away{{Place: a1, From: 10 * time.Millisecond, To: Never}}},
	{name: "an eviction of a hold that stands", calls: []Call{
		at(0, 5, Op{Kind: Attach, Place: a1, Session: time.Second}, token(10)),
		at(6, 9, ending(Evict, a1, 10), only(OK)),
	}},
	{name: "lapsed before its time", calls: []Call{
		at(0, 5, Op{Kind: Attach, Place: a1, Session: time.Second}, token(10)),
		at(60, 65, get, held(11, Hold{Place: a1, Mode: state.Exclusive, Token: 10, Lapsed: true})),
	}},
	{name: "frozen, and carried out", calls: []Call{
		at(0, 5, Op{Kind: Freeze}, only(OK)), at(6, 8, attaching(a1), token(10)),
	}},
	{name: "refused for a freeze that was not", calls: []Call{
		at(0, 5, Op{Kind: Freeze}, only(OK)), at(6, 8, Op{Kind: Unfreeze}, only(OK)),
		at(9, 10, attaching(a1), only(Frozen)),
	}},
	{name: "after a cut, what the first read does not show", calls: []Call{
		at(0, 5, attaching(a1), token(10)),
		at(30, 35, get, held(10)),
		at(36, 39, attaching(b1), conflict(11, x(a1, 10))),
	}, cuts: []Cut{{From: 20 * time.Millisecond, To: 25 * time.Millisecond}}},
	{name: "double exclusive, before a cut", calls: []Call{
		at(0, 5, attaching(a1), token(10)), at(6, 9, attaching(b1), token(11)),
		at(30, 35, get, held(10, x(a1, 10))),
	}, cuts: []Cut{{From: 20 * time.Millisecond, To: 25 * time.Millisecond}}},
}

func checked(h history) *Report {
	return Check(History{Calls: h.calls, Aways: h.aways, Cuts: h.cuts}, 10*time.Second)
}

func TestCheck_Explained(t *testing.T) {
	for _, h := range explained {
		if r := checked(h); !r.OK() {
			t.Errorf("%s:\n%s", h.name, r)
		}
	}
}

func TestCheck_Unexplained(t *testing.T) {
	for _, h := range unexplained {
		r := checked(h)
		if r.OK() {
			t.Errorf("%s: was not found:\n%s", h.name, r)
			continue
		}
		for _, v := range r.Violations {
			if v.Undecided {
				t.Errorf("%s: %s", h.name, v)
			}
		}
		t.Logf("%s: %s", h.name, strings.Join(strings.Fields(r.Violations[0].String()), " "))
	}
}
