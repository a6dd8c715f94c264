// Package model checks the recorded calls of clients against what Holdfast
// promises of one volume: that some order of the calls, each at one moment
// between its begin and its end, explains every answer. porcupine looks for the
// order, volume by volume.
//
// # What an order is made of
//
// Every answered call that says something of the volume is one step, at the
// transaction that decided its answer. Most answers tell etcd's revision of
// that moment (a new hold's token, a detachment's ModRevision, the revision of a
// read or of a conflict), and revisions never go back along an order. That makes
// the check sharper than the calls' times alone, and the search short.
//
// # Calls whose outcome is unknown
//
// They are no steps: with k of them open, a search would try each subset at each
// moment. Instead, what was seen and is explained by no answered call needs one
// of them as its cause (unseen.go):
//
//   - A hold that was seen, and may have been made by a call that was not
//     answered, comes into being by a step of its own, at its token's revision,
//     between the earliest begin of the calls that may have made it and the end
//     of the first that saw it. It must be free to at that moment, as for any
//     attach. A call makes no more holds than it was sent.
//   - A hold that an answer says is gone ended unseen, if some call with an
//     unknown outcome may have ended exactly it; likewise a detachment that
//     nobody was told of was left by one.
//
// A late request is fenced, and the check holds it to that: a detach without a
// token ends nothing that was made after its answer, and an attach makes nothing
// while the detachment stands that its own node left after the answer
// (docs/adr/0004 and 0006).
//
// # Why it raises no false alarm
//
// Take what really happened, in the order of etcd's revisions, and the real
// state after each step. The model's volume always has all that is certain: each
// hold that was seen and of which no answered step says that it is gone. It may
// have more than the real one, since an unseen end is found only when an answer
// needs it, and then the call that really ended the hold is among those that
// may have; it lacks only holds that no answer ever shows. So each real step is
// possible in the model too, and the real order is one that the search accepts.
// For the rest:
//
//   - Times. A call's end is the latest moment at which it took place. A record
//     under a lease stands at least until its call's begin and its length: the
//     lease is granted, or was lately, for more than that. Whether one that is
//     past that moment is gone is for the answers to say; that it is there longer
//     is never wrong.
//   - Sends. One call may be sent several times, and each may arrive late. Its
//     caller hears of one. A call that took longer than the shortest backoff
//     counts as one that may still arrive, whatever it was told.
//   - Standing. An attachment may lapse at any time from its call's begin and
//     Op.Session on, or ever where that is 0. It is there or not as a read says.
//   - Controllers. What they remove is a call of nobody. It is recorded as Away:
//     a time in which a node's holds may end.
//   - Cuts. A restored etcd has an older state, and its revisions come again. The
//     history before and after is checked by itself; nothing is held against an
//     answer until the first whole read after the cut; and a call from before
//     that may still be carried out is unknown, and its revision fences nothing.
//
// What is left out: whether a refusal names the right reason beyond what the
// holds and detachments tell, and a grace's effect on a hold that nobody saw.
package model
