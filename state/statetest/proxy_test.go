package statetest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// through returns a proxy in front of the shared server, a client that goes
// through it and sends each request once, and a prefix.
func through(t *testing.T) (*statetest.Proxy, *clientv3.Client, string) {
	t.Helper()
	prefix := statetest.Prefix(t)
	p := statetest.Shared(t).Proxy(t)
	client, err := clientv3.New(clientv3.Config{
		Endpoints:       p.Endpoints(),
		Logger:          zap.NewNop(),
		MaxUnaryRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	put(t, client, prefix+"connected", "")
	return p, client, prefix
}

// wants fails the test unless prefix holds exactly the keys named.
func wants(t *testing.T, prefix string, keys ...string) {
	t.Helper()
	var got []string
	for _, kv := range statetest.Shared(t).Dump(t, prefix) {
		if key := strings.TrimPrefix(kv.Key, prefix); key != "connected" {
			got = append(got, key)
		}
	}
	if strings.Join(got, " ") != strings.Join(keys, " ") {
		t.Errorf("etcd holds %q, want %q", got, keys)
	}
}

func TestProxy_Pause(t *testing.T) {
	p, client, prefix := through(t)
	p.Pause()
	if _, err := client.Put(brief(t), prefix+"a", ""); status.Code(err) != codes.DeadlineExceeded && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("put through a paused proxy: %v, want a deadline exceeded", err)
	}
	wants(t, prefix)

	conn, err := net.Dial("tcp", strings.TrimPrefix(p.Endpoint(), "http://"))
	if err != nil {
		t.Errorf("a paused proxy does not accept: %v", err)
	} else {
		conn.Close()
	}

	// What waited for longer than its caller arrives all the same.
	held := make(chan error, 1)
	go func() {
		_, err := client.Put(ctx(t), prefix+"b", "")
		held <- err
	}()
	select {
	case err := <-held:
		t.Fatalf("put through a paused proxy came back: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	p.Resume()
	if err := <-held; err != nil {
		t.Errorf("put that waited for Resume: %v", err)
	}
}

func TestProxy_PauseResponses(t *testing.T) {
	p, client, prefix := through(t)
	p.PauseResponses()
	if _, err := client.Put(brief(t), prefix+"a", ""); err == nil {
		t.Error("an answer came through")
	}
	wants(t, prefix, "a")
	p.Resume()
	put(t, client, prefix+"b", "")
	wants(t, prefix, "a", "b")
}

func TestProxy_CutAndResume(t *testing.T) {
	p, client, prefix := through(t)
	p.Cut()
	if conn, err := net.Dial("tcp", strings.TrimPrefix(p.Endpoint(), "http://")); err == nil {
		conn.Close()
		t.Error("a cut proxy accepts connections")
	}
	if _, err := client.Put(brief(t), prefix+"a", ""); err == nil {
		t.Error("a put came through a cut")
	}
	wants(t, prefix)
	p.Resume()
	for i := 0; ; i++ { // gRPC takes its time to connect again
		_, err := client.Put(ctx(t), prefix+"b", "")
		if err == nil {
			break
		}
		if i == 20 {
			t.Fatalf("put after Resume: %v", err)
		}
	}
	wants(t, prefix, "b")
}

func TestProxy_CutResetsAConnectionThatIsOpen(t *testing.T) {
	for name, cut := range map[string]func(*statetest.Proxy){
		"Cut":             (*statetest.Proxy).Cut,
		"DropConnections": (*statetest.Proxy).DropConnections,
	} {
		t.Run(name, func(t *testing.T) {
			p := statetest.Shared(t).Proxy(t)
			conn, err := net.Dial("tcp", strings.TrimPrefix(p.Endpoint(), "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			const hello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // and settings, of which there are none
			if _, err := io.WriteString(conn, hello); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 1)); err != nil { // etcd's own settings
				t.Fatal(err)
			}
			cut(p)
			buffer := make([]byte, 1024)
			for err == nil {
				_, err = conn.Read(buffer)
			}
			if !strings.Contains(err.Error(), "reset") {
				t.Errorf("the connection ended with %v, want a reset", err)
			}
		})
	}
}

func TestProxy_DropConnectionsServesNewOnes(t *testing.T) {
	p, client, prefix := through(t)
	watch := client.Watch(clientv3.WithRequireLeader(ctx(t)), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	p.DropConnections()
	put(t, statetest.Shared(t).Client(t), prefix+"a", "")
	answer := <-watch
	if n := len(answer.Events); n == 0 || string(answer.Events[n-1].Kv.Key) != prefix+"a" {
		t.Errorf("the watch did not come back: %v, %v", answer, answer.Err())
	}
}

func TestProxy_Delay(t *testing.T) {
	p, client, prefix := through(t)
	const delay = 150 * time.Millisecond
	p.Delay(delay)
	began := time.Now()
	put(t, client, prefix+"a", "")
	if took := time.Since(began); took < 2*delay {
		t.Errorf("a put took %v through a delay of %v each way", took, delay)
	}

	// The line gets longer, not narrower: many at once take about as long as one.
	const many = 20
	began = time.Now()
	done := make(chan error, many)
	for range many {
		go func() {
			_, err := client.Put(ctx(t), prefix+"a", "")
			done <- err
		}()
	}
	for range many {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(began); took > many*delay {
		t.Errorf("%d puts at once took %v: they waited for each other", many, took)
	}

	p.Delay(0)
	put(t, client, prefix+"b", "")
}

func TestProxy_LoseNextResponse(t *testing.T) {
	p, client, prefix := through(t)
	p.LoseNextResponse()
	_, err := client.Put(ctx(t), prefix+"a", "")
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the put whose answer was lost: %v, want Unavailable", err)
	}
	wants(t, prefix, "a")
	if got := p.Lost(); got != 1 {
		t.Errorf("Lost() = %d, want 1", got)
	}
	put(t, client, prefix+"b", "") // only the next one
}

func TestProxy_LoseResponses_OnlyOfAMethod(t *testing.T) {
	p, client, prefix := through(t)
	p.LoseResponses(2, "Txn")
	lease, err := client.Grant(ctx(t), 60)
	if err != nil {
		t.Fatalf("a grant, while answers to transactions are lost: %v", err)
	}
	for _, key := range []string{"a", "b"} {
		lost := p.Lost()
		for p.Lost() == lost { // more than once only while the client connects again
			txn := client.Txn(ctx(t)).Then(clientv3.OpPut(prefix+key, "", clientv3.WithLease(lease.ID)))
			if _, err := txn.Commit(); err == nil {
				t.Fatalf("the answer to the transaction that puts %s came through", key)
			}
		}
	}
	wants(t, prefix, "a", "b")
	if got := p.Lost(); got != 2 {
		t.Errorf("Lost() = %d, want 2", got)
	}
}

func TestProxy_LoseResponses_LeavesAWatchAlone(t *testing.T) {
	p, client, prefix := through(t)
	watch := client.Watch(ctx(t), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watch
	p.LoseNextResponse()
	put(t, statetest.Shared(t).Client(t), prefix+"a", "")
	if answer := <-watch; len(answer.Events) != 1 {
		t.Errorf("the watch broke: %v, %v", answer, answer.Err())
	}
	if got := p.Lost(); got != 0 {
		t.Errorf("Lost() = %d, want 0: an event is no answer to a request", got)
	}
}
