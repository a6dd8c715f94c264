package state

import (
	"context"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// groupOrphans bounds the orphans that end in one transaction. Each takes four
// operations beside the journal's, and etcd allows 128 at all depths together, of
// which the guard needs up to 8 (see fits).
const groupOrphans = 28

// mostOperations is etcd's max-txn-ops, unless it is told otherwise.
const mostOperations = 128

// group is orphans of one node that were judged by the same, as places in a list.
// They end together or not at all, and leave one journal entry.
type group []int

// grouped makes groups of orphans.
func grouped(orphans []Orphan) []group {
	for most := groupOrphans; ; most-- {
		if groups := groupedBy(orphans, most); most == 1 || fits(groups) {
			return groups
		}
	}
}

func groupedBy(orphans []Orphan, most int) []group {
	type judgement struct {
		node     string
		reason   DepartureReason
		evidence Evidence
	}
	var groups []group
	open := map[judgement]int{}
	for i, o := range orphans {
		by := judgement{o.Attachment.Node, o.Departure.Reason, o.shared()}
		at, is := open[by]
		if !is || len(groups[at]) == most {
			at = len(groups)
			open[by], groups = at, append(groups, nil)
		}
		groups[at] = append(groups[at], i)
	}
	return groups
}

// fits: etcd takes a request with these groups. It counts the operations, or the
// compares, of each depth, and bounds their sum.
func fits(groups []group) bool {
	const guard = 8
	largest := 0
	for _, g := range groups {
		largest = max(largest, len(g))
	}
	return max(guard, len(groups))+4*largest+2 <= mostOperations
}

// shared is the evidence that an orphan may have in common with others of its node.
func (o Orphan) shared() Evidence {
	e := o.Evidence
	e.AttachmentRevision, e.DepartureRevision, e.NodeUID = 0, o.Departure.ModRevision, o.Attachment.NodeUID
	return e
}

// removing is a Remove under way.
type removing struct {
	lead    *Leadership
	orphans []Orphan
	results []EndResult
	// answered: some of the results are etcd's.
	answered bool
}

// send ends groups, in one request unless their names are too long for that, and
// returns the members of those that were refused, one a group. One that was by
// itself is told why instead. An error is also that of each member it is about.
func (r *removing) send(ctx context.Context, groups []group) (refused []group, err error) {
	ops, err := r.operations(ctx, groups)
	for len(ops) > 0 && err == nil {
		n := fitting(ops)
		var resp *pb.TxnResponse
		if resp, err = r.lead.commit(ctx, ops[:n]); err == nil {
			refused = append(refused, r.take(groups[:n], resp)...)
			groups, ops = groups[n:], ops[n:]
		}
	}
	if err != nil {
		r.fail(groups, err)
	}
	return refused, err
}

// mostBytes bounds what a request takes together, and leaves room for its guard:
// etcd refuses one of more than 1.5 MiB.
const mostBytes = 1 << 20

// fitting is how many of these operations a request takes: one at least.
func fitting(ops []*pb.RequestOp) int {
	size := 0
	for i, op := range ops {
		if size += proto.Size(op); size > mostBytes && i > 0 {
			return i
		}
	}
	return len(ops)
}

// take reads a request's answer, and returns the members of refused groups.
func (r *removing) take(groups []group, resp *pb.TxnResponse) (refused []group) {
	r.answered = true
	for i, g := range groups {
		answer := resp.Responses[i].GetResponseTxn()
		for _, at := range g {
			switch result := &r.results[at]; {
			case answer.Succeeded:
				result.Ended = true
			case len(g) == 1:
				result.Refused = refusal(r.orphans[at], answer.Responses)
			default:
				refused = append(refused, group{at})
			}
		}
	}
	return refused
}

func (r *removing) fail(groups []group, err error) {
	for _, g := range groups {
		for _, at := range g {
			r.results[at].Err = err
		}
	}
}

// operations builds a nested transaction for each group.
func (r *removing) operations(ctx context.Context, groups []group) ([]*pb.RequestOp, error) {
	l, at, members := r.lead.c.ledger, now(), 0
	for _, g := range groups {
		members += len(g)
	}
	graces, err := l.waits.takeMany(ctx, l.cfg.GracePeriod, removalDoublings, members)
	if err != nil {
		return nil, err
	}
	ops := make([]*pb.RequestOp, len(groups))
	for i, g := range groups {
		journal, err := l.retain(ctx)
		if err != nil {
			return nil, err
		}
		ops[i] = r.transaction(g, at, graces[:len(g)], journal)
		graces = graces[len(g):]
	}
	return ops, nil
}

func (r *removing) transaction(g group, at time.Time, graces []slot, journal slot) *pb.RequestOp {
	l, c, k := r.lead.c.ledger, r.lead.c.name, r.lead.c.ledger.keys
	first := r.orphans[g[0]]
	n, reason := first.Attachment.Node, first.Departure.Reason
	ifs := append(make([]*pb.Compare, 0, 4*len(g)+2), absent(k.quarantine(c, n)))
	if !failpoint.Planted(failpoint.DropDepartureCompare) {
		ifs = append(ifs, unchanged(k.departure(c, n), first.Departure.ModRevision))
	}
	thens := make([]*pb.RequestOp, 0, 4*len(g)+1)
	for i, member := range g {
		a := r.orphans[member].Attachment
		h := Hold{Volume: a.Volume, Cluster: c, Node: n, Mode: a.Mode}
		d := Detachment{
			Volume: a.Volume, Cluster: c, Node: n, Mode: a.Mode, Token: a.Token, At: at,
			Grace: l.cfg.GracePeriod, Reason: "removed: " + string(reason), By: l.cfg.By,
		}
		ifs = append(ifs,
			unchanged(k.attachment(c, n, a.Volume), a.ModRevision),
			created(k.hold(a.Volume, a.Mode, c, n), a.Token.Revision()))
		ends := l.endOps(h, d, graces[i])
		if len(g) > 1 {
			// Nobody's, in either mode, and no migration to end: for etcd two compares
			// are less than three and a delete. Another node's vetoes no more than the group.
			ifs = append(ifs, emptyRange(k.under(kindDetachment, a.Volume)), absent(k.migration(a.Volume)))
			ends = slices.Delete(ends, endsMigration, endsMigration+1)
		} else {
			ifs = append(ifs, absent(k.detachment(a.Volume, Exclusive, c, n)), absent(k.detachment(a.Volume, Shared, c, n)))
		}
		thens = append(thens, ends...)
	}
	thens = append(thens, l.journalPut(c, newID(), r.entry(g, at), journal))
	return opNested(&pb.TxnRequest{Compare: ifs, Success: thens, Failure: r.reads(g)})
}

// entry is the journal's, of all members.
func (r *removing) entry(g group, at time.Time) entryValue {
	first := r.orphans[g[0]]
	evidence := first.shared()
	evidence.LeaderRevision = r.lead.revision
	e := entryValue{
		At: at, Action: ActionRemoved, Node: first.Attachment.Node,
		Reason: string(first.Departure.Reason), By: r.lead.c.ledger.cfg.By, Evidence: &evidence,
	}
	if len(g) == 1 {
		e.Volume, e.Mode, e.Token = first.Attachment.Volume, first.Attachment.Mode, first.Attachment.Token
		evidence.AttachmentRevision = first.Attachment.ModRevision
		return e
	}
	e.Orphans = make([]orphanValue, len(g))
	for i, member := range g {
		a := r.orphans[member].Attachment
		e.Orphans[i] = orphanValue{Volume: a.Volume, Mode: a.Mode, Token: a.Token, AttachmentRevision: a.ModRevision}
	}
	return e
}

// reads is what refusal goes by. A group reads nothing: its members go singly next.
func (r *removing) reads(g group) []*pb.RequestOp {
	if len(g) > 1 {
		return nil
	}
	k, c, a := r.lead.c.ledger.keys, r.lead.c.name, r.orphans[g[0]].Attachment
	return []*pb.RequestOp{
		opGetKey(k.attachment(c, a.Node, a.Volume)),
		opGetKey(k.hold(a.Volume, a.Mode, c, a.Node)),
		opGetKey(k.detachment(a.Volume, Exclusive, c, a.Node)),
		opGetKey(k.detachment(a.Volume, Shared, c, a.Node)),
		opGetKey(k.departure(c, a.Node)),
	}
}

// refusal says which of a removal's compares failed, by the records read in
// its place.
func refusal(o Orphan, reads []*pb.ResponseOp) string {
	mod := func(i int) int64 {
		for _, kv := range reads[i].GetResponseRange().Kvs {
			return kv.ModRevision
		}
		return 0
	}
	var holdCreated int64
	for _, kv := range reads[1].GetResponseRange().Kvs {
		holdCreated = kv.CreateRevision
	}
	switch {
	case mod(0) != o.Attachment.ModRevision:
		return RefusedAttachment
	case holdCreated != o.Attachment.Token.Revision():
		return RefusedHold
	case mod(2) != 0 || mod(3) != 0:
		return RefusedGrace
	case mod(4) != o.Departure.ModRevision:
		return RefusedDeparture
	}
	return RefusedQuarantine
}
