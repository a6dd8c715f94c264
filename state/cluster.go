package state

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// Identity is who a process is: the cluster whose controllers it belongs to.
type Identity struct {
	// Name is an RFC 1123 label.
	Name string
	// UID is that of the cluster's kube-system namespace, or what stands for
	// it. Empty: whatever is on record, as an operator's command takes it.
	UID string
}

// Cluster is the ledger opened as one cluster. What it writes is compared with
// the identity that it was opened with. It is safe for concurrent use.
type Cluster struct {
	ledger   *Ledger
	name     string
	uid      string
	sessions *sessionPool

	modRevision atomic.Int64
	refusal     atomic.Pointer[MismatchError]
}

// Cluster opens the ledger as a cluster. An identity that is seen for the first
// time goes on record. ErrClusterMismatch if the name is another cluster's;
// ErrNotFound if the UID is empty and none is on record.
func (l *Ledger) Cluster(ctx context.Context, id Identity) (*Cluster, error) {
	if err := ValidateCluster(id.Name); err != nil {
		return nil, err
	}
	if err := validateText("cluster UID", id.UID); err != nil {
		return nil, err
	}
	rec, err := l.clusterRecord(ctx, id.Name)
	if errors.Is(err, ErrNotFound) && id.UID != "" {
		if err = l.writable(); err == nil {
			rec, err = l.register(ctx, id)
		}
	}
	if err != nil {
		return nil, err
	}
	if id.UID == "" {
		id.UID = rec.UID
	}
	c := &Cluster{ledger: l, name: id.Name, uid: id.UID, sessions: &sessionPool{pool{ledger: l}}}
	l.metrics.opened(id.Name)
	l.acts(id.Name)
	return c, c.accept(rec)
}

func (l *Ledger) register(ctx context.Context, id Identity) (ClusterRecord, error) {
	value := encode(clusterValue{UID: id.UID, Since: now(), By: l.cfg.By})
	err := l.putOnce(ctx, l.keys.cluster(id.Name), value)
	if err != nil {
		return ClusterRecord{}, fmt.Errorf("putting cluster %q on record: %w", id.Name, err)
	}
	return l.clusterRecord(ctx, id.Name)
}

func (l *Ledger) clusterRecord(ctx context.Context, name string) (ClusterRecord, error) {
	resp, err := l.read(ctx, clientv3.OpGet(l.keys.cluster(name)))
	if err != nil {
		return ClusterRecord{}, err
	}
	kvs := resp.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return ClusterRecord{}, fmt.Errorf("%w: no cluster %q on record; its controller's first start puts it there", ErrNotFound, name)
	}
	rec := toCluster(key{kind: kindCluster, cluster: name}, kvs[0])
	return rec, rec.Broken
}

// Name is the cluster's.
func (c *Cluster) Name() string { return c.name }

// UID is the identity that the cluster was opened with.
func (c *Cluster) UID() string { return c.uid }

// Ledger is the one that the cluster was opened from.
func (c *Cluster) Ledger() *Ledger { return c.ledger }

// CheckIdentity reads the cluster's record and fails with ErrClusterMismatch
// once it is another's, for good. A keeper asks before it keeps leases alive,
// which no transaction guards.
func (c *Cluster) CheckIdentity(ctx context.Context) error {
	rec, err := c.ledger.clusterRecord(ctx, c.name)
	if err != nil {
		return err
	}
	return c.accept(rec)
}

func (c *Cluster) accept(rec ClusterRecord) error {
	if rec.UID != c.uid {
		c.refusal.Store(&MismatchError{Cluster: c.name, Recorded: rec.UID, Given: c.uid})
	} else {
		c.modRevision.Store(rec.ModRevision)
	}
	return c.mismatch()
}

// learn takes in the record that a failed guard has read.
func (c *Cluster) learn(kvs []*mvccpb.KeyValue) {
	rec := ClusterRecord{}
	if len(kvs) == 1 {
		rec = toCluster(key{kind: kindCluster, cluster: c.name}, kvs[0])
	}
	_ = c.accept(rec) // mismatch tells
}

// mismatch is not nil once the cluster's name was found to be another's. A
// process whose identity was lost stays refused: it may have missed anything.
func (c *Cluster) mismatch() error {
	if e := c.refusal.Load(); e != nil {
		return e
	}
	return nil
}

func (c *Cluster) compare() *pb.Compare {
	return unchanged(c.ledger.keys.cluster(c.name), c.modRevision.Load())
}

// guard is what every request of the cluster compares; ledger says whether a
// freeze stops it.
func (c *Cluster) guard(ledger bool) guard { return guard{cluster: c, ledger: ledger} }

// now is the time that goes into records: informational, never decisive.
func now() time.Time { return failpoint.Now().UTC().Truncate(time.Millisecond) }
