package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state"
)

// populating is how many callers attach what a workload begins with.
const populating = 256

// populate attaches so many volumes to each node of a cluster.
func populate(ctx context.Context, cluster *state.Cluster, nodes []string, each int) error {
	m := Loop(ctx, populating, time.Hour, each*len(nodes), func(ctx context.Context, _, i int) error {
		_, err := cluster.Attach(ctx, state.AttachRequest{Volume: volumeName(i), Node: nodes[i%len(nodes)]})
		return err
	})
	return errors.Join(failures(m), ctx.Err())
}

// volumeName is a handle of 40 bytes.
func volumeName(i int) string { return fmt.Sprintf("volume-%033d", i) }

func nodeNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = nodeName(i)
	}
	return names
}

func nodeName(i int) string { return fmt.Sprintf("holdfast-bench-%05d", i) }

// gone tells when the watch of a ledger has seen so many attachments deleted, of
// a node or of all if it is empty. The watch begins with the call, and it has to
// be told to end.
func gone(ctx context.Context, client *clientv3.Client, ledger *state.Ledger, node string, count int) (at <-chan time.Time, end func(), err error) {
	prefix := attachmentsOf(ledger)
	if node != "" {
		prefix += ClusterName + "/" + node + "/"
	}
	now, err := client.Get(ctx, prefix, clientv3.WithCountOnly(), clientv3.WithPrefix())
	if err != nil {
		return nil, nil, err
	}
	ctx, end = context.WithCancel(ctx)
	changes := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(now.Header.Revision+1), clientv3.WithFilterPut())
	seen := make(chan time.Time, 1)
	go func() {
		defer close(seen)
		for c := range changes {
			if count -= len(c.Events); count <= 0 {
				seen <- time.Now()
				return
			}
		}
	}()
	return seen, end, nil
}

func attachmentsOf(l *state.Ledger) string { return l.Config().Prefix + "v1/attachments/" }
func holdsOf(l *state.Ledger) string       { return l.Config().Prefix + "v1/holds/" }

// pair is the two keys of an attached volume, as a plain client has them.
type pair struct {
	node, hold, attachment string
	revision               int64
}

// pairs lists what is attached.
func pairs(ctx context.Context, client *clientv3.Client, l *state.Ledger) ([]pair, error) {
	holds := map[string]string{}
	err := eachKey(ctx, client, holdsOf(l), func(key string, _ int64) {
		volume, _, _ := strings.Cut(strings.TrimPrefix(key, holdsOf(l)), "/")
		holds[volume] = key
	})
	if err != nil {
		return nil, err
	}
	var all []pair
	err = eachKey(ctx, client, attachmentsOf(l), func(key string, revision int64) {
		parts := strings.Split(strings.TrimPrefix(key, attachmentsOf(l)), "/")
		all = append(all, pair{node: parts[1], hold: holds[parts[2]], attachment: key, revision: revision})
	})
	return all, err
}

// eachKey walks the keys below a prefix, with the revision of each, in pages.
func eachKey(ctx context.Context, client *clientv3.Client, prefix string, visit func(key string, revision int64)) error {
	end := clientv3.GetPrefixRangeEnd(prefix)
	for from := prefix; ; {
		page, err := client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(wipePage))
		if err != nil {
			return err
		}
		for _, kv := range page.Kvs {
			visit(string(kv.Key), kv.ModRevision)
		}
		if !page.More {
			return nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}
