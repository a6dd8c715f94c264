package history

import (
	"errors"
	"testing"
	"time"
)

func TestMirror_SeesWhatIsMissing(t *testing.T) {
	had := KV{Key: "k", Value: "v", Create: 3, Mod: 5, Version: 2}
	next := KV{Key: "k", Value: "w", Create: 3, Mod: 8, Version: 3}
	with := func(kv KV, edit func(*KV)) KV { edit(&kv); return kv }
	for name, c := range map[string]struct {
		number int64
		event  Event
		ok     bool
	}{
		"the next put":             {8, Event{KV: next, Prev: &had}, true},
		"its past compacted":       {8, Event{KV: next}, true},
		"a revision left out":      {9, Event{KV: with(next, func(kv *KV) { kv.Mod = 9 }), Prev: &had}, false},
		"a revision twice":         {7, Event{KV: with(next, func(kv *KV) { kv.Mod = 7 }), Prev: &had}, false},
		"a put left out":           {8, Event{KV: with(next, func(kv *KV) { kv.Version = 4 })}, false},
		"a delete left out":        {8, Event{KV: with(next, func(kv *KV) { kv.Version, kv.Create = 1, 8 })}, false},
		"another past":             {8, Event{KV: next, Prev: &KV{Key: "k", Mod: 7, Create: 3, Version: 2}}, false},
		"a past that was not":      {8, Event{KV: KV{Key: "other", Create: 8, Mod: 8, Version: 1}, Prev: &had}, false},
		"created before":           {8, Event{KV: KV{Key: "other", Create: 7, Mod: 8, Version: 1}}, false},
		"a delete":                 {8, Event{KV: KV{Key: "k", Mod: 8}, Delete: true, Prev: &had}, true},
		"a delete of nothing":      {8, Event{KV: KV{Key: "other", Mod: 8}, Delete: true}, false},
		"an event out of its time": {8, Event{KV: with(next, func(kv *KV) { kv.Mod = 7 }), Prev: &had}, false},
	} {
		m := newMirror(7, []KV{had})
		err := m.admit(c.number, []Event{c.event})
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrMissed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMirror_Equals(t *testing.T) {
	one, two := KV{Key: "a", Mod: 1}, KV{Key: "b", Mod: 2}
	m := newMirror(2, []KV{one, two})
	for _, list := range [][]KV{{one}, {one, two, {Key: "c"}}, {one, {Key: "b", Mod: 1}}, nil} {
		if err := m.equals(list); !errors.Is(err, ErrMissed) {
			t.Errorf("%v: %v", list, err)
		}
	}
	if err := m.equals([]KV{two, one}); err != nil {
		t.Error(err)
	}
}

func TestBeacons_Bounds(t *testing.T) {
	b := &beacons{}
	for i, revision := range []int64{10, 13, 20} {
		start := time.Duration(i) * time.Minute
		b.add(Beacon{Revision: revision, Start: start, Answered: start + time.Second})
	}
	for revision, want := range map[int64]Bounds{
		11: {0, time.Minute + time.Second},
		13: {0, time.Minute + time.Second},
		14: {time.Minute, 2*time.Minute + time.Second},
		20: {time.Minute, 2*time.Minute + time.Second},
		21: {2 * time.Minute, time.Hour},
	} {
		if got := b.bounds(revision, time.Hour); got != want {
			t.Errorf("revision %d: %v, want %v", revision, got, want)
		}
	}
	if got := b.bounds(14, 90*time.Second); got.Upper != 90*time.Second {
		t.Errorf("an event that came before a beacon's answer: %v", got)
	}
}

func TestParseKey(t *testing.T) {
	const root = "/holdfast/v1/"
	for raw, want := range map[string]Key{
		"ledger":                  {Kind: Ledger},
		"holds/pvc%2F1/x/a/n.b":   {Kind: Holds, Volume: "pvc/1", Mode: "x", Cluster: "a", Node: "n.b"},
		"attachments/a/n/%C3%A9":  {Kind: Attachments, Cluster: "a", Node: "n", Volume: "é"},
		"journal/_/01":            {Kind: Journal, Cluster: "_", ID: "01"},
		"elections/a/694d8a":      {Kind: Elections, Cluster: "a", ID: "694d8a"},
		"freezes/_":               {Kind: Freezes, Cluster: "_"},
		"detachments/v%20/s/a/n":  {Kind: Detachments, Volume: "v ", Mode: "s", Cluster: "a", Node: "n"},
		"migrations/a%25b":        {Kind: Migrations, Volume: "a%b"},
		"witnesses/one-cluster-1": {Kind: Witnesses, Cluster: "one-cluster-1"},
	} {
		got, err := ParseKey(root, root+raw)
		if err != nil || got != want || got.below() != raw {
			t.Errorf("%s: %+v (%s), %v", raw, got, got.below(), err)
		}
	}
	for _, raw := range []string{
		"", "ledger/", "ledger/x", "holds/v/x/a", "holds/v/y/a/n", "holds//x/a/n", "holds/%2f/x/a/n", "holds/%41/x/a/n",
		"holds/a b/x/a/n", "holds/%/x/a/n", "holds/a+b/x/a/n", "other/a", "pauses/a/b",
	} {
		if k, err := ParseKey(root, root+raw); err == nil {
			t.Errorf("%q is taken for %+v", raw, k)
		}
	}
}
