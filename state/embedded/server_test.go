package embedded_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state/embedded"
)

func TestStart_KeepsDataOverARestart(t *testing.T) {
	dir := t.TempDir()
	server := start(t, embedded.Config{Dir: dir})
	client := connect(t, server.Endpoints()...)
	put(t, client, "a", "1")
	lease, err := client.Grant(within(t), 600)
	if err != nil {
		t.Fatal(err)
	}
	before := clusterID(t, client)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}

	server = start(t, embedded.Config{Dir: dir}) // at another port
	client = connect(t, server.Endpoints()...)
	if got := value(t, client, "a"); got != "1" {
		t.Errorf("a = %q after the restart, want 1", got)
	}
	left, err := client.TimeToLive(within(t), lease.ID)
	if err != nil || left.TTL <= 0 {
		t.Errorf("the lease after the restart: %v, %v", left, err)
	}
	if after := clusterID(t, client); after != before {
		t.Errorf("cluster ID %x after the restart, %x before", after, before)
	}
}

func TestStart_EveryLedgerHasAClusterIDOfItsOwn(t *testing.T) {
	one := connect(t, start(t, embedded.Config{Dir: t.TempDir()}).Endpoint())
	two := connect(t, start(t, embedded.Config{Dir: t.TempDir()}).Endpoint())
	if a, b := clusterID(t, one), clusterID(t, two); a == b {
		t.Errorf("two etcds with the same cluster ID, %x: a client could not tell them apart", a)
	}
}

func clusterID(t *testing.T, client *clientv3.Client) uint64 {
	t.Helper()
	members, err := client.MemberList(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return members.Header.ClusterId
}

func TestStart_ContextEnds(t *testing.T) {
	cause := errors.New("changed my mind")
	for _, test := range []struct {
		name  string
		after time.Duration
	}{{"before", 0}, {"while it starts", 5 * time.Millisecond}} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithCancelCause(t.Context())
			if test.after == 0 {
				cancel(cause)
			}
			time.AfterFunc(test.after, func() { cancel(cause) })
			server, err := embedded.Start(ctx, quick(embedded.Config{Dir: dir}))
			if err == nil {
				server.Close()
				t.Fatal("it started all the same")
			}
			if !errors.Is(err, cause) {
				t.Errorf("error %v, want %v", err, cause)
			}
			// The folder is free again once the half-started server is down.
			deadline := time.Now().Add(time.Minute)
			for {
				server, err = embedded.Start(within(t), quick(embedded.Config{Dir: dir}))
				if err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
			server.Close()
		})
	}
}

func TestClose_DoesNotWaitForClients(t *testing.T) {
	dir := t.TempDir()
	server := start(t, embedded.Config{Dir: dir})
	address := strings.TrimPrefix(server.Endpoint(), "http://")

	// Each of these would hold up etcd's own shutdown, the last one for ever.
	client := connect(t, server.Endpoint())
	watch := client.Watch(clientv3.WithRequireLeader(t.Context()), "a", clientv3.WithCreatedNotify())
	<-watch
	lease, err := client.Grant(within(t), 600)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := client.KeepAlive(t.Context(), lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	<-alive
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	closed := make(chan error, 1)
	go func() { closed <- server.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(6 * time.Second): // etcd itself: 7 s
		t.Fatal("Close waits for its clients")
	}

	// And to the clients it was a restart, not an end.
	server = start(t, embedded.Config{Dir: dir, ListenClient: address})
	put(t, client, "a", "1")
	select {
	case answer := <-watch:
		if len(answer.Events) != 1 {
			t.Errorf("the watch ended: %v", answer.Err())
		}
	case <-time.After(time.Minute):
		t.Error("the watch does not hear of what came after the restart")
	}
}

func TestClose_AgainAndAtOnce(t *testing.T) {
	server := start(t, embedded.Config{Dir: t.TempDir()})
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err, open := <-server.Err(); open {
		t.Errorf("Err after Close: %v, want a closed channel", err)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(server.Endpoint(), "http://")); err == nil {
		t.Error("it still listens")
	}
}

func TestErr_WhenTheServerStopsByItself(t *testing.T) {
	server := start(t, embedded.Config{Dir: t.TempDir()})
	select {
	case err := <-server.Err():
		t.Fatalf("while it runs: %v", err)
	default:
	}
	server.Etcd().Server.HardStop()
	if err := <-server.Err(); err == nil {
		t.Error("no error though the server went down by itself")
	}
	if err, open := <-server.Err(); open {
		t.Errorf("a second error: %v", err)
	}
}
