package history

import (
	"encoding/json"
	"fmt"
	"time"
)

// KV is a key of etcd as it stands at some revision.
type KV struct {
	Key     string `json:"key"`
	Value   string `json:"value,omitempty"`
	Create  int64  `json:"create,omitempty"`
	Mod     int64  `json:"mod"`
	Version int64  `json:"version,omitempty"`
	Lease   int64  `json:"lease,omitempty"`
}

// Event is a change of one key: KV after a put; after a delete its key and the
// deletion's revision.
type Event struct {
	KV
	Delete bool `json:"delete,omitempty"`
	// Prev is what etcd says was there before. It leaves it out where it has
	// compacted that away.
	Prev *KV `json:"-"`
}

// Revision is all that one revision has changed, and when the observer had it.
type Revision struct {
	Segment  int           `json:"segment"`
	Number   int64         `json:"revision"`
	Received time.Duration `json:"received"`
	Events   []Event       `json:"events"`
}

// Record is a KV of the ledger, decoded.
type Record struct {
	Key
	KV    KV
	value value
	// removed: a detachment that a removal has left.
	removed bool
	// owed is how long a departure's node has to be waited for, from its put on.
	owed time.Duration
}

func (r *Record) String() string {
	return fmt.Sprintf("%s (created %d, put %d, lease %x): %s", r.below(), r.KV.Create, r.KV.Mod, r.KV.Lease, r.KV.Value)
}

// value has a field for all that any kind of record says and that matters here.
type value struct {
	Epoch  uint16          `json:"epoch"`
	Mode   string          `json:"mode"`
	Token  uint64          `json:"token"`
	Since  time.Time       `json:"since"`
	Until  time.Time       `json:"until"`
	Frozen json.RawMessage `json:"frozen"`

	// A restore's freeze: what who noticed it knew of, and what was found.
	Known struct {
		Epoch uint16 `json:"epoch"`
	} `json:"known"`
	Found struct {
		Epoch uint16 `json:"epoch"`
	} `json:"found"`

	GraceMS int64 `json:"graceMs"`

	Source      place     `json:"source"`
	Target      place     `json:"target"`
	SourceToken uint64    `json:"sourceToken"`
	Deadline    time.Time `json:"deadline"`

	Action   string   `json:"action"`
	Volume   string   `json:"volume"`
	Node     string   `json:"node"`
	Evidence evidence `json:"evidence"`
	// Orphans are those that were removed together, in place of one.
	Orphans []orphan `json:"orphans"`
}

// orphan is one that a journal entry tells of.
type orphan struct {
	Volume     string `json:"volume"`
	Mode       string `json:"mode"`
	Token      uint64 `json:"token"`
	Attachment int64  `json:"attachmentRevision"`
}

type evidence struct {
	Attachment int64 `json:"attachmentRevision"`
	Departure  int64 `json:"departureRevision"`
	Leader     int64 `json:"leaderRevision"`
}

// newRecord decodes what is not an election's: the value of that is anyone's.
func newRecord(k Key, kv KV) (*Record, error) {
	r := &Record{Key: k, KV: kv}
	if k.Kind == Elections {
		return r, nil
	}
	if err := json.Unmarshal([]byte(kv.Value), &r.value); err != nil {
		return r, fmt.Errorf("the value does not decode: %w", err)
	}
	return r, nil
}

const tokenRevisionBits = 48

func newToken(epoch uint16, revision int64) uint64 {
	return uint64(epoch)<<tokenRevisionBits | uint64(revision)
}

// token is a hold's, or that of the hold which an attachment stands for.
func (r *Record) token() uint64 {
	if r.Kind == Attachments && r.value.Token != 0 {
		return r.value.Token
	}
	return newToken(r.value.Epoch, r.KV.Create)
}

// tells lists what a journal entry is about.
func (r *Record) tells() []orphan {
	if v := r.value; len(v.Orphans) == 0 {
		return []orphan{{Volume: v.Volume, Mode: v.Mode, Token: v.Token, Attachment: v.Evidence.Attachment}}
	}
	return r.value.Orphans
}

// epoch is the greatest that the record tells of.
func (r *Record) epoch() uint16 {
	return max(r.value.Epoch, r.value.Known.Epoch, r.value.Found.Epoch)
}

// letter is the mode's that an attachment names.
func (r *Record) letter() string { return letterOf(r.value.Mode) }

func letterOf(mode string) string {
	switch mode {
	case "exclusive":
		return "x"
	case "shared":
		return "s"
	}
	return ""
}

func (r *Record) frozen() bool {
	return len(r.value.Frozen) > 0 && string(r.value.Frozen) != "null"
}
