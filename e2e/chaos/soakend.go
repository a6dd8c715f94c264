package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state"
)

// Left is what stands in etcd, by what it is.
type Left struct {
	// Keys counts the ledger's by their kind, and others as "other".
	Keys map[string]int
	// Leases are all there are, Under those that a key is under, and Idle the
	// rest: each of them ends by itself, within its TTL, or has leaked.
	Leases, Under, Idle int
}

// stands counts all keys and leases of etcd. The two are not read at one moment.
func (s *soak) stands(ctx context.Context) (Left, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// Not keys only: etcd 3.7 leaves out the lease then, too.
	keys, err := s.raw.Get(ctx, "\x00", clientv3.WithFromKey())
	if err != nil {
		return Left{}, err
	}
	leases, err := s.raw.Leases(ctx)
	if err != nil {
		return Left{}, err
	}
	out := Left{Keys: map[string]int{}, Leases: len(leases.Leases)}
	under := map[clientv3.LeaseID]bool{}
	for _, kv := range keys.Kvs {
		out.Keys[kindOf(string(kv.Key))]++
		under[clientv3.LeaseID(kv.Lease)] = kv.Lease != 0
	}
	for _, l := range leases.Leases {
		if under[l.ID] {
			out.Under++
		}
	}
	out.Idle = out.Leases - out.Under
	return out, nil
}

func kindOf(key string) string {
	rest, below := strings.CutPrefix(key, prefix)
	if !below {
		return "other"
	}
	kind, _, _ := strings.Cut(rest, "/")
	return kind
}

func (l Left) standing() int {
	n := 0
	for kind, count := range l.Keys {
		if kind != "journal" {
			n += count
		}
	}
	return n
}

const (
	// A lease of this many attachments is left alone, and so are thinly filled
	// ones of a cluster while they are at most this few (reconcile/gather.go).
	thickLease = 8
	thinLeases = 3
)

// crowded says whether records are under more leases than they need. At rest
// that is: an election's and a journal entry's at most one each, and for the
// attachments what gathering leaves of thin leases. The others, without a key,
// end by themselves.
func (l Left) crowded(clusters int) error {
	most := l.Keys["elections"] + l.Keys["journal"] + l.Keys["attachments"]/thickLease + clusters*thinLeases
	if l.Under > most {
		return fmt.Errorf("%d leases with keys, expected at most %d for %d attachments, %d elections and %d entries of the journal",
			l.Under, most, l.Keys["attachments"], l.Keys["elections"], l.Keys["journal"])
	}
	return nil
}

// account says what stands that no record accounts for, once every hold has
// been ended and every wait has been waited for: what may stay is the ledger's
// own record, each cluster's and its witness, and the election of each
// controller that runs, which is also the only key under a lease.
func (l Left) account(clusters, controllers int) error {
	may := map[string]int{"ledger": 1, "clusters": clusters, "witnesses": clusters, "elections": controllers, "other": 1} // the observer's beacon
	var errs []error
	for kind, n := range l.Keys {
		if n > may[kind] {
			errs = append(errs, fmt.Errorf("%d keys of kind %q, expected at most %d", n, kind, may[kind]))
		}
	}
	for _, kind := range []string{"ledger", "clusters", "elections"} {
		if l.Keys[kind] < may[kind] {
			errs = append(errs, fmt.Errorf("%d keys of kind %q, expected %d", l.Keys[kind], kind, may[kind]))
		}
	}
	if l.Leases > controllers {
		errs = append(errs, fmt.Errorf("%d leases, of which %d have no key, expected one a controller's election: %d", l.Leases, l.Idle, controllers))
	}
	return errors.Join(errs...)
}

// end has each cluster lose a node for good, lets it be cleared up, ends every
// hold, waits for every wait, and measures for the last time.
func (s *soak) end(ctx context.Context) (Left, error) {
	if err := s.settle(ctx); err != nil {
		return Left{}, err
	}
	if err := s.detachAll(ctx); err != nil {
		return Left{}, fmt.Errorf("ending all holds: %w", err)
	}
	// The longest wait is the journal's. Twice its lease: a change of etcd's
	// leader, on a loaded machine without any fault, starts it afresh.
	var last Left
	err := s.quiet(ctx, 2*s.cfg.Retention+30*time.Second, func(ctx context.Context) (err error) {
		if last, err = s.stands(ctx); err != nil {
			return err
		}
		return last.account(len(clusterNames), len(s.controllers))
	})
	if err != nil {
		err = fmt.Errorf("not every key and lease is accounted for: %w", err)
	}
	return last, errors.Join(err, s.measure(ctx))
}

// detachAll ends whatever is held, each through its own cluster's driver.
func (s *soak) detachAll(ctx context.Context) error {
	for {
		held := map[string][]state.Hold{}
		for h, err := range s.operator.Holds(ctx, state.HoldFilter{}) {
			if err != nil {
				return err
			}
			held[h.Volume] = append(held[h.Volume], h)
		}
		if len(held) == 0 {
			return nil
		}
		for volume, holds := range held {
			v := &soakVolume{name: volume}
			for _, h := range holds {
				s.detach(ctx, v, h)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
