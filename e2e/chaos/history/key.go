package history

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Kind is the first segment of a key of the ledger.
type Kind string

// The kinds of keys.
const (
	Ledger      Kind = "ledger"
	Clusters    Kind = "clusters"
	Pauses      Kind = "pauses"
	Holds       Kind = "holds"
	Attachments Kind = "attachments"
	Detachments Kind = "detachments"
	Migrations  Kind = "migrations"
	Departures  Kind = "departures"
	Quarantines Kind = "quarantines"
	Elections   Kind = "elections"
	Journal     Kind = "journal"
	Freezes     Kind = "freezes"
	Witnesses   Kind = "witnesses"
)

// Key is a key of the ledger, taken apart. Which fields are set depends on the kind.
type Key struct {
	Kind    Kind   `json:"kind"`
	Volume  string `json:"volume,omitempty"`
	Mode    string `json:"mode,omitempty"` // "x" or "s"
	Cluster string `json:"cluster,omitempty"`
	Node    string `json:"node,omitempty"`
	ID      string `json:"id,omitempty"`
}

// place is the node of a cluster.
type place struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
}

func (p place) String() string { return p.Cluster + "/" + p.Node }

func (k Key) place() place { return place{k.Cluster, k.Node} }

// forms tells what the parts after a kind are: a letter each.
var forms = map[Kind]string{
	Ledger: "", Clusters: "c", Pauses: "c", Holds: "vmcn", Attachments: "cnv", Detachments: "vmcn",
	Migrations: "v", Departures: "cn", Quarantines: "cn", Elections: "ci", Journal: "ci", Freezes: "c", Witnesses: "c",
}

// ParseKey takes a key below root ("<prefix>v1/") apart. It fails for one that
// is not in the ledger's one form.
func ParseKey(root, raw string) (Key, error) {
	rest, below := strings.CutPrefix(raw, root)
	if !below {
		return Key{}, fmt.Errorf("key %q is not below %q", raw, root)
	}
	parts := strings.Split(rest, "/")
	form, known := forms[Kind(parts[0])]
	if !known || len(parts) != len(form)+1 {
		return Key{}, fmt.Errorf("key %q is of no kind that the ledger has", raw)
	}
	k := Key{Kind: Kind(parts[0])}
	for i, field := range []byte(form) {
		part, err := url.PathUnescape(parts[i+1])
		if err != nil || part == "" || escape(part) != parts[i+1] {
			return Key{}, fmt.Errorf("key %q has part %q, which is not escaped as the ledger does", raw, parts[i+1])
		}
		*k.field(field) = part
	}
	if k.Mode != "" && !slices.Contains([]string{"x", "s"}, k.Mode) {
		return Key{}, fmt.Errorf("key %q has mode %q, neither x nor s", raw, k.Mode)
	}
	return k, nil
}

func (k *Key) field(letter byte) *string {
	switch letter {
	case 'v':
		return &k.Volume
	case 'm':
		return &k.Mode
	case 'c':
		return &k.Cluster
	case 'n':
		return &k.Node
	}
	return &k.ID
}

// below is the raw key, without the root.
func (k Key) below() string {
	out := string(k.Kind)
	for _, field := range []byte(forms[k.Kind]) {
		out += "/" + escape(*k.field(field))
	}
	return out
}

const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"

func escape(part string) string {
	var b strings.Builder
	for i := range len(part) {
		if strings.IndexByte(unreserved, part[i]) >= 0 {
			b.WriteByte(part[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", part[i])
		}
	}
	return b.String()
}
