package cluster

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"
)

// peerProxy stands before one member's peer address. Raft's messages reach a
// member in two ways: in the answer to a GET of its own, which never ends, and
// in a POST. So what A says to B is in the answers to B's GETs at A's proxy,
// and in A's POSTs at B's.
type peerProxy struct {
	cluster *Cluster
	member  int
	target  string
	address string
	listens net.Listener
	server  *http.Server
	rounds  *http.Transport
}

// idlePeer ends the connections that members open while one of them is away and
// then have no more use for: a soak counts its descriptors.
const idlePeer = 5 * time.Second

func openPeerProxy(c *Cluster, member int, target string) (*peerProxy, error) {
	listener, err := net.Listen("tcp", freeAddress())
	if err != nil {
		return nil, err
	}
	p := &peerProxy{
		cluster: c,
		member:  member,
		target:  target,
		address: listener.Addr().String(),
		listens: listener,
		rounds:  &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: idlePeer},
	}
	p.server = &http.Server{Handler: p, ConnContext: withOrigin, IdleTimeout: 2 * idlePeer}
	return p, nil
}

// serve lets the members in, once all of them stand in the cluster.
func (p *peerProxy) serve() { go p.server.Serve(p.listens) }

func (p *peerProxy) url() string { return "http://" + p.address }

func (p *peerProxy) close() error {
	err := p.server.Close()
	p.listens.Close() // where it has not served yet
	p.rounds.CloseIdleConnections()
	return err
}

// ServeHTTP carries one exchange. Where it cannot, it resets the connection:
// an answer of the proxy's own would be taken for the member's.
func (p *peerProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from := p.sender(r)
	ctx, land := p.cluster.net.fly(r.Context(), from, p.member)
	defer land()
	if !p.exchange(ctx, w, r, from) {
		panic(http.ErrAbortHandler)
	}
}

func (p *peerProxy) exchange(ctx context.Context, w http.ResponseWriter, r *http.Request, from int) bool {
	n := p.cluster.net
	stream := strings.HasPrefix(r.URL.Path, "/raft/stream/")
	// The GET says nothing by itself: it may pass a direction that is blocked.
	if !stream && !n.pass(ctx, from, p.member, n.due(from, p.member)) {
		return false
	}
	request := r.Clone(ctx)
	request.RequestURI, request.Host = "", p.target
	request.URL.Scheme, request.URL.Host = "http", p.target
	answer, err := p.rounds.RoundTrip(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	maps.Copy(w.Header(), answer.Header)
	if stream {
		return p.follow(ctx, w, answer, from)
	}
	// That a message has arrived is part of the way it came. Everything else,
	// such as a lease kept alive at the leader, asks for its answer.
	if !strings.HasPrefix(r.URL.Path, "/raft") && !n.pass(ctx, p.member, from, n.due(p.member, from)) {
		return false
	}
	w.WriteHeader(answer.StatusCode)
	_, err = io.Copy(w, answer.Body)
	return err == nil
}

// piece is what was read at once, and when it may be handed on.
type piece struct {
	data []byte
	due  time.Time
}

// follow hands on a stream as it comes. Reading goes on while a piece waits
// for its time: so a delay makes a message late, and the line no narrower.
func (p *peerProxy) follow(ctx context.Context, w http.ResponseWriter, answer *http.Response, to int) bool {
	n := p.cluster.net
	pieces := make(chan piece, 1024)
	ended := make(chan error, 1)
	go func() {
		defer close(pieces)
		ended <- read(ctx, answer.Body, pieces, func() time.Time { return n.due(p.member, to) })
	}()
	controller := http.NewResponseController(w)
	if !n.pass(ctx, p.member, to, n.due(p.member, to)) {
		return false
	}
	w.WriteHeader(answer.StatusCode)
	if controller.Flush() != nil {
		return false
	}
	for next := range pieces {
		if !n.pass(ctx, p.member, to, next.due) {
			return false
		}
		if _, err := w.Write(next.data); err != nil || controller.Flush() != nil {
			return false
		}
	}
	return errors.Is(<-ended, io.EOF)
}

func read(ctx context.Context, from io.Reader, pieces chan<- piece, due func() time.Time) error {
	for {
		buffer := make([]byte, 16<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			select {
			case pieces <- piece{data: buffer[:n], due: due()}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
	}
}
