// Package state keeps the ledger: which node of which cluster holds which
// volume. It is the only package that talks to etcd.
//
// Transactions move facts. Leases end statements. Nothing that expires ever
// frees a volume.
//
// A fact is a hold: it is there until a transaction ends it, and every
// transaction compares all that it relies on. A statement is an attachment
// (the hold's cluster stands by it), a detachment (the volume was just
// detached), a migration's window or a quarantine: it sits under a lease, so
// that etcd ends it with every process of ours gone. No clock of ours decides.
//
// Open a Ledger, open it as a Cluster, and Attach and Detach:
//
//	ledger, err := state.Open(ctx, state.Config{Endpoints: endpoints})
//	cluster, err := ledger.Cluster(ctx, state.Identity{Name: "prod-a", UID: uid})
//	hold, err := cluster.Attach(ctx, state.AttachRequest{Volume: volume, Node: node})
//
// Somebody has to keep the cluster's attachments alive: a controller does, or
// reconcile.Keeper within the caller's own process.
//
// # Requests
//
// Every operation is one etcd transaction, nested with those of other callers
// in one request (writer.go), under what the request compares for all of them
// (guard.go). An operation whose answer does not come is sent again until it
// is known what became of it, for at most half a grace period; then it fails
// with ErrUnknownOutcome, and calling again is safe.
//
// All types are safe for concurrent use, and nothing that a method returns is
// shared with another caller.
package state
