package main

import (
	"context"
	"errors"
	"strings"

	"github.com/holdfast-storage/holdfast/state"
)

// open reaches etcd, however long that takes.
func (d *daemon) open(ctx context.Context) (*state.Ledger, error) {
	cfg := d.ledger
	cfg.Registerer = d.registry
	var ledger *state.Ledger
	err := d.patiently(ctx, "etcd at "+strings.Join(cfg.Endpoints, ","), comesBack, func(ctx context.Context) (err error) {
		ledger, err = state.Open(ctx, cfg)
		if errors.Is(err, state.ErrUnavailable) {
			if wrong := handshake(ctx, cfg); wrong != nil {
				return wrong
			}
		}
		return err
	})
	return ledger, err
}

// comesBack says whether it is worth to wait for etcd: for it to answer, or for
// an operator to make the ledger, or to grant the role.
func comesBack(err error) bool {
	return errors.Is(err, state.ErrUnavailable) || errors.Is(err, state.ErrNoSpace) || errors.Is(err, state.ErrUnknownOutcome) ||
		errors.Is(err, state.ErrBeyondRole)
}
