package statetest

import (
	"net"
	"sync"
	"time"
)

// link is one connection through a proxy.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	calls          *calls // under the proxy's lock

	once  sync.Once
	ended chan struct{}
}

// piece is what was read at once, and when it may be handed on.
type piece struct {
	data []byte
	due  time.Time
}

// run carries the link's two directions and returns once both have ended.
func (l *link) run() {
	var pumps sync.WaitGroup
	pumps.Go(func() { l.pump(l.client, l.server, l.passRequest) })
	pumps.Go(func() { l.pump(l.server, l.client, l.passAnswer) })
	pumps.Wait()
}

// pump carries one direction. Reading goes on while a piece waits for its
// time: so a delay makes an answer late, and the line no narrower.
func (l *link) pump(from, to net.Conn, pass func([]byte) bool) {
	pieces := make(chan piece, 256)
	var reader sync.WaitGroup
	defer reader.Wait()
	reader.Go(func() {
		defer close(pieces)
		l.read(from, pieces)
	})
	for p := range pieces {
		if !l.wait(p.due) || !pass(p.data) {
			l.reset()
			return
		}
		if _, err := to.Write(p.data); err != nil {
			l.reset()
			return
		}
	}
	// One side is done, and all that it said has been handed on. gRPC does
	// not half-close its connections, so the other side is closed as well.
	l.end(func(conn net.Conn) { conn.Close() })
}

func (l *link) read(from net.Conn, pieces chan<- piece) {
	for {
		buffer := make([]byte, 32<<10)
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		l.proxy.mu.Lock()
		due := time.Now().Add(l.proxy.delay)
		l.proxy.mu.Unlock()
		select {
		case pieces <- piece{data: buffer[:n], due: due}:
		case <-l.ended:
			return
		}
	}
}

func (l *link) wait(due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ended:
		return false
	}
}

// passRequest waits for the way to the server to be open, and notes what
// passes. It is noted before it is sent: the answer cannot come first.
func (l *link) passRequest(data []byte) bool {
	return l.pass(&l.proxy.toServer, func() bool {
		l.calls.request(data, l.proxy.losing.take)
		return true
	})
}

// passAnswer waits for the way to the client to be open, and refuses an
// answer that is to be lost.
func (l *link) passAnswer(data []byte) bool {
	return l.pass(&l.proxy.toClient, func() bool {
		lost := l.calls.answer(data)
		l.proxy.losing.lost += lost
		return lost == 0
	})
}

// pass calls note with the proxy's lock held, once the gate is open.
func (l *link) pass(g *gate, note func() bool) bool {
	for {
		l.proxy.mu.Lock()
		if g.isOpen() {
			defer l.proxy.mu.Unlock()
			return note()
		}
		opened := g.opened
		l.proxy.mu.Unlock()
		select {
		case <-opened:
		case <-l.ended:
			return false
		}
	}
}

// reset ends the link the hard way, at once: what is under way is lost, and
// both sides see a reset and not an orderly end.
func (l *link) reset() { l.end(resetConn) }

// end ends the link once; later calls change nothing.
func (l *link) end(closeConn func(net.Conn)) {
	l.once.Do(func() {
		close(l.ended)
		closeConn(l.client)
		closeConn(l.server)
	})
}

func resetConn(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}
