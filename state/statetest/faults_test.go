package statetest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

func TestNoSpace_ForReal(t *testing.T) {
	e := statetest.Start(t, statetest.WithQuota(1<<20))
	client := e.Client(t)
	put(t, client, "a", "")
	e.FillUp(t)
	if _, err := client.Put(ctx(t), "b", ""); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("put on a full etcd: %v, want %v", err, rpctypes.ErrNoSpace)
	}
	e.FreeSpace(t)
	put(t, client, "b", "")
	if got := e.Dump(t, ""); len(got) != 2 {
		t.Errorf("after FreeSpace etcd holds %v, want a and b only", got)
	}
}

func TestNoSpace_AlarmAlone(t *testing.T) {
	e := statetest.Start(t)
	client := e.Client(t)
	e.AlarmNoSpace(t)
	if _, err := client.Put(ctx(t), "a", ""); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("put under the alarm: %v, want %v", err, rpctypes.ErrNoSpace)
	}
	e.DisarmNoSpace(t)
	put(t, client, "a", "")
}

func TestEnableAuth(t *testing.T) {
	e := statetest.Start(t)
	e.EnableAuth(t,
		statetest.User{Name: "writer", Password: "w", Prefix: "/ours/"},
		statetest.User{Name: "reader", Password: "r", Prefix: "/ours/", ReadOnly: true})
	put(t, e.Client(t), "anywhere", "") // as root

	as := func(user, password string) (*clientv3.Client, error) {
		client, err := clientv3.New(clientv3.Config{
			Endpoints: e.Endpoints(), Username: user, Password: password,
			DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
		})
		if err == nil {
			t.Cleanup(func() { client.Close() })
		}
		return client, err
	}
	if _, err := as("writer", "wrong"); !errors.Is(err, rpctypes.ErrAuthFailed) {
		t.Errorf("login with a wrong password: %v, want %v", err, rpctypes.ErrAuthFailed)
	}
	for _, test := range []struct {
		user, password, key string
		want                error
	}{
		{"writer", "w", "/ours/a", nil},
		{"writer", "w", "/theirs/a", rpctypes.ErrPermissionDenied},
		{"reader", "r", "/ours/a", rpctypes.ErrPermissionDenied},
	} {
		client, err := as(test.user, test.password)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Put(ctx(t), test.key, ""); !errors.Is(err, test.want) {
			t.Errorf("%s puts %s: %v, want %v", test.user, test.key, err, test.want)
		}
		if _, err := client.Get(ctx(t), "/ours/a"); err != nil {
			t.Errorf("%s reads /ours/a: %v", test.user, err)
		}
	}
}

func TestWithAuthTokenTTL(t *testing.T) {
	e := statetest.Start(t, statetest.WithAuthTokenTTL(time.Second))
	e.EnableAuth(t)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: e.Endpoints(), Username: statetest.RootUser, Password: statetest.RootPassword,
		MaxUnaryRetries: 1, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	put(t, client, "a", "")
	deadline := time.Now().Add(20 * time.Second)
	for pause := time.Second; ; pause += time.Second { // each request makes the token younger
		time.Sleep(pause)
		_, err := client.Put(ctx(t), "a", "")
		if errors.Is(err, rpctypes.ErrInvalidAuthToken) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the token still holds: %v", err)
		}
	}
}

func TestCluster_LosesAndRegainsItsQuorum(t *testing.T) {
	c := statetest.StartCluster(t, 3)
	client := c.Client(t)
	put(t, client, "a", "1")

	// The leader goes: another one leads, and nothing is lost.
	leader := c.Leader(t)
	c.Member(leader).Kill(t)
	next := c.Leader(t)
	if next == leader || c.Member(leader).Running() {
		t.Errorf("member %d leads, which was killed", leader)
	}
	survivor := 3 - leader - next
	alone := only(t, c.Member(survivor).Endpoint())
	put(t, alone, "a", "2")

	// A second one goes: no majority, no writes.
	watch := alone.Watch(clientv3.WithRequireLeader(ctx(t)), "a", clientv3.WithCreatedNotify())
	<-watch
	c.Member(next).Stop(t)
	if _, err := alone.Put(brief(t), "a", "3"); err == nil {
		t.Error("a put on one member of three came through")
	}
	if answer := <-watch; !errors.Is(answer.Err(), rpctypes.ErrNoLeader) {
		t.Errorf("the watch that requires a leader: %v, want %v", answer.Err(), rpctypes.ErrNoLeader)
	}

	c.Member(next).Start(t)
	c.Member(leader).Start(t)
	c.Leader(t)
	put(t, alone, "a", "4")
	if got := c.Dump(t, "a"); len(got) != 1 || got[0].Value != "4" {
		t.Errorf("in the end: %v", got)
	}
}

func only(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop(), MaxUnaryRetries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func TestProcess_KillAndStart(t *testing.T) {
	p := statetest.StartProcess(t, statetest.Binary(t, "etcd"))
	client := only(t, p.Endpoint())
	put(t, client, "a", "1")
	first := p.PID()

	p.Freeze()
	if _, err := client.Get(brief(t), "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen process: %v, want a deadline exceeded", err)
	}
	p.Thaw()
	put(t, client, "a", "2")

	p.Kill()
	if p.PID() != 0 {
		t.Error("a killed process still has an ID")
	}
	if _, err := client.Get(brief(t), "a"); err == nil {
		t.Error("a killed process answers")
	}
	p.Start(t)
	if p.PID() == first {
		t.Error("the process was not started anew")
	}
	if got := p.Dump(t, "a"); len(got) != 1 || got[0].Value != "2" {
		t.Errorf("after the kill: %v, want the last value that was acknowledged", got)
	}
	p.Freeze()
	p.Stop()
}
