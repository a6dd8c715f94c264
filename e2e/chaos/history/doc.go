// Package history watches a ledger in etcd, revision by revision, and holds
// what it sees against what must always be so.
//
// It reads the stable format by itself, with keys and records of its own, and
// knows nothing of how Holdfast writes. Two things come from outside: the times
// between which a revision was committed, which beacons tell (puts of a key
// outside of the ledger, timed on the run's own clock), and what the run itself
// has done, which it says in Told: the calls that may end a hold, the nodes that
// were surely there, the leases that it revoked.
//
// A restore of a snapshot ends one life of etcd and begins another: a segment
// each. A segment begins with a list and goes on with a watch that may miss
// nothing. Since all of etcd is watched, and beacons are part of it, every
// revision has events, and a number left out is a revision missed.
//
// Every doubt about time is resolved in favour of the ledger: faults widen the
// bounds and may hide a violation, but never make one.
package history
