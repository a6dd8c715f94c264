package state

import (
	"strings"
)

// The key layout is a stable format: clusters of different versions share one
// etcd. testdata/keys.golden holds it. A change needs a new version segment
// and a migration.
const version = "v1/"

// ledgerCluster stands where a key names a cluster and the record is about the
// ledger itself, or of a process of no cluster. No RFC 1123 label looks like it.
const ledgerCluster = "_"

// kind is the first segment of a key.
type kind string

const (
	kindLedger     kind = "ledger"
	kindCluster    kind = "clusters"
	kindPause      kind = "pauses"
	kindHold       kind = "holds"
	kindAttachment kind = "attachments"
	kindDetachment kind = "detachments"
	kindMigration  kind = "migrations"
	kindDeparture  kind = "departures"
	kindQuarantine kind = "quarantines"
	kindElection   kind = "elections"
	kindJournal    kind = "journal"
	kindFreeze     kind = "freezes"
	kindWitness    kind = "witnesses"
)

// mostParts is how many parts a key has at most, its kind not counted.
const mostParts = 4

const (
	upperHex   = "0123456789ABCDEF"
	escapedLen = len("%XX")
)

// keys builds and parses the keys below one prefix.
type keys struct {
	root string // "<prefix>v1/"
}

func newKeys(prefix string) keys {
	if !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	return keys{root: prefix + version}
}

func (k keys) join(kd kind, parts ...string) string {
	size := len(k.root) + len(kd)
	for _, p := range parts {
		size += len("/") + len(p)
	}
	var b strings.Builder
	b.Grow(size + escapedLen)
	b.WriteString(k.root)
	b.WriteString(string(kd))
	for _, p := range parts {
		b.WriteByte('/')
		escape(&b, p)
	}
	return b.String()
}

// under is the range of all keys below the given parts: [begin, end).
func (k keys) under(kd kind, parts ...string) (begin, end string) {
	begin = k.join(kd, parts...) + "/"
	return begin, rangeEnd(begin)
}

// rangeEnd is the end of the range of all keys that begin with a prefix that
// ends in a slash: the next byte after '/' is '0', and no part contains either
// unescaped in a place where it could be mistaken.
func rangeEnd(prefix string) string { return prefix[:len(prefix)-1] + "0" }

func (k keys) ledger() string                { return k.join(kindLedger) }
func (k keys) cluster(c string) string       { return k.join(kindCluster, c) }
func (k keys) pause(c string) string         { return k.join(kindPause, c) }
func (k keys) freeze(c string) string        { return k.join(kindFreeze, c) }
func (k keys) witness(c string) string       { return k.join(kindWitness, c) }
func (k keys) migration(v string) string     { return k.join(kindMigration, v) }
func (k keys) departure(c, n string) string  { return k.join(kindDeparture, c, n) }
func (k keys) quarantine(c, n string) string { return k.join(kindQuarantine, c, n) }
func (k keys) journal(c, id string) string   { return k.join(kindJournal, c, id) }

// election is the prefix that client/v3/concurrency puts "/<lease>" after.
func (k keys) election(c string) string { return k.join(kindElection, c) }

func (k keys) hold(v string, m Mode, c, n string) string {
	return k.join(kindHold, v, m.Letter(), c, n)
}

func (k keys) attachment(c, n, v string) string { return k.join(kindAttachment, c, n, v) }

func (k keys) detachment(v string, m Mode, c, n string) string {
	return k.join(kindDetachment, v, m.Letter(), c, n)
}

// key is a parsed key. Which fields are set depends on the kind.
type key struct {
	kind                      kind
	volume, cluster, node, id string
	mode                      Mode
}

// parse returns false for a key that is not ours: of an unknown kind, with
// another number of parts, not escaped the way escape does it, or with a name
// that no caller may use. What such a key holds stays held; nothing more is made
// of it.
func (k keys) parse(raw string) (key, bool) {
	rest, ok := strings.CutPrefix(raw, k.root)
	if !ok {
		return key{}, false
	}
	kd, rest, more := strings.Cut(rest, "/")
	var parts [mostParts]string
	n := 0
	for ; more; n++ {
		var s string
		s, rest, more = strings.Cut(rest, "/")
		if n == mostParts {
			return key{}, false
		}
		if parts[n], ok = unescape(s); !ok {
			return key{}, false
		}
	}
	return shape(kind(kd), parts[:n])
}

// shape assigns the parts of a key of kind kd to their fields.
func shape(kd kind, parts []string) (key, bool) {
	out := key{kind: kd}
	want := 0
	switch kd {
	case kindLedger:
	case kindCluster, kindPause, kindFreeze, kindWitness:
		want = 1
	case kindMigration:
		want = 1
	case kindDeparture, kindQuarantine, kindElection, kindJournal:
		want = 2
	case kindAttachment:
		want = 3
	case kindHold, kindDetachment:
		want = 4
	default:
		return key{}, false
	}
	if len(parts) != want {
		return key{}, false
	}
	switch kd {
	case kindCluster, kindPause, kindFreeze, kindWitness:
		out.cluster = parts[0]
	case kindMigration:
		out.volume = parts[0]
	case kindDeparture, kindQuarantine:
		out.cluster, out.node = parts[0], parts[1]
	case kindElection, kindJournal:
		out.cluster, out.id = parts[0], parts[1]
	case kindAttachment:
		out.cluster, out.node, out.volume = parts[0], parts[1], parts[2]
	case kindHold, kindDetachment:
		m, ok := modeOf(parts[1])
		if !ok {
			return key{}, false
		}
		out.volume, out.mode, out.cluster, out.node = parts[0], m, parts[2], parts[3]
	}
	return out, out.named()
}

// ofTheLedger says whether the key stands for the ledger, where others of its kind
// stand for a cluster.
func (k key) ofTheLedger() bool {
	return k.cluster == ledgerCluster && (k.kind == kindJournal || k.kind == kindFreeze)
}

// named says whether the names are within their bounds.
func (k key) named() bool {
	return (k.volume == "" || ValidateVolume(k.volume) == nil) &&
		(k.cluster == "" || ValidateCluster(k.cluster) == nil || k.ofTheLedger()) &&
		(k.node == "" || ValidateNode(k.node) == nil) && len(k.id) <= maxIDBytes
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '.' || c == '_' || c == '~' || c == '-'
}

// escape writes every byte outside [A-Za-z0-9._~-] as %XX, so that a part never
// contains a slash and two parts never have one form.
func escape(b *strings.Builder, part string) {
	from := 0
	for i := range len(part) {
		c := part[i]
		if plain(c) {
			continue
		}
		b.WriteString(part[from:i])
		from = i + 1
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	b.WriteString(part[from:])
}

// unescape undoes escape and refuses every other form, also one that would
// decode to the same bytes: a part has one form only.
func unescape(s string) (string, bool) {
	if s == "" {
		return "", false
	}
	if strings.IndexByte(s, '%') < 0 {
		for i := range len(s) {
			if !plain(s[i]) {
				return "", false
			}
		}
		return s, true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plain(c) {
			out = append(out, c)
			continue
		}
		if c != '%' || i+escapedLen > len(s) {
			return "", false
		}
		hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
		if hi < 0 || lo < 0 || plain(byte(hi<<4|lo)) {
			return "", false
		}
		out = append(out, byte(hi<<4|lo))
		i += escapedLen - 1
	}
	return string(out), true
}
