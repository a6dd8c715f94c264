package state

import (
	"cmp"
	"errors"
)

// Access is what a permission allows.
type Access string

// The kinds of access, as etcd calls them.
const (
	Read      Access = "read"
	Write     Access = "write"
	ReadWrite Access = "readwrite"
)

// Permission lets an etcd role read, or write, the keys from Key up to and
// without RangeEnd; only Key itself where RangeEnd is empty.
type Permission struct {
	Access   Access `json:"access"`
	Key      string `json:"key"`
	RangeEnd string `json:"rangeEnd,omitempty"`
	// Why is what the ledger needs it for, a phrase.
	Why string `json:"why"`
}

// The roles below are the least that work, held so by a test that takes each
// permission away. etcd lets whoever may read or write keys also grant leases,
// ask for what is left of one, and ask a member for its status; a lease it lets
// only those renew, use and revoke who may write all keys on it.

// ClusterPermissions are those of the processes of one cluster, its controllers
// and drivers, and of the verbs in its name: all that is named after the cluster,
// and the kinds that are ordered by volume. Of those no role can take a cluster's
// own part, so clusters that share a ledger have to trust each other with them;
// out of reach are every other cluster's identity, attachments, departures, lead
// and journal, so that none can pass for another, stand by its holds, have its
// nodes taken for gone, or cover up what was done. The ledger's record is only
// read: an operator's Open makes it.
//
// A process of several clusters needs the permissions of each.
func ClusterPermissions(prefix, cluster string) ([]Permission, error) {
	if err := errors.Join(validateText("prefix", prefix), ValidateCluster(cluster)); err != nil {
		return nil, err
	}
	k := rolesKeys(prefix)
	return []Permission{
		{Access: Read, Key: k.ledger(), Why: "the ledger's own record: its format and epoch, and whether it is frozen"},
		{Access: ReadWrite, Key: k.cluster(cluster), Why: "the cluster's identity, put by its first start and compared by every request"},
		{Access: ReadWrite, Key: k.pause(cluster), Why: "whether its removals are paused; 'holdfast pause' and 'resume' of its own"},
		{Access: Write, Key: k.freeze(cluster), Why: "that one of its processes noticed a restored etcd"},
		k.allow(Read, "whether anyone has: it stops every attach, migration and removal", kindFreeze),
		{Access: ReadWrite, Key: k.witness(cluster), Why: "what its leader writes here and outside etcd, to notice a restored etcd by"},
		k.allow(ReadWrite, "its attachments: that it stands by its holds, and nobody else can", kindAttachment, cluster),
		k.allow(ReadWrite, "its nodes that have left", kindDeparture, cluster),
		k.allow(ReadWrite, "how long each of those is waited for", kindQuarantine, cluster),
		k.allow(ReadWrite, "which of its controllers leads", kindElection, cluster),
		k.allow(ReadWrite, "its journal: what was removed and why, and how many nodes the brake counts", kindJournal, cluster),
		k.allow(ReadWrite, "who holds what, shared: an attach compares that no cluster holds the volume", kindHold),
		k.allow(ReadWrite, "graces, shared: an attach compares that no other cluster has just detached", kindDetachment),
		k.allow(ReadWrite, "migrations, shared: the end of either side's hold ends the migration", kindMigration),
	}, nil
}

// OperatorPermissions are those of whoever looks after the ledger as a whole:
// makes it, freezes it, pauses any cluster, rebinds a name, evicts a lost
// cluster's holds, migrates a volume from one cluster into another, and acts as
// any cluster. It can neither lead a cluster nor declare its nodes gone.
func OperatorPermissions(prefix string) ([]Permission, error) {
	if err := validateText("prefix", prefix); err != nil {
		return nil, err
	}
	k := rolesKeys(prefix)
	return []Permission{
		k.everything("everything, to look and to compare"),
		{Access: Write, Key: k.ledger(), Why: "the ledger's own record: 'holdfast init', 'freeze' and 'unfreeze'"},
		k.allow(Write, "'holdfast unfreeze --restored', and that one of its processes noticed a restored etcd", kindFreeze),
		k.allow(Write, "identities: 'holdfast clusters rebind', and clusters that an attach begins", kindCluster),
		k.allow(Write, "'holdfast pause' and 'resume' of any cluster", kindPause),
		k.allow(Write, "what 'holdfast evict', 'detach' and 'migrate' end and begin", kindHold),
		k.allow(Write, "the same of the attachments, whichever cluster's: evictions, and migrations into another cluster", kindAttachment),
		k.allow(Write, "the graces that every end begins, and 'holdfast clear'", kindDetachment),
		k.allow(Write, "'holdfast migrate', its commit and its abort", kindMigration),
		k.allow(Write, "that each of these was done, by whom and why; 'holdfast resume --brake'", kindJournal),
	}, nil
}

// ReaderPermissions are those of whoever only looks: get, list, watch, plan,
// journal, clusters.
func ReaderPermissions(prefix string) ([]Permission, error) {
	if err := validateText("prefix", prefix); err != nil {
		return nil, err
	}
	return []Permission{rolesKeys(prefix).everything("everything, and nothing is changed")}, nil
}

func rolesKeys(prefix string) keys { return newKeys(cmp.Or(prefix, DefaultPrefix)) }

// allow is a permission on all keys below the given parts.
func (k keys) allow(a Access, why string, kd kind, parts ...string) Permission {
	begin, end := k.under(kd, parts...)
	return Permission{Access: a, Key: begin, RangeEnd: end, Why: why}
}

// everything is the permission to read the whole ledger.
func (k keys) everything(why string) Permission {
	return Permission{Access: Read, Key: k.root, RangeEnd: rangeEnd(k.root), Why: why}
}
