// Package chaos breaks Holdfast's world by a seed, and proves that the ledger
// was never wrong.
//
// A run has an etcd of three members as processes behind proxies (package
// cluster), two clusters with two controllers each, built with the race
// detector and held, stopped and killed at named points of a removal (package
// failpoint), storage drivers that make calls, and an operator. A schedule of
// faults, all of which follows from the seed, is played to them; then everything
// is healed, each cluster loses a node for good, and all waits have to end.
//
// Two judges look at it, and neither knows how Holdfast works. Package history
// watches etcd's own revisions from the first to the last, and holds each to
// invariants. Package model takes what the drivers were told, and looks for an
// order in which a ledger could have answered so (linearizability, by porcupine).
//
// That the judges can see is shown by planting faults: TestPlanted takes away
// one compare, one wait, one look at a time, and fails if that is not found.
package chaos
