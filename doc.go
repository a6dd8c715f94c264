// Package holdfast is the root of Holdfast, the ledger of which node of which
// cluster holds which storage volume. It has no code of its own: this comment
// tells the whole system, and the packages below it are the system.
//
// # The one rule
//
// Transactions move facts. Leases end statements. Nothing that expires ever
// frees a volume.
//
// A fact is "this node may write to this volume". It is a key without a lease,
// and it moves only in an etcd transaction whose compares name everything that
// the move relies on. A statement is anything that should end by itself, with
// every process of ours dead: a cluster still stands by its hold; a volume was
// detached a moment ago and is being handed over; a missing node is being
// waited for; a migration is under way. It is a key under a lease, and the wait
// is over when etcd deletes the key, not when a clock of ours says so. A lease
// may end late and never early, so each is chosen such that late is safe.
//
// From this follows what happens when things break. All controllers die: the
// attachments lapse, and every volume stays held. The API server answers with
// errors: an unknown node counts as present. etcd loses its quorum: nothing
// expires. Somebody deletes all Node objects: the brake stops removals.
//
// # The path of a volume
//
// A storage controller calls [github.com/holdfast-storage/holdfast/state.Cluster.Attach].
// One transaction checks that nobody else holds the volume and that no other
// cluster's grace period runs, and puts two keys: the hold, which lasts, and
// the attachment, under a lease that the cluster's controllers keep alive. The
// hold's token, which only ever grows, fences the storage against a writer
// that was given up on.
//
// Detach deletes both and leaves a detachment under a lease of the grace
// period's length. While it stands, the cluster that detached may attach the
// volume again at once and every other waits. A migration holds both sides in
// a window that ends by itself.
//
// A node may leave without a detach. The watcher joins the attachments with
// the cluster's Node list; the reconciler judges what no node stands behind,
// records the departure, waits out its quarantine, asks the fencer, asks the
// API server once more past every cache, and then removes hold and attachment
// in a transaction that fails if anything moved since the judgement.
//
// # The packages
//
//   - state: records, keys, leases, transactions. The only importer of etcd.
//     Below it state/embedded, an etcd in the process, and state/statetest, a
//     real etcd for tests.
//   - watch: the two sources, etcd and the Node list, and the index that joins
//     them. The only user of informers.
//   - reconcile: the plan (pure), the reconciler that proves and acts, the
//     keeper of leases, the brake, the fencer.
//   - cmd/holdfast: the controller and the command line.
//
// Imports run one way: state, watch, reconcile, cmd. The tests beside this file
// hold that, and the rest of the house rules.
//
// docs/design.md is the whole design, docs/adr the decisions, CONTRIBUTING.md
// says which file to change.
package holdfast
