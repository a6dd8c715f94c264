// Package failpoint marks the places where a test breaks Holdfast on purpose:
// faults that are planted to see that the checks find them, points at which a
// process is killed or held, and a wall clock that is wrong.
//
// It does so only in a program built with the tag "failpoints". Without the tag
// everything here is a constant that the compiler drops, so that what ships has
// no switch to break it by.
package failpoint

// Fault is one that can be planted.
type Fault string

// The faults. Each takes away one thing that the ledger's safety rests on.
const (
	// DropLeaderCompare: a removal no longer compares that its sender leads.
	DropLeaderCompare Fault = "drop-leader-compare"
	// DropHoldCompare: an attach no longer compares that nobody holds the volume.
	DropHoldCompare Fault = "drop-hold-compare"
	// DropR: what is sent late or again touches what came after its call.
	DropR Fault = "drop-r"
	// DropDepartureCompare: a removal no longer compares the node's departure.
	DropDepartureCompare Fault = "drop-departure-compare"
	// DropGraceCompare: an attach does not mind another cluster's grace.
	DropGraceCompare Fault = "drop-grace-compare"
	// DropTokenCompare: a detach ends whatever hold it finds.
	DropTokenCompare Fault = "drop-token-compare"
	// ShareVolume: two operations about one volume may share a request.
	ShareVolume Fault = "two-of-one-volume"
	// SilentReattach: an attach that finds its own hold writes nothing.
	SilentReattach Fault = "idempotent-attach-writes-nothing"
	// TrustEmptyNodes: an empty Node list does not brake.
	TrustEmptyNodes Fault = "trust-empty-node-list"
	// LeasePastPeriod: a wait's lease is handed out for as long as it has room.
	LeasePastPeriod Fault = "lease-past-its-period"
	// UnknownAsFailed: what was sent and not answered is told as not carried out.
	UnknownAsFailed Fault = "unknown-as-failed"
	// SkipRelist: a watch that was compacted goes on without a list.
	SkipRelist Fault = "skip-relist"
	// IgnoreFreeze: what a freeze stops goes on.
	IgnoreFreeze Fault = "ignore-freeze"
)

// Faults are all of them.
var Faults = []Fault{
	DropLeaderCompare, DropHoldCompare, DropR, DropDepartureCompare, DropGraceCompare, DropTokenCompare,
	ShareVolume, SilentReattach, TrustEmptyNodes, LeasePastPeriod, UnknownAsFailed, SkipRelist, IgnoreFreeze,
}

// Point is a place in the removal of orphans where a process can be held.
type Point string

// The points, in the order in which a removal passes them.
const (
	BeforeDepart    Point = "before-depart"
	Judged          Point = "judged"
	BeforeLiveCheck Point = "before-live-check"
	BeforeRemove    Point = "before-remove"
	// Sending is past every look at the process's own state: what stops a
	// removal from here on is the request's deadline and etcd's compares.
	Sending Point = "sending"
	Removed Point = "removed"
)

// Points are all of them.
var Points = []Point{BeforeDepart, Judged, BeforeLiveCheck, BeforeRemove, Sending, Removed}

// The environment of a program built with the tag.
const (
	// PlantedVar lists the faults that are planted, separated by commas.
	PlantedVar = "HOLDFAST_PLANTED"
	// ControlVar is a unix socket that is asked at every point. The process
	// writes the point's name and a newline, and goes on when it reads a line or
	// the other side closes.
	ControlVar = "HOLDFAST_FAILPOINTS"
	// ClockVar is what the wall clock is wrong by, such as "-3h".
	ClockVar = "HOLDFAST_CLOCK_OFFSET"
)
