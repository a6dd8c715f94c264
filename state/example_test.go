package state_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/embedded"
)

// csiCode is the gRPC code that a CSI controller answers with. The codes are
// those of the CSI specification's ControllerPublishVolume and
// ControllerUnpublishVolume; ABORTED and UNAVAILABLE make the caller try again.
func csiCode(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, state.ErrInvalid):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, state.ErrInGrace), errors.Is(err, state.ErrUnknownOutcome):
		return status.Error(codes.Aborted, err.Error())
	case errors.Is(err, state.ErrConflict):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, state.ErrNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, state.ErrNoSpace):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, state.ErrPermission), errors.Is(err, state.ErrClusterMismatch):
		return status.Error(codes.PermissionDenied, err.Error())
	case errors.Is(err, state.ErrFrozen), errors.Is(err, state.ErrUnavailable):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Internal, err.Error())
}

// controller is the part of a CSI driver that publishes volumes.
type controller struct{ cluster *state.Cluster }

func (c controller) publish(ctx context.Context, volume, node string) error {
	hold, err := c.cluster.Attach(ctx, state.AttachRequest{Volume: volume, Node: node})
	if err != nil {
		return csiCode(err)
	}
	_ = hold.Token // what the storage may fence earlier holders by
	return nil     // now export the volume to the node
}

func (c controller) unpublish(ctx context.Context, volume, node string) error {
	// First withdraw the volume from the node; then say so. An empty node ID
	// means every node in CSI, and is a call of its own here.
	if node == "" {
		_, err := c.cluster.DetachAll(ctx, state.DetachAllRequest{Volume: volume})
		return csiCode(err)
	}
	_, err := c.cluster.Detach(ctx, state.DetachRequest{Volume: volume, Node: node})
	return csiCode(err)
}

// exampleCluster opens a ledger on an etcd in the process, as one cluster.
func exampleCluster(ctx context.Context, name string) (*state.Cluster, func()) {
	dir, err := os.MkdirTemp("", "holdfast-example")
	if err != nil {
		panic(err)
	}
	etcd, err := embedded.Start(ctx, embedded.Config{Dir: dir, ListenClient: "127.0.0.1:0", UnsafeNoFsync: true})
	if err != nil {
		panic(err)
	}
	ledger, err := state.Open(ctx, state.Config{Endpoints: etcd.Endpoints()})
	if err != nil {
		panic(err)
	}
	cluster, err := ledger.Cluster(ctx, state.Identity{Name: name, UID: "0b6d0b3e-kube-system"})
	if err != nil {
		panic(err)
	}
	return cluster, func() {
		_ = ledger.Close()
		_ = etcd.Close()
		_ = os.RemoveAll(dir)
	}
}

// What ControllerPublishVolume and ControllerUnpublishVolume do, and which
// error becomes which code.
func ExampleCluster_Attach() {
	ctx := context.Background()
	cluster, done := exampleCluster(ctx, "prod-a")
	defer done()
	csi := controller{cluster}

	fmt.Println("publish to node-1:", status.Code(csi.publish(ctx, "pvc-1", "node-1")))
	fmt.Println("again:", status.Code(csi.publish(ctx, "pvc-1", "node-1")))
	fmt.Println("to node-2:", status.Code(csi.publish(ctx, "pvc-1", "node-2")))
	fmt.Println("unpublish:", status.Code(csi.unpublish(ctx, "pvc-1", "node-1")))
	fmt.Println("again:", status.Code(csi.unpublish(ctx, "pvc-1", "node-1")))
	fmt.Println("no volume:", status.Code(csi.publish(ctx, "", "node-1")))
	// Output:
	// publish to node-1: OK
	// again: OK
	// to node-2: FailedPrecondition
	// unpublish: OK
	// again: OK
	// no volume: InvalidArgument
}

// A handoff: in the grace period the cluster that detached a volume may attach
// it elsewhere at once, and another cluster waits until it is over or cleared.
func ExampleCluster_Clear() {
	ctx := context.Background()
	a, done := exampleCluster(ctx, "prod-a")
	defer done()
	b, err := a.Ledger().Cluster(ctx, state.Identity{Name: "prod-b", UID: "7c1e-kube-system"})
	if err != nil {
		panic(err)
	}
	if _, err := a.Attach(ctx, state.AttachRequest{Volume: "pvc-1", Node: "node-1"}); err != nil {
		panic(err)
	}
	ended, err := a.Detach(ctx, state.DetachRequest{Volume: "pvc-1", Node: "node-1"})
	if err != nil {
		panic(err)
	}
	_, err = b.Attach(ctx, state.AttachRequest{Volume: "pvc-1", Node: "node-7"})
	fmt.Println("prod-b in the grace period:", errors.Is(err, state.ErrInGrace))

	// The data is flushed and the export withdrawn: the handoff is complete.
	if err := a.Clear(ctx, ended.Detachment); err != nil {
		panic(err)
	}
	hold, err := b.Attach(ctx, state.AttachRequest{Volume: "pvc-1", Node: "node-7"})
	fmt.Println("prod-b after the handoff:", hold.Place(), err)
	// Output:
	// prod-b in the grace period: true
	// prod-b after the handoff: prod-b/node-7 <nil>
}

// A live migration: two exclusive holds in a window, and one at its end.
func ExampleCluster_Migrate() {
	ctx := context.Background()
	cluster, done := exampleCluster(ctx, "prod-a")
	defer done()
	if _, err := cluster.Attach(ctx, state.AttachRequest{Volume: "pvc-1", Node: "node-1"}); err != nil {
		panic(err)
	}
	migration, err := cluster.Migrate(ctx, state.MigrateRequest{
		Volume: "pvc-1", Source: "node-1", Target: state.Place{Node: "node-2"},
	})
	if err != nil {
		panic(err)
	}
	volume, err := cluster.Ledger().Volume(ctx, "pvc-1")
	if err != nil {
		panic(err)
	}
	fmt.Println(volume.State, "with", len(volume.Holds), "holds")

	// The virtual machine runs on node-2 now. Abort would go back to node-1.
	if err := cluster.Commit(ctx, migration); err != nil {
		panic(err)
	}
	if volume, err = cluster.Ledger().Volume(ctx, "pvc-1"); err != nil {
		panic(err)
	}
	fmt.Println(volume.State, "to", volume.Holds[0].Place())
	// Output:
	// migrating with 2 holds
	// attached to prod-a/node-2
}

// A fencing token: a storage that keeps the greatest token it has seen of each
// volume can refuse a writer that has lost its hold and does not know.
func ExampleToken() {
	ctx := context.Background()
	cluster, done := exampleCluster(ctx, "prod-a")
	defer done()
	var greatest state.Token
	write := func(token state.Token) string {
		if token < greatest {
			return "refused"
		}
		greatest = token
		return "written"
	}

	first, err := cluster.Attach(ctx, state.AttachRequest{Volume: "pvc-1", Node: "node-1"})
	if err != nil {
		panic(err)
	}
	fmt.Println("first:", write(first.Token))
	if _, err := cluster.Detach(ctx, state.DetachRequest{Volume: "pvc-1", Node: "node-1", Token: first.Token}); err != nil {
		panic(err)
	}
	second, err := cluster.Attach(ctx, state.AttachRequest{Volume: "pvc-1", Node: "node-2"})
	if err != nil {
		panic(err)
	}
	fmt.Println("second:", write(second.Token))
	fmt.Println("first, late:", write(first.Token))
	// Output:
	// first: written
	// second: written
	// first, late: refused
}
