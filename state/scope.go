package state

import "time"

// Scope is a range of records to watch.
type Scope struct {
	kind       kind
	begin, end func(keys) string
	previous   bool // a delete's event carries the record that it deleted
}

func rangeScope(kd kind, previous bool, parts ...string) Scope {
	return Scope{
		kind:     kd,
		begin:    func(k keys) string { b, _ := k.under(kd, parts...); return b },
		end:      func(k keys) string { _, e := k.under(kd, parts...); return e },
		previous: previous,
	}
}

func keyScope(kd kind, at func(keys) string) Scope {
	return Scope{kind: kd, begin: at, end: func(k keys) string { return after(at(k)) }, previous: true}
}

// An empty cluster or volume means all in the scopes below, but for those of a
// single record.

// ScopeAttachments are the attachments of a cluster. Deletes carry names only.
func ScopeAttachments(cluster string) Scope {
	return rangeScope(kindAttachment, false, below(cluster)...)
}

// ScopeDepartures are the departures of a cluster.
func ScopeDepartures(cluster string) Scope {
	return rangeScope(kindDeparture, true, below(cluster)...)
}

// ScopeQuarantines are the quarantines of a cluster.
func ScopeQuarantines(cluster string) Scope {
	return rangeScope(kindQuarantine, true, below(cluster)...)
}

// ScopeDetachments are the detachments of a volume, or all if it is empty.
func ScopeDetachments(volume string) Scope {
	return rangeScope(kindDetachment, true, below(volume)...)
}

// ScopeHolds are the holds of a volume, or all if it is empty.
func ScopeHolds(volume string) Scope { return rangeScope(kindHold, true, below(volume)...) }

// ScopeMigrations are the open windows, of all clusters. A delete carries the
// window that ended, by itself or by a commit, an abort or a detach.
func ScopeMigrations() Scope { return rangeScope(kindMigration, true) }

// ScopeLedger is the ledger's own record.
func ScopeLedger() Scope { return keyScope(kindLedger, keys.ledger) }

// ScopeFreezes are the freezes of those who noticed a restore, of all clusters.
func ScopeFreezes() Scope { return rangeScope(kindFreeze, true) }

// ScopePause is the pause of a cluster.
func ScopePause(cluster string) Scope {
	return keyScope(kindPause, func(k keys) string { return k.pause(cluster) })
}

// ScopeCluster is the identity on record of a cluster.
func ScopeCluster(cluster string) Scope {
	return keyScope(kindCluster, func(k keys) string { return k.cluster(cluster) })
}

// ScopeJournal is the journal of a cluster since a time; of all clusters, and of
// the ledger itself, whatever the time, if it is empty.
func ScopeJournal(cluster string, since time.Time) Scope {
	s := rangeScope(kindJournal, false, below(cluster)...)
	if cluster != "" && !since.IsZero() {
		s.begin = func(k keys) string { return k.journal(cluster, firstID(since)) }
	}
	return s
}

// ScopeAll is every record of the ledger.
func ScopeAll() Scope {
	return Scope{
		kind:     "all",
		begin:    func(k keys) string { return k.root },
		end:      func(k keys) string { return rangeEnd(k.root) },
		previous: true,
	}
}
