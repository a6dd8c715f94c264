package bench

import (
	"context"
	"errors"

	"github.com/holdfast-storage/holdfast/state"
)

// conflict has many callers want one volume, each for a node of its own. Who gets
// it gives it back; that others are refused is no error, and what is measured. The
// peer sends a transaction a call.
var conflict = Workload{
	Name:  "conflict",
	About: "many callers that want one volume, beside a transaction a call",
	Run: func(ctx context.Context, r *Run) error {
		return r.beside(ctx, "conflict", func(cluster *state.Cluster, plain *plain) error {
			wanted := volumeName(0)
			for _, callers := range r.Sizes.Callers {
				if callers == 1 {
					continue // nobody is in its way
				}
				_, err := r.CompareBriefly(ctx, "conflict", []Param{{"callers", callers}},
					r.looping("holdfast", callers, func(ctx context.Context, caller, _ int) error {
						node := nodeName(caller)
						_, err := cluster.Attach(ctx, state.AttachRequest{Volume: wanted, Node: node})
						if errors.Is(err, state.ErrConflict) {
							return nil
						}
						if err == nil {
							_, err = cluster.Detach(ctx, state.DetachRequest{Volume: wanted, Node: node})
						}
						return err
					}),
					r.looping("transaction", callers, func(ctx context.Context, caller, _ int) error {
						node := nodeName(caller)
						err := plain.take(ctx, wanted, node)
						if errors.Is(err, errTaken) {
							return nil
						}
						if err == nil {
							err = plain.end(ctx, wanted, node, plain.shared)
						}
						return err
					}))
				if err != nil {
					return err
				}
			}
			return nil
		})
	},
}
