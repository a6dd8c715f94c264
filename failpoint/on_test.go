//go:build failpoints

package failpoint_test

import (
	"bufio"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-storage/holdfast/failpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPlant(t *testing.T) {
	undo := failpoint.Plant(failpoint.DropR)
	if !failpoint.Planted(failpoint.DropR) || failpoint.Planted(failpoint.DropTokenCompare) {
		t.Error("not exactly the planted fault is planted")
	}
	if undo(); failpoint.Planted(failpoint.DropR) {
		t.Error("it is still planted")
	}
}

func TestNow(t *testing.T) {
	failpoint.SetOffset(-3 * time.Hour)
	defer failpoint.SetOffset(0)
	if d := time.Until(failpoint.Now()); d > -2*time.Hour {
		t.Errorf("the clock is wrong by %v, not by three hours", d)
	}
}

// A process stands at a point until it is told to go on.
func TestReach(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	t.Setenv(failpoint.ControlVar, path)
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		failpoint.Reach(t.Context(), failpoint.Sending)
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != string(failpoint.Sending)+"\n" {
		t.Fatalf("told %q, %v", line, err)
	}
	select {
	case <-passed:
		t.Fatal("it went on before it was told to")
	default:
	}
	if _, err := conn.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	<-passed
}
