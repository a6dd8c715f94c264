package main

import (
	"context"
	"errors"
	"strings"

	"github.com/holdfast-storage/holdfast/state"
)

// open reaches etcd, however long that takes.
func (d *daemon) open(ctx context.Context) (*state.Ledger, error) {
	var ledger *state.Ledger
	err := d.patiently(ctx, "etcd at "+strings.Join(d.ledger.Endpoints, ","), comesBack, func(ctx context.Context) (err error) {
		ledger, err = state.Open(ctx, d.ledger)
		if errors.Is(err, state.ErrUnavailable) {
			if wrong := handshake(ctx, d.ledger); wrong != nil {
				return wrong
			}
		}
		return err
	})
	return ledger, err
}

// join opens the ledger as the cluster whose nodes are watched.
func (d *daemon) join(ctx context.Context, ledger *state.Ledger) (*state.Cluster, error) {
	uid := ""
	// Whatever keeps a cluster from telling its identity may pass: an API
	// server that starts, a role that is still to be given.
	always := func(error) bool { return true }
	err := d.patiently(ctx, "the cluster's identity", always, func(ctx context.Context) (err error) {
		uid, err = d.nodes.ClusterUID(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if want := d.flags.clusterFlags.uid; want != "" && uid != want {
		return nil, usagef("invalid --cluster-uid %q: the cluster that the nodes come from has the kube-system UID %q", want, uid)
	}
	var cluster *state.Cluster
	err = d.patiently(ctx, "the cluster's record in etcd", comesBack, func(ctx context.Context) (err error) {
		cluster, err = ledger.Cluster(ctx, state.Identity{Name: d.flags.clusterFlags.name, UID: uid})
		return err
	})
	return cluster, err
}

// comesBack says whether it is worth to wait for etcd.
func comesBack(err error) bool {
	return errors.Is(err, state.ErrUnavailable) || errors.Is(err, state.ErrNoSpace) || errors.Is(err, state.ErrUnknownOutcome)
}
