package bench

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state"
)

// plain is a peer: what somebody could do with a plain etcd client, with records of
// the size that a ledger has, under keys of the same length.
type plain struct {
	client *clientv3.Client
	root   string
	shared clientv3.LeaseID // of all attachments
	names  atomic.Int64
}

// A record as a hold's, and as a detachment's.
const (
	plainHold       = `{"epoch":0,"since":"2026-01-02T15:04:05.678Z","by":"holdfast-bench-controller"}`
	plainDetachment = `{"at":"2026-01-02T15:04:05.678Z","graceMs":30000,"reason":"detached","by":"holdfast-bench-controller"}`
)

// plainLease outlives every round, so that no peer's lease ends in another's turn.
const plainLease = time.Hour

func (r *Run) newPlain(ctx context.Context) (*plain, error) {
	client, err := r.NewClient(ctx)
	if err != nil {
		return nil, err
	}
	lease, err := client.Grant(ctx, int64(plainLease/time.Second))
	if err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("granting a lease: %w", err)
	}
	return &plain{client: client, root: path.Join(r.Etcd.Prefix, "plain", "v1"), shared: lease.ID}, nil
}

// beside opens a ledger and a plain client for a comparison of the two, and leaves
// the etcd empty.
func (r *Run) beside(ctx context.Context, name string, compare func(*state.Cluster, *plain) error) error {
	ledger, cluster, err := r.Ledger(ctx, name, nil)
	if err != nil {
		return err
	}
	plain, err := r.newPlain(ctx)
	if err != nil {
		return errors.Join(err, ledger.Close())
	}
	err = errors.Join(compare(cluster, plain), plain.close(), ledger.Close())
	return errors.Join(err, r.empty(ctx))
}

// under is the same client, with records of its own.
func (p *plain) under(name string) *plain {
	return &plain{client: p.client, root: path.Join(path.Dir(p.root), name, "v1"), shared: p.shared}
}

func (p *plain) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, _ = p.client.Revoke(ctx, p.shared) // it would end by itself
	return p.client.Close()
}

// volume is one that no other call has.
func (p *plain) volume() string { return volumeName(int(p.names.Add(1))) }

func (p *plain) hold(volume, node string) string {
	return p.root + "/holds/" + volume + "/x/" + ClusterName + "/" + node
}

func (p *plain) attachment(volume, node string) string {
	return p.root + "/attachments/" + ClusterName + "/" + node + "/" + volume
}

func (p *plain) detachments(volume string) string { return p.root + "/detachments/" + volume + "/x/" }

// put puts one record of a hold's size.
func (p *plain) put(ctx context.Context, caller, _ int) error {
	_, err := p.client.Put(ctx, p.hold(p.volume(), nodeName(caller)), plainHold)
	return err
}

// attach is an attach's transaction, one a call.
func (p *plain) attach(ctx context.Context, caller, _ int) error {
	return p.take(ctx, p.volume(), nodeName(caller))
}

// errTaken: somebody has the volume.
var errTaken = errors.New("the volume is taken")

func (p *plain) take(ctx context.Context, volume, node string) error {
	holds, ended := p.root+"/holds/"+volume+"/", p.detachments(volume)
	own := ended + ClusterName + "/"
	resp, err := p.client.Txn(ctx).If(
		none(holds, clientv3.GetPrefixRangeEnd(holds)),
		none(ended, own), none(clientv3.GetPrefixRangeEnd(own), clientv3.GetPrefixRangeEnd(ended)),
	).Then(
		clientv3.OpPut(p.hold(volume, node), plainHold),
		clientv3.OpPut(p.attachment(volume, node), plainHold, clientv3.WithLease(p.shared)),
	).Commit()
	if err == nil && !resp.Succeeded {
		err = errTaken
	}
	return err
}

func none(begin, end string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(begin), "=", 0).WithRange(end)
}

// errFree: there is nothing to end.
var errFree = errors.New("the volume is not held")

// end is a detach's transaction, its detachment under a lease.
func (p *plain) end(ctx context.Context, volume, node string, lease clientv3.LeaseID) error {
	resp, err := p.client.Txn(ctx).If(
		clientv3.Compare(clientv3.CreateRevision(p.hold(volume, node)), ">", 0),
	).Then(
		clientv3.OpDelete(p.hold(volume, node)),
		clientv3.OpDelete(p.attachment(volume, node)),
		clientv3.OpDelete(p.root+"/migrations/"+volume),
		clientv3.OpPut(p.detachments(volume)+ClusterName+"/"+node, plainDetachment, clientv3.WithLease(lease)),
	).Commit()
	if err == nil && !resp.Succeeded {
		err = errFree
	}
	return err
}
