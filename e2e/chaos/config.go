package chaos

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-storage/holdfast/failpoint"
	"github.com/holdfast-storage/holdfast/state"
)

// Config says what one run is like. Programs and Folder must be set.
type Config struct {
	// Seed is what the schedule, the clients' choices and what is done at each
	// fail point follow from.
	Seed uint64
	// Time is how long faults go on. The recovery and the checks come after it.
	Time time.Duration
	// Etcd, Etcdutl and Holdfast are the programs; Holdfast is built with the
	// tag failpoints, and best with the race detector.
	Etcd, Etcdutl, Holdfast string
	// Folder takes everything that the run writes.
	Folder string
	// Log hears what goes on.
	Log *slog.Logger

	// Faults picks the kinds of faults by name; empty: all.
	Faults []string
	// Planted is a fault that is planted in the controllers. In this process
	// the caller plants it.
	Planted failpoint.Fault
	// Stops says how many of a hundred arrivals at each fail point become a
	// fault; 0: the default for each.
	Stops map[failpoint.Point]Stop
	// Volumes and Drivers (a cluster) bound the load; Pace is a driver's mean
	// pause between two calls.
	Volumes, Drivers int
	Pace             time.Duration
	// Hasty bounds how long a call is waited for, from 20 ms on; 0: one in five is
	// given up within 420 ms, the others within 4 s.
	Hasty time.Duration
	// Duel has each cluster's first driver only attach, the second only detach,
	// and the others only look, all of them for one node: what is carried out
	// twice shows.
	Duel bool
	// Own has each driver attach and detach volumes that are its own, as many as
	// Volumes: no other's call explains what becomes of them.
	Own bool
	// Restore has etcd restored from a snapshot in the middle; Revoke has leases
	// revoked by hand, which takes away what is known of when a wait ends.
	Restore, Revoke bool
	// Settle bounds the recovery: lapses, quarantines and graces that have to
	// end, by leases that a leader change of etcd starts afresh.
	Settle time.Duration
	// Gap is the mean pause between two faults of a track; 0: each track's own.
	Gap time.Duration
	// Away is how long a node is gone at least, and at most three times as long;
	// default 3 s.
	Away time.Duration
	// EndEarly ends the run with the first violation.
	EndEarly bool
}

func (c Config) withDefaults() Config {
	c.Volumes = cmp.Or(c.Volumes, 8)
	c.Drivers = cmp.Or(c.Drivers, 3)
	c.Pace = cmp.Or(c.Pace, 40*time.Millisecond)
	c.Away = cmp.Or(c.Away, 3*time.Second)
	c.Settle = cmp.Or(c.Settle, 90*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// The waits of a run: short, so that many end within it, and longer than
// etcd's smallest lease.
const (
	grace         = 3 * time.Second
	quarantine    = 2 * time.Second
	attachmentTTL = 9 * time.Second
	window        = 3 * time.Second
	retention     = time.Hour
	electionTTL   = 2 * time.Second
	staleAfter    = 15 * time.Second
	requestWithin = 2 * time.Second
)

// The clusters of a run, and the nodes of each. The last node of each is taken
// away for good when the faults are over.
var clusterNames = []string{"a", "b"}

const nodesEach = 4

func nodeName(cluster string, i int) string { return fmt.Sprintf("%s-%d", cluster, i) }

func uidOf(cluster string) string { return "uid-of-" + cluster }

// parked volumes are attached and never detached: they stay until their node is
// away for long enough, so that there are orphans.
const parked = 12

func parkedName(i int) string { return fmt.Sprintf("parked-%d", i) }

func volumeName(i int) string { return fmt.Sprintf("vol-%d", i) }

// The user of all clients, whom etcd minds while its authentication is on.
const user, password = "holdfast", "fast-hold"

func ledgerConfig(endpoints []string, by string, log *slog.Logger) state.Config {
	return state.Config{
		Endpoints: endpoints, Username: user, Password: password, By: by, Logger: log,
		GracePeriod: grace, Quarantine: quarantine, AttachmentTTL: attachmentTTL, MigrationWindow: window,
		JournalRetention: retention, ElectionTTL: electionTTL, RequestTimeout: requestWithin,
		DialTimeout: 5 * time.Second,
	}
}
