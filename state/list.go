package state

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// pageRecords is the size of a page: large enough to cost little more than one
// range, small enough that no member stalls over it.
const pageRecords = 10_000

// maxAnswerBytes bounds the answer to a request that only reads. A page of what
// Holdfast writes is a few megabytes; of what another cluster can put under the
// kinds that are shared it would be 15 GB.
const maxAnswerBytes = 64 << 20

// bounded keeps requests that only read to answers of maxAnswerBytes. One that
// writes is left alone: that its answer was not taken would not say whether it
// was carried out.
//
//nolint:revive // the arguments are gRPC's
func bounded(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if txn, is := req.(*pb.TxnRequest); is && onlyReads(txn) {
		opts = append(opts, grpc.MaxCallRecvMsgSize(maxAnswerBytes))
	}
	return invoke(ctx, method, req, reply, conn, opts...)
}

func onlyReads(txn *pb.TxnRequest) bool {
	for _, op := range slices.Concat(txn.Success, txn.Failure) {
		if op.GetRequestRange() == nil {
			return false
		}
	}
	return true
}

// tooMuch says whether an answer was larger than maxAnswerBytes.
func tooMuch(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max")
}

// page is one page of a list. All pages of a list are of one revision.
type page struct {
	kvs      []*mvccpb.KeyValue
	revision int64
}

// pages lists [begin, end) in pages at one revision: at, or the present one if
// at is 0. It yields at least one page, so that an empty list has a revision
// too. What the first page leaves is streamed where etcd can. A list that is
// compacted away under way ends with an error.
func (l *Ledger) pages(ctx context.Context, begin, end string, at int64, opts ...clientv3.OpOption) iter.Seq2[page, error] {
	return func(yield func(page, error) bool) {
		limit, streams := int64(pageRecords), true
		for from, revision := begin, at; ; {
			all := append([]clientv3.OpOption{
				clientv3.WithRange(end), clientv3.WithRev(revision), clientv3.WithLimit(limit),
			}, opts...)
			resp, err := l.read(ctx, clientv3.OpGet(from, all...))
			if tooMuch(err) && limit > 1 {
				limit = max(limit/10, 1)
				continue
			}
			if err != nil {
				yield(page{}, err)
				return
			}
			got := resp.Responses[0].GetResponseRange()
			if revision == 0 {
				revision = resp.Header.Revision
			}
			if !yield(page{kvs: got.Kvs, revision: revision}, nil) || !got.More {
				return
			}
			from = after(string(got.Kvs[len(got.Kvs)-1].Key))
			if !streams {
				continue
			}
			rest := l.streamed(ctx, from, end, revision, opts, yield)
			if rest == "" {
				return
			}
			from, streams = rest, rest != from // one that gave nothing will not the next time
		}
	}
}

// after is the smallest key behind k.
func after(k string) string { return k + "\x00" }

// records turns a list of pages into one of records. A key that is not ours is passed over.
func records[T any](k keys, pages iter.Seq2[page, error], decode func(key, *mvccpb.KeyValue) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for p, err := range pages {
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, kv := range p.kvs {
				parsed, ok := k.parse(string(kv.Key))
				if ok && !yield(decode(parsed, kv), nil) {
					return
				}
			}
		}
	}
}

// list is the records of a kind below the given parts.
func list[T any](ctx context.Context, l *Ledger, decode func(key, *mvccpb.KeyValue) T, kd kind, parts ...string) iter.Seq2[T, error] {
	begin, end := l.keys.under(kd, parts...)
	return records(l.keys, l.pages(ctx, begin, end, 0), decode)
}

// below leaves out the empty parts at the end: an empty part means all.
func below(parts ...string) []string {
	for i, p := range parts {
		if p == "" {
			return parts[:i]
		}
	}
	return parts
}

// The lists below are paged at one revision, so that their memory is bounded
// and what they yield was true at one moment. An error ends them.

// Attachments lists the attachments of a cluster, or of one node of it.
func (l *Ledger) Attachments(ctx context.Context, cluster, node string) iter.Seq2[Attachment, error] {
	return list(ctx, l, toAttachment, kindAttachment, below(cluster, node)...)
}

// Detachments lists the detachments of a volume, or all if it is empty.
func (l *Ledger) Detachments(ctx context.Context, volume string) iter.Seq2[Detachment, error] {
	return list(ctx, l, toDetachment, kindDetachment, below(volume)...)
}

// Migrations lists the open windows.
func (l *Ledger) Migrations(ctx context.Context) iter.Seq2[Migration, error] {
	return list(ctx, l, toMigration, kindMigration)
}

// Departures lists the departures of a cluster.
func (l *Ledger) Departures(ctx context.Context, cluster string) iter.Seq2[Departure, error] {
	return list(ctx, l, toDeparture, kindDeparture, below(cluster)...)
}

// Quarantines lists the quarantines of a cluster.
func (l *Ledger) Quarantines(ctx context.Context, cluster string) iter.Seq2[Quarantine, error] {
	return list(ctx, l, toQuarantine, kindQuarantine, below(cluster)...)
}

// Pauses lists the pauses of all clusters.
func (l *Ledger) Pauses(ctx context.Context) iter.Seq2[Pause, error] {
	return list(ctx, l, toPause, kindPause)
}

// Clusters lists the clusters on record.
func (l *Ledger) Clusters(ctx context.Context) iter.Seq2[ClusterRecord, error] {
	return list(ctx, l, toCluster, kindCluster)
}

// Freezes lists what those who noticed a restored or replaced etcd have put.
func (l *Ledger) Freezes(ctx context.Context) iter.Seq2[RestoreFreeze, error] {
	return list(ctx, l, toFreeze, kindFreeze)
}

// Journal lists the entries since a time, oldest first within each cluster: of
// one cluster, or of all and of the ledger itself if it is empty. Orphans that
// ended together have an entry each, of the same ID.
func (l *Ledger) Journal(ctx context.Context, cluster string, since time.Time) iter.Seq2[Entry, error] {
	begin, end := l.keys.under(kindJournal, below(cluster)...)
	if cluster != "" && !since.IsZero() {
		begin = l.keys.journal(cluster, firstID(since))
	}
	together := records(l.keys, l.pages(ctx, begin, end, 0), toEntries)
	return func(yield func(Entry, error) bool) {
		for entries, err := range together {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, e := range entries {
				if (e.Broken != nil || !e.At.Before(since)) && !yield(e, nil) {
					return
				}
			}
		}
	}
}

// firstID is the smallest UUIDv7 of a time: its first 48 bits are milliseconds.
func firstID(t time.Time) string {
	ms := uint64(max(t.UnixMilli(), 0))
	var id uuid.UUID
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = 7 << 4
	return id.String()
}

// HoldFilter says which holds to list. Empty fields match all.
type HoldFilter struct{ Cluster, Node string }

func (f HoldFilter) match(k key) bool {
	return (f.Cluster == "" || f.Cluster == k.cluster) && (f.Node == "" || f.Node == k.node)
}

// Holds lists the holds that match, with Lapsed filled in as of the list's own
// revision. It walks all holds of the ledger, whatever the filter: holds are
// ordered by volume.
func (l *Ledger) Holds(ctx context.Context, f HoldFilter) iter.Seq2[Hold, error] {
	return func(yield func(Hold, error) bool) {
		begin, end := l.keys.under(kindHold)
		for p, err := range l.pages(ctx, begin, end, 0) {
			if err != nil {
				yield(Hold{}, err)
				return
			}
			var found []Hold
			for _, kv := range p.kvs {
				if k, ok := l.keys.parse(string(kv.Key)); ok && f.match(k) {
					found = append(found, toHold(k, kv))
				}
			}
			if _, err := l.standing(ctx, found, p.revision); err != nil {
				yield(Hold{}, err)
				return
			}
			for _, h := range found {
				if !yield(h, nil) {
					return
				}
			}
		}
	}
}

// HoldKeys walks the keys of all holds and yields those of a cluster, or all if
// it is empty, ordered by volume and then mode, without their values: names, mode
// and Revision only. It is how a cluster that starts finds the holds that lapsed
// while it was away.
func (l *Ledger) HoldKeys(ctx context.Context, cluster string) iter.Seq2[Hold, error] {
	f := HoldFilter{Cluster: cluster}
	return func(yield func(Hold, error) bool) {
		begin, end := l.keys.under(kindHold)
		for p, err := range l.pages(ctx, begin, end, 0, clientv3.WithKeysOnly()) {
			if err != nil {
				yield(Hold{}, err)
				return
			}
			for _, kv := range p.kvs {
				k, ok := l.keys.parse(string(kv.Key))
				if !ok || !f.match(k) {
					continue
				}
				h := Hold{Volume: k.volume, Cluster: k.cluster, Node: k.node, Mode: k.mode, Revision: kv.CreateRevision}
				if !yield(h, nil) {
					return
				}
			}
		}
	}
}
