package bench

import (
	"context"
	"sync/atomic"

	"github.com/holdfast-storage/holdfast/state"
)

// churn offers volumes' lives at a fixed rate, whether or not those before are
// done: an attach, a detach, an attach to another node within the grace, and a
// detach. Its latency is that of all four, and a wait for a free caller counts. The
// peer puts four records of the same size in their place.
var churn = Workload{
	Name:  "churn",
	About: "attach, detach, hand over and detach, at a fixed rate, beside four raw puts",
	Run: func(ctx context.Context, r *Run) error {
		return r.beside(ctx, "churn", func(cluster *state.Cluster, plain *plain) error {
			offering := func(name string, call Call) Side {
				return Side{Name: name, Round: func(ctx context.Context, _ int) (Measured, error) {
					return Offer(ctx, r.mostCallers(), r.Sizes.Round, r.Sizes.Rate/lifeSteps, call), nil
				}}
			}
			rate := []Param{{"operations/s", int(r.Sizes.Rate)}}
			_, err := r.Compare(ctx, "churn", rate, offering("holdfast", living(cluster)), offering("put", func(ctx context.Context, caller, i int) error {
				for range lifeSteps {
					if err := plain.put(ctx, caller, i); err != nil {
						return err
					}
				}
				return nil
			}))
			return err
		})
	},
}

// lifeSteps is how many operations a volume's life has.
const lifeSteps = 4

// living takes a volume of its own through its life with each call.
func living(cluster *state.Cluster) Call {
	var volumes atomic.Int64
	return func(ctx context.Context, _, _ int) error {
		volume := volumeName(int(volumes.Add(1)))
		for _, node := range []string{nodeName(0), nodeName(1)} {
			if _, err := cluster.Attach(ctx, state.AttachRequest{Volume: volume, Node: node}); err != nil {
				return err
			}
			if _, err := cluster.Detach(ctx, state.DetachRequest{Volume: volume, Node: node}); err != nil {
				return err
			}
		}
		return nil
	}
}
