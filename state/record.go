package state

import "time"

// The records as callers see them. What of them stands in etcd, and how, is in
// codec.go. Their JSON form is what the command line prints.

// Hold is the durable fact that a node may use a volume.
type Hold struct {
	Volume  string `json:"volume"`
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	Mode    Mode   `json:"mode"`
	// NodeUID is the UID of the Node object at the attach, where it was known.
	NodeUID string `json:"nodeUID,omitempty"`
	// Since is the attach's time by the clock of who wrote it. It decides nothing.
	Since time.Time `json:"since"`
	By    string    `json:"by,omitempty"`
	Token Token     `json:"token"`
	// Revision is the create revision of the hold's key.
	Revision int64 `json:"revision"`
	// Lapsed: its attachment is gone. Filled by Volume and Holds, which look.
	Lapsed bool `json:"lapsed"`
	// StandingUnknown: whether it has lapsed can't be told, because the etcd role
	// does not reach the attachments of its cluster. Filled as Lapsed is.
	StandingUnknown bool `json:"standingUnknown,omitempty"`
	// Broken is why the record's value does not decode. The volume is held all
	// the same, and Node and Cluster come from the key as far as it parses.
	Broken error `json:"-"`
}

// Place is the node that holds.
func (h Hold) Place() Place { return Place{Cluster: h.Cluster, Node: h.Node} }

// Attachment is the leased statement of a hold's own cluster: we stand by it.
type Attachment struct {
	Volume  string    `json:"volume"`
	Cluster string    `json:"cluster"`
	Node    string    `json:"node"`
	Mode    Mode      `json:"mode"`
	NodeUID string    `json:"nodeUID,omitempty"`
	Since   time.Time `json:"since"`
	// Token is the token of the hold that the attachment stands for.
	Token Token   `json:"token"`
	Lease LeaseID `json:"lease"`
	// CreateRevision and ModRevision are those of the attachment's key.
	CreateRevision int64 `json:"createRevision"`
	ModRevision    int64 `json:"modRevision"`
	Broken         error `json:"-"`
}

// Place is the node that the attachment is about.
func (a Attachment) Place() Place { return Place{Cluster: a.Cluster, Node: a.Node} }

// Detachment is the leased record of how and when a hold ended. While it
// exists the volume is in its grace period.
type Detachment struct {
	Volume  string `json:"volume"`
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	Mode    Mode   `json:"mode"`
	// Token is the ended hold's, or 0 where the one who ended it did not know it.
	Token Token `json:"token,omitempty"`
	// At is the time of the detach by the clock of who wrote it.
	At time.Time `json:"at"`
	// Grace is the grace period that was asked for.
	Grace       time.Duration `json:"grace"`
	Reason      string        `json:"reason"`
	By          string        `json:"by,omitempty"`
	Lease       LeaseID       `json:"lease"`
	ModRevision int64         `json:"modRevision"`
	Broken      error         `json:"-"`
}

// Migration is the leased window in which a volume may have two exclusive holds.
type Migration struct {
	Volume      string `json:"volume"`
	Source      Place  `json:"source"`
	Target      Place  `json:"target"`
	SourceToken Token  `json:"sourceToken"`
	TargetToken Token  `json:"targetToken"`
	// Since and Deadline are by the clock of who began the migration. The
	// window ends when etcd deletes its key, never before the deadline.
	Since    time.Time `json:"since"`
	Deadline time.Time `json:"deadline"`
	By       string    `json:"by,omitempty"`
	Lease    LeaseID   `json:"lease"`
	// Revision is the create revision of the window's key.
	Revision int64 `json:"revision"`
	Broken   error `json:"-"`

	id          string // tells a resent request from another migration
	modRevision int64
}

// DepartureReason says why a node counts as gone. The set is closed.
type DepartureReason string

// The reasons of a departure.
const (
	// NodeGone: the Node list has no such node.
	NodeGone DepartureReason = "NodeGone"
	// NodeReplaced: the Node list has another UID under the name.
	NodeReplaced DepartureReason = "NodeReplaced"
	// OutOfService: the node has the taint node.kubernetes.io/out-of-service,
	// an operator's word that the machine is off.
	OutOfService DepartureReason = "OutOfService"
)

// Departure is the durable record that a node has left.
type Departure struct {
	Cluster string          `json:"cluster"`
	Node    string          `json:"node"`
	Reason  DepartureReason `json:"reason"`
	// UID is the Node object's that the departure is about, where known.
	UID         string    `json:"uid,omitempty"`
	Since       time.Time `json:"since"`
	By          string    `json:"by,omitempty"`
	ModRevision int64     `json:"modRevision"`
	Broken      error     `json:"-"`
}

// Quarantine is the leased wait that begins with a departure.
type Quarantine struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	// Until is by the clock of who wrote it; the wait is over when the key is gone.
	Until       time.Time `json:"until"`
	Lease       LeaseID   `json:"lease"`
	ModRevision int64     `json:"modRevision"`
	Broken      error     `json:"-"`
}

// Pause says who paused the removals of a cluster, and why.
type Pause struct {
	Cluster string    `json:"cluster"`
	By      string    `json:"by"`
	Why     string    `json:"why"`
	Since   time.Time `json:"since"`
	// Until is zero for a pause without an end of its own.
	Until       time.Time `json:"until,omitzero"`
	Lease       LeaseID   `json:"lease,omitempty"`
	ModRevision int64     `json:"modRevision"`
	Broken      error     `json:"-"`
}

// LedgerRecord is the ledger's own record.
type LedgerRecord struct {
	UUID    string    `json:"uuid"`
	Format  int       `json:"format"`
	Driver  string    `json:"driver,omitempty"`
	Epoch   uint16    `json:"epoch"`
	Created time.Time `json:"created"`
	// Frozen is nil unless the ledger is frozen.
	Frozen *Freeze `json:"frozen,omitempty"`
	// Formerly are the UUIDs of ledgers that an operator has accepted this one in
	// the place of, after an etcd was restored or replaced; the last few.
	Formerly    []string `json:"formerly,omitempty"`
	ModRevision int64    `json:"modRevision"`
	Broken      error    `json:"-"`

	raw []byte
}

// Freeze says who froze the ledger, why, and since when.
type Freeze struct {
	By    string    `json:"by"`
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
}

// ClusterRecord is the identity on record of a cluster.
type ClusterRecord struct {
	Cluster string `json:"cluster"`
	// UID is that of the cluster's kube-system namespace, or what stands for it.
	UID         string    `json:"uid"`
	Since       time.Time `json:"since"`
	By          string    `json:"by,omitempty"`
	ModRevision int64     `json:"modRevision"`
	Broken      error     `json:"-"`

	raw []byte
}

// Action is what a journal entry tells of. The set is closed.
type Action string

// The actions that leave a journal entry.
const (
	ActionRemoved       Action = "removed"
	ActionEvicted       Action = "evicted"
	ActionForced        Action = "forced"
	ActionRebound       Action = "rebound"
	ActionFrozen        Action = "frozen"
	ActionUnfrozen      Action = "unfrozen"
	ActionPaused        Action = "paused"
	ActionResumed       Action = "resumed"
	ActionBrakeReleased Action = "brake-released"
)

// Entry is one entry of the journal: what was done, why, by whom and on which evidence.
type Entry struct {
	// ID is a UUIDv7, so that keys sort by time. Orphans that were removed together
	// share it.
	ID string `json:"id"`
	// Cluster is empty for an entry about the ledger itself.
	Cluster  string    `json:"cluster,omitempty"`
	At       time.Time `json:"at"`
	Action   Action    `json:"action"`
	Volume   string    `json:"volume,omitempty"`
	Node     string    `json:"node,omitempty"`
	Mode     Mode      `json:"mode,omitempty"`
	Token    Token     `json:"token,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	By       string    `json:"by,omitempty"`
	Why      string    `json:"why,omitempty"`
	Evidence *Evidence `json:"evidence,omitempty"`
	// Lease is the one that ends the entry after its retention. See LeaseAge.
	Lease       LeaseID `json:"-"`
	ModRevision int64   `json:"modRevision"`
	Broken      error   `json:"-"`
}

// Evidence is what a removal relied on.
type Evidence struct {
	AttachmentRevision int64  `json:"attachmentRevision,omitempty"`
	DepartureRevision  int64  `json:"departureRevision,omitempty"`
	LeaderRevision     int64  `json:"leaderRevision,omitempty"`
	NodeUID            string `json:"nodeUID,omitempty"`
	// LiveCheckedAt is when the live check that allowed the removal began.
	LiveCheckedAt time.Time `json:"liveCheckedAt,omitzero"`
	// Fenced: a fencer ran and succeeded.
	Fenced bool `json:"fenced,omitempty"`
}
