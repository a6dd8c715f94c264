package local_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/holdfast-storage/holdfast/bench/local"
)

func TestMain(m *testing.M) {
	local.ServeMember()
	goleak.VerifyTestMain(m)
}

func TestStart_ServesAndEnds(t *testing.T) {
	for _, members := range []int{1, 3} {
		t.Run(fmt.Sprintf("members=%d", members), func(t *testing.T) {
			etcd, err := local.Start(t.Context(), members, t.TempDir(), t.Output())
			if err != nil {
				t.Fatal(err)
			}
			client, err := clientv3.New(clientv3.Config{Endpoints: etcd.Endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if _, err := client.Put(ctx, "k", "v"); err != nil {
				t.Error(err)
			}
			list, err := client.MemberList(ctx)
			if err != nil || len(list.Members) != members {
				t.Errorf("members = %v, %v; want %d", list, err, members)
			}
			if err := etcd.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			for _, pid := range etcd.PIDs() {
				if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
					t.Errorf("process %d is still there", pid)
				}
			}
		})
	}
}
