// Package watch joins the two sources of a cluster: the ledger's records in
// etcd, and the Node list of Kubernetes or of a file.
//
// Between the two there is no order, so what the join says is evidence, never
// proof: a stale view may delay a removal, and the removal itself compares what
// it relies on. A Watcher keeps the join in an index that an event changes as
// much as the event says, not as much as there is, and puts the names of nodes
// whose evidence changed onto a work queue.
package watch
