// Package bench measures Holdfast, and beside it what else there is, on one etcd
// in one run.
//
// A Workload is one thing that is measured, in a file of its own. It compares
// Sides, Holdfast and its peers, whose rounds take turns (A B A B), so that what
// the machine does meanwhile falls on all of them alike; a ratio is taken pair by
// pair, and what is told is the median of the pairs. Latency is counted from when
// a call was meant to start, so that waiting in a queue counts; a call that fails
// is counted and no part of the throughput.
//
// Everything that a run writes is below its Target's prefix, which has to be empty
// at the start and is emptied at the end, also after a run that was stopped.
package bench
