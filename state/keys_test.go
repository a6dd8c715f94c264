package state

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

var rewriteGolden = flag.Bool("rewrite", false, "rewrite the golden files of the tests that have some")

// The key layout and the records are a stable format: clusters of different
// versions share one etcd. A change of this file needs a new version segment.
func TestGolden_KeysAndRecords(t *testing.T) {
	k := newKeys("/holdfast/")
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	var b strings.Builder
	record := func(key string, value any) { fmt.Fprintf(&b, "%s\n  %s\n", key, encode(value)) }
	record(k.ledger(), ledgerValue{UUID: "u", Format: 1, Driver: "csi.example.com", Epoch: 2, Created: at,
		Frozen: &Freeze{By: "op", Why: "restored", Since: at}})
	record(k.ledger(), ledgerValue{UUID: "u", Format: 1, Created: at})
	record(k.ledger(), ledgerValue{UUID: "u", Format: 1, Epoch: 3, Created: at, Formerly: []string{"u1", "u2"}})
	record(k.cluster("prod-a"), clusterValue{UID: "uid", Since: at, By: "host"})
	record(k.pause("prod-a"), pauseValue{By: "op", Why: "why", Since: at, Until: at.Add(time.Hour)})
	record(k.freeze("prod-a"), freezeValue{By: "host", Why: "why", Since: at, Known: Known{LedgerUUID: "u", Epoch: 2, EtcdID: "cdf8", Revision: 9},
		Found: Known{LedgerUUID: "u2", Epoch: 1, EtcdID: "cdf9", Revision: 8}})
	record(k.freeze(ledgerCluster), freezeValue{By: "op", Why: "why", Since: at})
	record(k.witness("prod-a"), witnessValue{Nonces: []Nonce{{Store: "s1", Nonce: "n1", Since: at}}, By: "host", Since: at})
	record(k.hold("pvc-1", Exclusive, "prod-a", "node-1"), holdValue{NodeUID: "nu", Epoch: 2, Since: at, By: "host"})
	record(k.hold("../a b/ü%2F", Shared, "prod-a", "node-1.example.com"), holdValue{Since: at})
	record(k.attachment("prod-a", "node-1", "pvc-1"), attachmentValue{Mode: Exclusive, NodeUID: "nu", Epoch: 2, Since: at, Token: 7})
	record(k.detachment("pvc-1", Exclusive, "prod-a", "node-1"),
		detachmentValue{At: at, GraceMS: 30000, Reason: "detached", By: "host", Token: 7})
	record(k.migration("pvc-1"), migrationValue{ID: "id", Source: Place{"prod-a", "node-1"}, Target: Place{"prod-b", "node-2"},
		SourceToken: 7, Epoch: 2, Since: at, Deadline: at.Add(time.Minute), By: "host"})
	record(k.departure("prod-a", "node-1"), departureValue{Reason: NodeGone, UID: "nu", Since: at, By: "host"})
	record(k.quarantine("prod-a", "node-1"), quarantineValue{Until: at})
	record(k.journal("prod-a", "0190-id"), entryValue{At: at, Action: ActionRemoved, Volume: "pvc-1", Node: "node-1", Mode: Exclusive,
		Token: 7, Reason: "NodeGone", By: "host", Why: "why", Evidence: &Evidence{AttachmentRevision: 1, DepartureRevision: 2,
			LeaderRevision: 3, NodeUID: "nu", LiveCheckedAt: at, Fenced: true}})
	record(k.journal("prod-a", "0190-together"), entryValue{At: at, Action: ActionRemoved, Node: "node-1", Reason: "NodeGone", By: "host",
		Evidence: &Evidence{DepartureRevision: 2, LeaderRevision: 3, NodeUID: "nu", LiveCheckedAt: at, Fenced: true},
		Orphans:  []orphanValue{{Volume: "pvc-1", Mode: Exclusive, Token: 7, AttachmentRevision: 1}, {Volume: "pvc-2", Mode: Shared, Token: 8, AttachmentRevision: 4}}})
	record(k.journal(ledgerCluster, "0190-id"), entryValue{At: at, Action: ActionFrozen})
	fmt.Fprintln(&b, k.election("prod-a")+"/694d7e1b2c3a4f05")

	golden := filepath.Join("testdata", "layout.golden")
	if *rewriteGolden {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the stable format has changed (-want +got):\n%s", diff)
	}
}

func TestKeys_ParseWhatTheyBuild(t *testing.T) {
	k := newKeys("/x")
	for raw, want := range map[string]key{
		k.ledger():                             {kind: kindLedger},
		k.cluster("a"):                         {kind: kindCluster, cluster: "a"},
		k.pause("a"):                           {kind: kindPause, cluster: "a"},
		k.freeze("a"):                          {kind: kindFreeze, cluster: "a"},
		k.witness("a"):                         {kind: kindWitness, cluster: "a"},
		k.hold("v/1", Shared, "a", "n"):        {kind: kindHold, volume: "v/1", mode: Shared, cluster: "a", node: "n"},
		k.attachment("a", "n", "v%"):           {kind: kindAttachment, volume: "v%", cluster: "a", node: "n"},
		k.detachment("v", Exclusive, "a", "n"): {kind: kindDetachment, volume: "v", mode: Exclusive, cluster: "a", node: "n"},
		k.migration("v"):                       {kind: kindMigration, volume: "v"},
		k.departure("a", "n"):                  {kind: kindDeparture, cluster: "a", node: "n"},
		k.quarantine("a", "n"):                 {kind: kindQuarantine, cluster: "a", node: "n"},
		k.journal("a", "id"):                   {kind: kindJournal, cluster: "a", id: "id"},
	} {
		if got, ok := k.parse(raw); !ok || got != want {
			t.Errorf("%s parses as %+v, %v; want %+v", raw, got, ok, want)
		}
	}
	for _, raw := range []string{
		"/x/v2/ledger", "/x/v1/ledger/", "/x/v1/holds/v/x/a", "/x/v1/holds/v/q/a/n", "/x/v1/holds//x/a/n", "/x/v1/unknown",
		"/x/v1/pauses/a/b", "/x/v1/migrations/a%2f", "/x/v1/migrations/%41", "/x/v1/migrations/a%2", "/x/v1/migrations/a b", "/y/v1/ledger", "",
	} {
		if got, ok := k.parse(raw); ok {
			t.Errorf("%q parses as %+v", raw, got)
		}
	}
}

// A part has exactly one escaped form, and comes back from it.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"pvc-1", "../../x", "a\x00b", "%2F", "%", "ü", "\xff\xfe", "line\nbreak", " "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, part string) {
		if part != "" {
			var b strings.Builder
			escape(&b, part)
			if got, ok := unescape(b.String()); !ok || got != part {
				t.Fatalf("%q is escaped as %q and comes back as %q, %v", part, b.String(), got, ok)
			}
		}
		if got, ok := unescape(part); ok {
			var b strings.Builder
			escape(&b, got)
			if b.String() != part {
				t.Fatalf("%q and %q both mean %q", part, b.String(), got)
			}
		}
	})
}

// A key that parses has names within their bounds and one form only, and whatever
// stands in etcd decodes to a record with those names, or is Broken in few words.
func FuzzDecode(f *testing.F) {
	const places = `"source":{"cluster":"a","node":"n"},"target":{"cluster":"b","node":"n"}`
	values := []string{"", "{}", "null", "[]", `{"mode":"exclusive"}`, `{"mode":7}`, `{"epoch":-1}`, `{"epoch":65535}`, `{"epoch":65536}`, `{"at":"yesterday"}`, `{"frozen":{}}`,
		`{"mode":"\u001b[31m"}`, `{"graceMs":9223372036854775807}`, `{"token":18446744073709551615}`, `{"token":-1}`, `{"epoch":1e` + strings.Repeat("0", 5000) + "}",
		`{"since":"` + strings.Repeat("\u202e", 3000) + `"}`, `{` + places + `}`, `{"source":{"cluster":"../../x","node":"\u0000"}}`, `{"nodeUID":"\ud800"}`, strings.Repeat("[", 20000)}
	for _, v := range values {
		for _, k := range []string{"holds/v/x/a/n", "attachments/a/n/v", "detachments/v/s/a/n", "ledger", "journal/a/i", "journal/_/i", "migrations/v", "departures/a/n",
			"quarantines/a/n", "pauses/a", "clusters/a", "elections/a/1", "freezes/a", "freezes/_", "witnesses/a", "holds/%2E%2E%2F/x/a/n", "holds/v/x/A/n", "holds/v/x/a/" + strings.Repeat("n", 254)} {
			f.Add("/p/v1/"+k, []byte(v))
		}
	}
	k := newKeys("/p/")
	f.Fuzz(func(t *testing.T, raw string, value []byte) {
		parsed, ok := k.parse(raw)
		if !ok {
			return
		}
		mustBeNamed(t, k, raw, parsed)
		record, broken := decodeAny(parsed, &mvccpb.KeyValue{Key: []byte(raw), Value: value, CreateRevision: 3, ModRevision: 4})
		if broken != nil {
			mustBePlain(t, broken.Error())
		}
		if len(value) > maxRecordBytes && broken == nil && record != nil {
			t.Fatalf("%d bytes decode", len(value))
		}
		switch r := record.(type) {
		case Attachment:
			if broken == nil && validateMode(r.Mode) != nil {
				t.Fatalf("an attachment of mode %q", r.Mode)
			}
		case Hold:
			if r.Volume != parsed.volume || r.Cluster != parsed.cluster || r.Node != parsed.node {
				t.Fatalf("%s decodes to a hold of %q", raw, r.Volume)
			}
		case Migration:
			if err := errors.Join(r.Source.validate(), r.Target.validate()); broken == nil && err != nil || broken != nil && r.Source != (Place{}) && err != nil {
				t.Fatalf("a migration from %q to %q", r.Source, r.Target)
			}
		}
	})
}

// What stands for the ledger has its own place beside the clusters', and nowhere
// else; and every key that is built of names that callers may use parses.
func TestParse_OfTheLedger(t *testing.T) {
	k := newKeys("/p/")
	for raw, want := range map[string]bool{
		k.freeze(ledgerCluster): true, k.freeze("a"): true, k.journal(ledgerCluster, "x"): true, k.journal("a", "x"): true, k.witness("a"): true,
		k.cluster(ledgerCluster): false, k.pause(ledgerCluster): false, k.hold("v", Exclusive, ledgerCluster, "n"): false, k.freeze("A"): false,
	} {
		if _, ok := k.parse(raw); ok != want {
			t.Errorf("%s parses: %v, want %v", raw, ok, want)
		}
	}
}

func mustBeNamed(t *testing.T, k keys, raw string, parsed key) {
	t.Helper()
	var parts []string
	switch parsed.kind {
	case kindCluster, kindPause, kindFreeze, kindWitness:
		parts = []string{parsed.cluster}
	case kindMigration:
		parts = []string{parsed.volume}
	case kindDeparture, kindQuarantine:
		parts = []string{parsed.cluster, parsed.node}
	case kindElection, kindJournal:
		parts = []string{parsed.cluster, parsed.id}
	case kindAttachment:
		parts = []string{parsed.cluster, parsed.node, parsed.volume}
	case kindHold, kindDetachment:
		parts = []string{parsed.volume, parsed.mode.Letter(), parsed.cluster, parsed.node}
	case kindLedger:
	}
	if again := k.join(parsed.kind, parts...); again != raw {
		t.Fatalf("%q and %q are both %+v", raw, again, parsed)
	}
	if len(raw) > len(k.root)+len(kindAttachment)+3*MaxVolumeBytes+MaxClusterBytes+MaxNodeBytes+8 {
		t.Fatalf("a key of %d bytes is taken for one of ours", len(raw))
	}
}

// mustBePlain wants an error's text short, and harmless wherever it is shown.
func mustBePlain(t *testing.T, text string) {
	t.Helper()
	if len(text) > 4*maxTextBytes*4 {
		t.Fatalf("an error of %d bytes", len(text))
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			t.Fatalf("an error with %q in it: %q", r, text)
		}
	}
}

// Tokens and lease IDs come back from what they are written as.
func FuzzTokenAndLease(f *testing.F) {
	for _, s := range []string{"0", "7fffffffffffffff", "-1", "ff", "694d9c5e4f1b7a0d", "1_0", "+1", "0x1", ""} {
		f.Add(s, uint16(1), int64(7))
	}
	f.Add("1", uint16(65535), int64(maxTokenRevision))
	f.Add("1", uint16(0), int64(-1))
	f.Fuzz(func(t *testing.T, text string, epoch uint16, revision int64) {
		var id LeaseID
		if err := id.UnmarshalText([]byte(text)); err == nil {
			var again LeaseID
			if err := again.UnmarshalText([]byte(id.String())); err != nil || again != id {
				t.Fatalf("lease %q is %d, and comes back as %d, %v", text, id, again, err)
			}
		}
		token := NewToken(epoch, revision)
		if revision >= 0 && revision <= maxTokenRevision && (token.Epoch() != epoch || token.Revision() != revision) {
			t.Fatalf("token of %d, %d is of %d, %d", epoch, revision, token.Epoch(), token.Revision())
		}
		if next := NewToken(epoch, revision+1); revision >= 0 && revision < maxTokenRevision && next <= token {
			t.Fatalf("token %d comes before %d", next, token)
		}
		if next := NewToken(epoch+1, 0); epoch < 65535 && next <= token {
			t.Fatalf("token %d of the next epoch comes before %d", next, token)
		}
	})
}

func TestValidate(t *testing.T) {
	for v, ok := range map[string]bool{
		"v": true, strings.Repeat("v", 256): true, "a/b c\n": true, "": false, strings.Repeat("v", 257): false, "\xff": false,
	} {
		if err := ValidateVolume(v); (err == nil) != ok {
			t.Errorf("volume %q: %v", v, err)
		}
	}
	for c, ok := range map[string]bool{
		"a": true, "a-b": true, "0": true, strings.Repeat("c", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "_": false, strings.Repeat("c", 64): false,
	} {
		if err := ValidateCluster(c); (err == nil) != ok {
			t.Errorf("cluster %q: %v", c, err)
		}
	}
	for n, ok := range map[string]bool{
		"node-1": true, "node-1.example.com": true, strings.Repeat("n", 63) + "." + strings.Repeat("n", 63): true,
		"": false, "Node": false, "a..b": false, ".a": false, "a/b": false, strings.Repeat("n.", 127): false,
	} {
		if err := ValidateNode(n); (err == nil) != ok {
			t.Errorf("node %q: %v", n, err)
		}
	}
}
