package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-storage/holdfast/state"
)

// A watch that was cut off lists anew: what is printed then is only what has
// changed meanwhile, and what went unseen is told too.
func TestStream_Relist(t *testing.T) {
	var out bytes.Buffer
	s := &stream{out: output{form: formTable}, w: &out, at: map[string]int64{}}
	put := func(volume string, revision int64) state.Event {
		return state.Event{Type: state.Put, Key: volume, Revision: revision,
			Record: state.Hold{Volume: volume, Cluster: "east", Node: "n", Mode: state.Exclusive, Token: state.Token(revision)}}
	}
	told := func(batches ...state.Batch) []string {
		t.Helper()
		out.Reset()
		for _, b := range batches {
			if err := s.take(b); err != nil {
				t.Fatal(err)
			}
		}
		var lines []string
		for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
			if f := strings.Fields(line); len(f) > 3 {
				lines = append(lines, strings.Join(f[:4], " "))
			}
		}
		return lines
	}
	same := func(what string, want, got []string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	synced := state.Batch{Synced: true, Revision: 5}
	same("the first list", []string{"2 present hold a", "3 present hold b", "4 present hold c"},
		told(state.Batch{Reset: true, Events: []state.Event{put("a", 2), put("b", 3)}}, state.Batch{Events: []state.Event{put("c", 4)}}, synced))
	deleted := put("c", 6)
	deleted.Type = state.Delete
	same("changes", []string{"5 put hold d", "6 deleted hold c"}, told(state.Batch{Events: []state.Event{put("d", 5), deleted}}))
	same("a sign of life", nil, told(state.Batch{Revision: 9}))
	same("a list anew, in which a is gone, b was put again and e is new",
		[]string{"8 put hold b", "9 put hold e", "9 deleted hold a"},
		told(state.Batch{Reset: true, Events: []state.Event{put("b", 8), put("d", 5), put("e", 9)}}, state.Batch{Synced: true, Revision: 9}))
	same("changes after it", []string{"10 put hold a"}, told(state.Batch{Events: []state.Event{put("a", 10)}}))

	s = &stream{flags: watchFlags{changesOnly: true}, out: output{form: formTable}, w: &out, at: map[string]int64{}}
	same("changes only", []string{"6 put hold b", "7 deleted hold a"},
		told(state.Batch{Reset: true, Events: []state.Event{put("a", 2)}}, synced, state.Batch{Events: []state.Event{put("b", 6)}},
			state.Batch{Reset: true, Events: []state.Event{put("b", 6)}}, state.Batch{Synced: true, Revision: 7}))
	s = &stream{flags: watchFlags{volume: "b", kinds: []string{"hold"}}, out: output{form: formTable}, w: &out, at: map[string]int64{}}
	same("one volume", []string{"3 present hold b"}, told(state.Batch{Reset: true, Events: []state.Event{put("a", 2), put("b", 3)}}, synced))
}

func TestSubjectOf_KnowsEveryRecord(t *testing.T) {
	kinds := map[string]bool{}
	for _, record := range []any{
		state.Hold{}, state.Attachment{}, state.Detachment{}, state.Migration{}, state.Departure{}, state.Quarantine{},
		state.Pause{}, state.ClusterRecord{}, state.LedgerRecord{Frozen: &state.Freeze{}}, state.Entry{},
		state.RestoreFreeze{}, state.Witness{},
	} {
		about := subjectOf(record)
		if about.kind == "" || about.record == nil {
			t.Errorf("a %T is about nothing", record)
		}
		kinds[about.kind] = true
	}
	for _, kind := range watchKinds {
		if !kinds[kind] {
			t.Errorf("--kind %s is of no record", kind)
		}
	}
	if got := subjectOf(nil); got.kind != "" {
		t.Errorf("an unknown record is a %s", got.kind)
	}
}
