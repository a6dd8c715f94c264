package chaos

import (
	"bufio"
	"errors"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// control is asked by one controller at each of its fail points. The process
// stands still until the answer.
type control struct {
	listener net.Listener
	joined   sync.WaitGroup
}

// newControl listens at path. at is called for each arrival, from a goroutine
// of its own; the process goes on when it returns.
func newControl(path string, at func(failpoint.Point)) (*control, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	c := &control{listener: listener}
	c.joined.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c.joined.Go(func() { answer(conn, at) })
		}
	})
	return c, nil
}

func answer(conn net.Conn, at func(failpoint.Point)) {
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	at(failpoint.Point(strings.TrimSpace(line)))
	_, _ = conn.Write([]byte("go\n")) // it may be dead by now
}

func (c *control) close() {
	c.listener.Close()
	c.joined.Wait()
}
