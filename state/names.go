package state

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of the names that callers choose. A volume is a CSI volume handle, a
// cluster an RFC 1123 label, and a node a Kubernetes Node name, which is an
// RFC 1123 subdomain.
const (
	MaxVolumeBytes  = 256
	MaxClusterBytes = 63
	MaxNodeBytes    = 253
	// maxTextBytes bounds what else a caller may write into a record: a UID,
	// a reason, the name of who did it.
	maxTextBytes = 1024
	// maxIDBytes bounds what an election and the journal name a key by: a lease, a UUID.
	maxIDBytes = 128
	// excerptBytes is how much of a text an error quotes: a name is quoted whole.
	excerptBytes = 4 * MaxVolumeBytes
)

// excerpt is a text for an error, which may be anything that somebody has sent.
func excerpt(s string) string {
	if len(s) <= excerptBytes {
		return s
	}
	return strings.ToValidUTF8(s[:excerptBytes], "") + "…"
}

// Mode says how a hold uses its volume.
type Mode string

// The modes of a hold. A volume has either one exclusive hold (two in a
// migration) or any number of shared ones.
const (
	Exclusive Mode = "exclusive"
	Shared    Mode = "shared"
)

// Letter is the mode's segment in a key.
func (m Mode) Letter() string {
	if m == Shared {
		return "s"
	}
	return "x"
}

func modeOf(letter string) (Mode, bool) {
	switch letter {
	case "x":
		return Exclusive, true
	case "s":
		return Shared, true
	}
	return "", false
}

// Token is the fencing token of a hold: the ledger's epoch and the create
// revision of the hold's key. A later hold of the same volume always has a
// greater token. Zero means unknown.
//
// In JSON it is a number. It stays below 2^53, and so exact for readers that
// keep numbers as doubles, for the first 31 epochs.
type Token uint64

const (
	tokenRevisionBits = 48
	maxTokenRevision  = 1<<tokenRevisionBits - 1
)

// NewToken returns the token of a hold that was created at revision in epoch.
func NewToken(epoch uint16, revision int64) Token {
	return Token(uint64(epoch)<<tokenRevisionBits | uint64(revision)&maxTokenRevision)
}

// Epoch is the ledger's epoch in which the hold was made.
func (t Token) Epoch() uint16 { return uint16(t >> tokenRevisionBits) }

// Revision is the create revision of the hold's key.
func (t Token) Revision() int64 { return int64(t & maxTokenRevision) }

func (t Token) String() string { return strconv.FormatUint(uint64(t), 10) }

// LeaseID is the ID of an etcd lease. Zero means none.
type LeaseID int64

// String is the ID in hexadecimal, as etcdctl writes it.
func (id LeaseID) String() string { return strconv.FormatInt(int64(id), 16) }

// MarshalText makes it a string in JSON: as a number it would not fit a double.
func (id LeaseID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *LeaseID) UnmarshalText(text []byte) error {
	v, err := strconv.ParseInt(string(text), 16, 64)
	*id = LeaseID(v)
	return err
}

// Place is a node of a cluster.
type Place struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
}

func (p Place) String() string { return p.Cluster + "/" + p.Node }

func (p Place) validate() error { return errors.Join(ValidateCluster(p.Cluster), ValidateNode(p.Node)) }

// ValidateVolume returns an ErrInvalid if v is no volume: UTF-8, 1 to 256 bytes.
func ValidateVolume(v string) error {
	switch {
	case v == "":
		return invalid("volume", v, "a CSI volume handle of 1 to 256 bytes, and it is empty")
	case len(v) > MaxVolumeBytes:
		return invalid("volume", v, fmt.Sprintf("at most %d bytes, and it has %d", MaxVolumeBytes, len(v)))
	case !utf8.ValidString(v):
		return invalid("volume", v, "UTF-8")
	}
	return nil
}

// ValidateCluster returns an ErrInvalid if c is no RFC 1123 label.
func ValidateCluster(c string) error {
	if c == "" || len(c) > MaxClusterBytes || !isLabel(c) {
		return invalid("cluster", c, "an RFC 1123 label: 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends")
	}
	return nil
}

// ValidateNode returns an ErrInvalid if n is no Kubernetes Node name. An empty
// node is never taken to mean every node: that is DetachAll.
func ValidateNode(n string) error {
	ok := n != "" && len(n) <= MaxNodeBytes
	for label, rest, more := "", n, true; more; {
		label, rest, more = strings.Cut(rest, ".")
		ok = ok && isLabel(label)
	}
	if !ok {
		return invalid("node", n, "a Kubernetes Node name (an RFC 1123 subdomain of 1 to 253 bytes)")
	}
	return nil
}

func isLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func validateMode(m Mode) error {
	if m != Exclusive && m != Shared {
		return invalid("mode", string(m), `"exclusive" or "shared"`)
	}
	return nil
}

// validateText checks a free text that goes into a record.
func validateText(field, s string) error {
	if len(s) > maxTextBytes {
		return invalid(field, s[:32], fmt.Sprintf("at most %d bytes, and it has %d", maxTextBytes, len(s)))
	}
	if !utf8.ValidString(s) {
		return invalid(field, s, "UTF-8")
	}
	return nil
}
