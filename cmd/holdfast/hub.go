package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// The pauses between the tries to serve a cluster of a hub.
const (
	firstHubPause = 5 * time.Second
	lastHubPause  = time.Minute
)

// keepServed serves a cluster of a hub again and again until ctx ends, or what
// fails is not the cluster's own: one cluster must not end the others.
func (s *served) keepServed(ctx context.Context, ledger *state.Ledger) error {
	s.ready.waitFor("its API server, and its record in etcd")
	for pause := firstHubPause; ; pause = min(2*pause, lastHubPause) {
		began := time.Now()
		err := s.run(ctx, ledger)
		if ctx.Err() != nil || concernsAll(ctx, ledger, err) {
			return err
		}
		if time.Since(began) > lastHubPause {
			pause = firstHubPause // it did run
		}
		why := advised(err)
		s.log.Error("the cluster is not served; trying again", "error", why, "again_in", pause)
		s.ready.waitFor(why)
		if err := pauseFor(ctx, pause); err != nil {
			return err
		}
	}
}

// concernsAll says whether a failure in serving one cluster is that of every
// cluster on the ledger. A role of etcd may leave out the keys of one of them.
func concernsAll(ctx context.Context, ledger *state.Ledger, err error) bool {
	var setting *settingError
	switch {
	case errors.Is(err, state.ErrRestored), errors.As(err, &setting):
		return true
	case errors.Is(err, state.ErrPermission):
		_, err := ledger.Record(ctx)
		return errors.Is(err, state.ErrPermission) || errors.Is(err, state.ErrRestored)
	}
	return false
}

// settingError is a flag that all clusters have in common and that none can use.
type settingError struct{ error }

func (e *settingError) Unwrap() error { return e.error }

// identities are the kube-system UIDs of the clusters that this process serves.
// It is safe for concurrent use.
type identities struct {
	mu sync.Mutex
	of map[string]string // by cluster
}

// claim refuses to take one Kubernetes for two clusters: the nodes of one of
// them would all look gone. giveBack undoes it, for a claim that the ledger
// refuses: it must not keep the Kubernetes from the cluster whose it is.
func (i *identities) claim(cluster, uid string) (giveBack func(), err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for other, its := range i.of {
		if its == uid && other != cluster {
			return nil, fmt.Errorf("the kubeconfigs of clusters %q and %q are of one cluster, with the kube-system UID %q: expected a cluster of its own for each name",
				other, cluster, uid)
		}
	}
	if i.of == nil {
		i.of = map[string]string{}
	}
	before, had := i.of[cluster]
	i.of[cluster] = uid
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if delete(i.of, cluster); had {
			i.of[cluster] = before
		}
	}, nil
}
