package statetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fillPrefix is where FillUp puts its keys: outside of anybody's prefix.
const fillPrefix = "statetest-fill/"

// FillUp writes until etcd itself raises NOSPACE. Start it WithQuota, of a
// megabyte or two, so that this does not take long.
func (a *Access) FillUp(tb testing.TB) {
	tb.Helper()
	const most = 1000 // of 256 kB each
	value := strings.Repeat("x", 256<<10)
	client, done := a.briefClient(tb)
	defer done()
	for i := range most {
		err := request(func(ctx context.Context) error {
			_, err := client.Put(ctx, fmt.Sprintf("%s%d", fillPrefix, i), value)
			return err
		})
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return
		}
		if err != nil {
			tb.Fatalf("statetest: fill up: %v", err)
		}
	}
	tb.Fatalf("statetest: fill up: no NOSPACE after %d MB: start the server WithQuota", most/4)
}

// FreeSpace undoes FillUp, the way an operator would: delete, compact,
// defragment every member, clear the alarm. History goes with it.
func (a *Access) FreeSpace(tb testing.TB) {
	tb.Helper()
	client, done := a.briefClient(tb)
	defer done()
	var deleted *clientv3.DeleteResponse
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"delete", func(ctx context.Context) (err error) {
			deleted, err = client.Delete(ctx, fillPrefix, clientv3.WithPrefix())
			return err
		}},
		{"compact", func(ctx context.Context) error {
			_, err := client.Compact(ctx, deleted.Header.Revision, clientv3.WithCompactPhysical())
			return err
		}},
		{"defragment", func(ctx context.Context) error {
			for _, endpoint := range a.endpoints {
				if _, err := client.Defragment(ctx, endpoint); err != nil {
					return err
				}
			}
			return nil
		}},
	}
	for _, step := range steps {
		if err := request(step.do); err != nil {
			tb.Fatalf("statetest: free space: %s: %v", step.name, err)
		}
	}
	a.DisarmNoSpace(tb)
}

// AlarmNoSpace raises the NOSPACE alarm though there is space: etcd then
// refuses what it refuses on a full disk. DisarmNoSpace ends it.
func (a *Access) AlarmNoSpace(tb testing.TB) {
	tb.Helper()
	client, done := a.briefClient(tb)
	defer done()
	err := request(func(ctx context.Context) error {
		status, err := client.Status(ctx, a.endpoints[0])
		if err != nil {
			return err
		}
		_, err = pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{
			Action:   pb.AlarmRequest_ACTIVATE,
			MemberID: status.Header.MemberId,
			Alarm:    pb.AlarmType_NOSPACE,
		})
		return err
	})
	if err != nil {
		tb.Fatalf("statetest: raise NOSPACE: %v", err)
	}
}

// DisarmNoSpace clears every alarm, as "etcdctl alarm disarm" does. On a
// server that is still full etcd raises it again at the next write.
func (a *Access) DisarmNoSpace(tb testing.TB) {
	tb.Helper()
	client, done := a.briefClient(tb)
	defer done()
	err := request(func(ctx context.Context) error {
		_, err := client.AlarmDisarm(ctx, &clientv3.AlarmMember{}) // whichever there is, of every member
		return err
	})
	if err != nil {
		tb.Fatalf("statetest: clear NOSPACE: %v", err)
	}
}

func request(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	return do(ctx)
}
