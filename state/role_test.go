package state

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a role may do is what an operator grants by hand and looks at again after
// an upgrade, so it changes only on purpose.
func TestGolden_Roles(t *testing.T) {
	var b strings.Builder
	for _, role := range []struct {
		name string
		list func() ([]Permission, error)
	}{
		{"cluster prod-a", func() ([]Permission, error) { return ClusterPermissions("", "prod-a") }},
		{"operator", func() ([]Permission, error) { return OperatorPermissions("/site 1") }},
		{"reader", func() ([]Permission, error) { return ReaderPermissions("/holdfast/") }},
	} {
		list, err := role.list()
		mustBe(t, err, nil)
		b.WriteString(role.name + "\n")
		for _, p := range list {
			line, err := json.Marshal(p)
			mustBe(t, err, nil)
			b.WriteString("  " + string(line) + "\n")
		}
	}
	golden := filepath.Join("testdata", "roles.golden")
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
		t.Errorf("the roles have changed (-want +got); after a change run the test with -rewrite and read the diff:\n%s", diff)
	}
}

// permits is how etcd reads a role, for a single key.
func permits(list []Permission, key string, access Access) bool {
	for _, p := range list {
		reaches := key == p.Key
		if p.RangeEnd != "" {
			reaches = p.Key <= key && key < p.RangeEnd
		}
		if reaches && (p.Access == access || p.Access == ReadWrite) {
			return true
		}
	}
	return false
}

// Names that begin like one another, and a prefix that begins like another, stay
// apart. Every kind of key is here: a new one has to find its place in the roles.
func TestRoles_KeysApart(t *testing.T) {
	const mine = "a"
	of, err := ClusterPermissions("", mine)
	mustBe(t, err, nil)
	operator, err := OperatorPermissions("")
	mustBe(t, err, nil)
	reader, err := ReaderPermissions("")
	mustBe(t, err, nil)
	k := newKeys(DefaultPrefix)

	named := func(c string) map[kind]string {
		return map[kind]string{
			kindCluster: k.cluster(c), kindPause: k.pause(c), kindWitness: k.witness(c), kindAttachment: k.attachment(c, "n", "v"), kindDeparture: k.departure(c, "n"),
			kindQuarantine: k.quarantine(c, "n"), kindElection: k.election(c) + "/694d7e1b2c3a4f05", kindJournal: k.journal(c, "0190-id"),
		}
	}
	expect := func(who string, list []Permission, key string, read, write bool) {
		t.Helper()
		if got := permits(list, key, Read); got != read {
			t.Errorf("%s may read %s: %v, want %v", who, key, got, read)
		}
		if got := permits(list, key, Write); got != write {
			t.Errorf("%s may write %s: %v, want %v", who, key, got, write)
		}
	}
	for _, c := range []string{mine, "a-b", "a0", "a1", "ab", "b", "a-", ledgerCluster} {
		for kd, key := range named(c) {
			expect("cluster a", of, key, c == mine, c == mine)
			controllers := kd == kindWitness || kd == kindDeparture || kd == kindQuarantine || kd == kindElection
			expect("operator", operator, key, true, !controllers)
			expect("reader", reader, key, true, false)
		}
		expect("cluster a", of, k.freeze(c), true, c == mine)
		expect("operator", operator, k.freeze(c), true, true)
		expect("reader", reader, k.freeze(c), true, false)
		for _, key := range []string{k.hold("v", Exclusive, c, "n"), k.detachment("v", Shared, c, "n"), k.migration("v")} {
			expect("cluster a", of, key, true, true)
			expect("operator", operator, key, true, true)
			expect("reader", reader, key, true, false)
		}
	}
	expect("cluster a", of, k.ledger(), true, false)
	expect("operator", operator, k.ledger(), true, true)
	for _, beyond := range []string{"/holdfast/v10/ledger", "/holdfast/v2/ledger", "/holdfast/ledger", "/holdfast-2/v1/ledger", "/holdfast/v1/ledger2", "/holdfas", "0"} {
		expect("cluster a", of, beyond, false, false)
		expect("operator", operator, beyond, beyond == "/holdfast/v1/ledger2", false)
	}
	layout, err := os.ReadFile(filepath.Join("testdata", "layout.golden"))
	mustBe(t, err, nil)
	for line := range strings.SplitSeq(string(layout), "\n") {
		raw, isKey := strings.CutPrefix(line, k.root)
		kd, _, _ := strings.Cut(raw, "/")
		_, own := named(mine)[kind(kd)]
		if isKey && !own && !slices.Contains([]kind{kindLedger, kindHold, kindDetachment, kindMigration, kindFreeze}, kind(kd)) {
			t.Errorf("%q is a kind of key that no role was looked at for", kd)
		}
	}
}

func TestRoles_Invalid(t *testing.T) {
	_, err := ClusterPermissions("", "Not a label")
	mustBe(t, err, ErrInvalid)
	for _, list := range []func(string) ([]Permission, error){
		OperatorPermissions, ReaderPermissions,
		func(prefix string) ([]Permission, error) { return ClusterPermissions(prefix, "a") },
	} {
		if _, err := list("/\xff/"); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "prefix") {
			t.Errorf("a prefix that is no text: %v", err)
		}
	}
}
