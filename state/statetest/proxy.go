package statetest

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Proxy stands between clients and one endpoint of an etcd, and makes the
// faults of a network. Its methods may be called at any time, from any
// goroutine, and take effect on connections that are open already. It knows
// nothing of TLS: LoseResponses needs plain HTTP/2.
type Proxy struct {
	complain        func(error)
	address, target string
	links           sync.WaitGroup

	mu         sync.Mutex
	listener   net.Listener // nil while cut
	open       map[*link]bool
	toServer   gate
	toClient   gate
	delay      time.Duration
	losing     losing
	terminated bool
}

// NewProxy puts a proxy in front of endpoint, a URL like
// http://127.0.0.1:2379. It ends with the test.
func NewProxy(tb testing.TB, endpoint string) *Proxy {
	tb.Helper()
	p := OpenProxy(endpoint, func(err error) { tb.Error(err) })
	tb.Cleanup(p.Close)
	return p
}

// OpenProxy is NewProxy outside of a test: Close ends it. A proxy that cannot
// listen again says so to complain, which must not call the proxy.
func OpenProxy(endpoint string, complain func(error)) *Proxy {
	p := &Proxy{
		complain: complain,
		address:  loopback(FreePort()),
		target:   strings.TrimPrefix(endpoint, "http://"),
		open:     make(map[*link]bool),
		toServer: newGate(),
		toClient: newGate(),
	}
	p.Resume()
	return p
}

// Endpoint is the URL that clients reach the server at through the proxy.
func (p *Proxy) Endpoint() string { return "http://" + p.address }

// Endpoints is Endpoint, in the form that clients are configured with.
func (p *Proxy) Endpoints() []string { return []string{p.Endpoint()} }

// Pause stalls the network: connections are accepted and stay open, and
// nothing comes through, in either direction, until Resume; then all of it does.
func (p *Proxy) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toServer.shut()
	p.toClient.shut()
}

// PauseResponses stalls what comes from the server only: requests reach it
// and take effect, and nobody hears of it until Resume.
func (p *Proxy) PauseResponses() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toClient.shut()
}

// Cut resets every connection and refuses new ones until Resume.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unlisten()
	p.reset()
}

// DropConnections resets every connection, once. New ones are served.
func (p *Proxy) DropConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset()
}

// Delay makes whatever passes from now on arrive d later, in each direction:
// a round trip takes 2d more. 0 ends it.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// LoseResponses lets the next n unary requests reach the server and resets
// their connection when the server answers, before the client hears it: the
// request took effect, if it could, and the client cannot know. With methods,
// such as "Txn", "Put", "Range" or "LeaseGrant", only requests of theirs
// count. A later call replaces an earlier one.
func (p *Proxy) LoseResponses(n int, methods ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.losing = losing{left: n, methods: methods, lost: p.losing.lost}
}

// LoseNextResponse is LoseResponses(1, methods...).
func (p *Proxy) LoseNextResponse(methods ...string) { p.LoseResponses(1, methods...) }

// Lost is how many answers LoseResponses has lost, over the proxy's life.
func (p *Proxy) Lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.losing.lost
}

// Resume ends Pause, PauseResponses and Cut.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toServer.open()
	p.toClient.open()
	if p.listener != nil || p.terminated {
		return
	}
	if err := p.listen(); err != nil {
		p.complain(fmt.Errorf("statetest: proxy of %s: %w", p.target, err))
	}
}

// listen takes the port back. It lies where no outgoing connection takes it
// by chance; another test process that probes for a free one may, for a moment.
func (p *Proxy) listen() error {
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		p.listener, err = net.Listen("tcp", p.address)
		if err == nil {
			p.links.Add(1)
			go p.accept(p.listener)
			return nil
		}
		p.listener = nil
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return fmt.Errorf("listen on %s: %w", p.address, err)
}

func (p *Proxy) accept(listener net.Listener) {
	defer p.links.Done()
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		p.links.Add(1)
		go func() {
			defer p.links.Done()
			p.serve(client)
		}()
	}
}

// serve carries one connection until either side ends it or a fault does.
func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		resetConn(client)
		return
	}
	l := &link{proxy: p, client: client, server: server, calls: newCalls(), ended: make(chan struct{})}
	p.mu.Lock()
	if p.listener == nil { // cut, after the connection was accepted
		p.mu.Unlock()
		l.reset()
		return
	}
	p.open[l] = true
	p.mu.Unlock()
	l.run()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, l)
}

func (p *Proxy) unlisten() {
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
}

func (p *Proxy) reset() {
	for l := range p.open {
		l.reset()
	}
}

// Close ends the proxy and resets its connections; it returns when all are gone.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.terminated = true
	p.unlisten()
	p.reset()
	p.mu.Unlock()
	p.links.Wait()
}

// gate lets through, or holds back. It is changed with the proxy's lock held.
type gate struct{ opened chan struct{} }

func newGate() gate {
	opened := make(chan struct{})
	close(opened)
	return gate{opened}
}

func (g *gate) isOpen() bool {
	select {
	case <-g.opened:
		return true
	default:
		return false
	}
}

func (g *gate) shut() {
	if g.isOpen() {
		g.opened = make(chan struct{})
	}
}

func (g *gate) open() {
	if !g.isOpen() {
		close(g.opened)
	}
}
