package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// script writes a history by hand: one string a transaction, its operations
// separated by "; ", each "put KEY [VALUE]", "lease KEY [VALUE]" (a put under a
// lease), "delete KEY", "mark NODE VALUE", or "wait DURATION".
func script(transactions ...string) []statetest.Event {
	var events []statetest.Event
	now := map[string]statetest.KV{}
	revision, at := int64(1), time.Duration(0)
	apply := func(key, value string, lease int64) {
		old, there := now[key]
		kv := statetest.KV{Key: key, Value: value, ModRevision: revision, CreateRevision: revision, Version: 1, Lease: lease}
		if there {
			kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
		}
		now[key] = kv
		events = append(events, statetest.Event{KV: kv})
	}
	tick := func() {
		revision++
		apply(clockKey, strconv.FormatInt(int64(at), 10), 0)
	}
	for _, transaction := range transactions {
		tick()
		revision++
		for _, op := range strings.Split(transaction, "; ") {
			verb, rest, _ := strings.Cut(op, " ")
			name, value, _ := strings.Cut(rest, " ")
			switch verb {
			case "put":
				apply(ledgerRoot+name, value, 0)
			case "lease":
				apply(ledgerRoot+name, value, 7)
			case "mark":
				apply(markPrefix+name, value, 0)
			case "delete":
				events = append(events, statetest.Event{Deleted: true, KV: statetest.KV{Key: ledgerRoot + name, ModRevision: revision}})
				delete(now, ledgerRoot+name)
			case "wait":
				d, err := time.ParseDuration(name)
				if err != nil {
					panic(err)
				}
				at += d
			default:
				panic(fmt.Sprintf("script: %q", op))
			}
		}
	}
	tick()
	tick()
	return events
}

// Parts of the scripts below.
const (
	attachV1   = "put holds/v1/x/east/n1 {}; lease attachments/east/n1/v1 {}"
	detachV1   = `delete holds/v1/x/east/n1; delete attachments/east/n1/v1; lease detachments/v1/x/east/n1 {"graceMs":2000}`
	endGraceV1 = "delete detachments/v1/x/east/n1"
	departN1   = "put departures/east/n1 {}; lease quarantines/east/n1 {}"
	endWaitN1  = "delete quarantines/east/n1"
	removeV1   = detachV1 + `; lease journal/east/e1 {"action":"removed","volume":"v1","node":"n1","token":3}`
	migrateV1  = `put holds/v1/x/east/n2 {}; lease attachments/east/n2/v1 {}; lease migrations/v1 {"since":"2026-01-01T00:00:00Z","deadline":"2026-01-01T00:00:03Z"}`
)

// The replay would be worth nothing if it could not find anything.
func TestReplay(t *testing.T) {
	for name, c := range map[string]struct {
		history []string
		want    string // part of the only problem; empty: none
	}{
		"a day that is fine": {[]string{
			attachV1, detachV1, "wait 2s", endGraceV1, attachV1, migrateV1, "wait 3s", "delete migrations/v1",
			`delete holds/v1/x/east/n2; delete attachments/east/n2/v1; lease detachments/v1/x/east/n2 {"graceMs":2000}`,
			"mark n1 leaves", departN1, "wait 4s", endWaitN1, "delete detachments/v1/x/east/n2", removeV1,
			"delete departures/east/n1", "mark n1 back", attachV1,
		}, ""},
		"a grace that ends early":      {[]string{attachV1, detachV1, "wait 1.9s", endGraceV1}, "detachments/v1/x/east/n1 ends at most 1.9s"},
		"a grace put again, and early": {[]string{attachV1, detachV1, "wait 1s", `lease detachments/v1/x/east/n1 {"graceMs":2000}`, "wait 1.5s", endGraceV1}, "ends at most 1.5s"},
		"a quarantine that ends early": {[]string{"mark n1 leaves", departN1, "wait 3.9s", endWaitN1}, "quarantines/east/n1 ends at most 3.9s"},
		"a window that ends early":     {[]string{attachV1, migrateV1, "wait 2.9s", "delete migrations/v1"}, "migrations/v1 ends at most 2.9s"},
		"a hold that is lost":          {[]string{attachV1, "delete holds/v1/x/east/n1; delete attachments/east/n1/v1"}, "is lost: a hold ends with a detachment"},
		"an attachment that is lost":   {[]string{attachV1, "delete attachments/east/n1/v1"}, "its hold is not"},
		"two exclusive holds":          {[]string{attachV1, "put holds/v1/x/east/n2 {}"}, "1 other holds stand in its way"},
		"shared beside exclusive":      {[]string{attachV1, "put holds/v1/s/east/n2 {}"}, "1 other holds stand in its way"},
		"shared beside shared":         {[]string{"put holds/v1/s/east/n1 {}", "put holds/v1/s/west/n2 {}"}, ""},
		"another cluster in the grace": {[]string{attachV1, detachV1, "put holds/v1/x/west/n9 {}"}, "is attached in the grace of"},
		"a hold put twice":             {[]string{attachV1, "put holds/v1/x/east/n1 {}"}, "put once"},
		"a hold under a lease":         {[]string{"lease holds/v1/x/east/n1 {}"}, "under no lease"},
		"an attachment without":        {[]string{"put holds/v1/x/east/n1 {}; put attachments/east/n1/v1 {}"}, "it would never end"},
		"a journal entry that is lost": {[]string{"lease journal/east/e1 {}", "delete journal/east/e1"}, "journal/east/e1 is lost"},
		"a cluster that is lost":       {[]string{"put clusters/east {}", "delete clusters/east"}, "clusters/east is lost"},
		"a key of no known kind":       {[]string{"put hods/v1 {}"}, "a kind of key that is not the ledger's"},
		"a node that came back":        {[]string{"mark n1 leaves", departN1, "mark n1 back", "delete departures/east/n1; " + endWaitN1}, ""},
		"a wait that begins anew":      {[]string{"mark n1 leaves", departN1, "wait 1s", departN1, "wait 4s", endWaitN1}, ""},
		"removed with no departure":    {[]string{attachV1, "mark n1 leaves", removeV1}, "without a departure"},
		"removed in the quarantine": {
			[]string{attachV1, "mark n1 leaves", departN1, "wait 5s", removeV1}, "in the quarantine of its node"},
		"removed in a grace": {
			[]string{attachV1, detachV1, attachV1, "mark n1 leaves", departN1, "wait 4s", endWaitN1, removeV1}, "in a grace period of its node"},
		"removed with a node that is there": {
			[]string{attachV1, departN1, "wait 4s", endWaitN1, removeV1}, "its node was never away"},
		"removed with a node that is back": {
			[]string{attachV1, "mark n1 leaves", departN1, "wait 4s", endWaitN1, "mark n1 back", "wait 6s", removeV1}, "its node is back"},
		"removed after it came back and attached": {
			[]string{"mark n1 leaves", departN1, "wait 4s", endWaitN1, "mark n1 back", attachV1, removeV1}, "its node is back"},
		"removed twice": {
			[]string{attachV1, "mark n1 leaves", departN1, "wait 4s", endWaitN1, removeV1,
				`lease journal/east/e2 {"action":"removed","volume":"v1","node":"n1","token":3}`}, "was removed already"},
		"removed twice, together with others": {
			[]string{attachV1, "mark n1 leaves", departN1, "wait 4s", endWaitN1, removeV1,
				`lease journal/east/e2 {"action":"removed","node":"n1","orphans":[{"volume":"v0","token":2},{"volume":"v1","token":3}]}`}, "was removed already"},
	} {
		t.Run(name, func(t *testing.T) {
			got := replayHistory(script(c.history...), 4*time.Second)
			switch {
			case c.want == "" && len(got.problems) > 0:
				t.Errorf("problems: %q, want none", got.problems)
			case c.want != "" && (len(got.problems) != 1 || !strings.Contains(got.problems[0], c.want)):
				t.Errorf("problems: %q, want one with %q", got.problems, c.want)
			}
		})
	}

	whole := replayHistory(script(attachV1, detachV1, "mark n1 leaves", departN1, "wait 4s", endGraceV1, endWaitN1, attachV1, removeV1), 4*time.Second)
	if len(whole.ends) != 2 || whole.ends[0].removed || !whole.ends[1].removed {
		t.Errorf("ends: %+v, want a detach and a removal", whole.ends)
	}
	if whole.ended[kindGraces] != 1 || whole.ended[kindWaits] != 1 {
		t.Errorf("ended by themselves: %v, want a grace and a quarantine", whole.ended)
	}
}
