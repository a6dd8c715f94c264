package apiserver

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
)

// Front is a proxy before a Server that makes faults. It ends TLS with a
// certificate of the server's own authority, so that a token goes through it
// and a client certificate does not. The zero faults let everything pass.
type Front struct {
	url    string
	server *http.Server

	mu     sync.Mutex
	answer int           // the status in place of an answer; 0: pass
	at     string        // the path that gets it; empty: all
	still  chan struct{} // not nil while watches hang; closed when they go on
	cut    bool
	open   map[net.Conn]struct{}
}

// Front puts a new proxy before the server. It ends with the test.
func (s *Server) Front(tb testing.TB) *Front {
	tb.Helper()
	f := &Front{open: map[net.Conn]struct{}{}}
	target := must(url.Parse(s.URL()))(tb)
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.ca.pool()}, ForceAttemptHTTP2: true}
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      transport,
		FlushInterval:  -1,
		ModifyResponse: f.modify,
		ErrorLog:       slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	f.server = &http.Server{
		Handler:   f.faulty(proxy),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{s.ca.pair(tb, pkix.Name{CommonName: "front of " + s.Name})}},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		ConnState: f.track,
	}
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(tb)
	f.url = "https://" + listener.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.server.ServeTLS(listener, "", "") // it is closed
	}()
	tb.Cleanup(func() {
		f.Pass()
		f.server.Close()
		<-done
		transport.CloseIdleConnections()
	})
	return f
}

// URL is where clients that are to suffer the faults are sent.
func (f *Front) URL() string { return f.url }

// Answer answers every request with the status, and with a body that is not
// the API server's, as a gateway before one that is away does.
func (f *Front) Answer(status int) { f.AnswerAt("", status) }

// AnswerAt is Answer for one path.
func (f *Front) AnswerAt(path string, status int) {
	f.set(func() { f.at, f.answer = path, status })
}

// HangWatches keeps back what watches bring, those that are open and those to
// come, without an error. Everything else passes.
func (f *Front) HangWatches() {
	f.set(func() {
		if f.still == nil {
			f.still = make(chan struct{})
		}
	})
}

// Cut breaks all connections, and every new one.
func (f *Front) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = true
	for conn := range f.open {
		conn.Close()
	}
}

// Pass ends all faults. What hung goes on.
func (f *Front) Pass() {
	f.set(func() {
		f.answer, f.cut = 0, false
		if f.still != nil {
			close(f.still)
			f.still = nil
		}
	})
}

func (f *Front) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *Front) track(conn net.Conn, state http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch state {
	case http.StateNew:
		f.open[conn] = struct{}{}
		if f.cut {
			conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		delete(f.open, conn)
	}
}

func (f *Front) faulty(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		status, here := f.answer, f.at == "" || f.at == r.URL.Path
		f.mu.Unlock()
		if status != 0 && here {
			http.Error(w, http.StatusText(status), status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (f *Front) modify(r *http.Response) error {
	if r.Request.URL.Query().Get("watch") != "" {
		r.Body = &watchBody{ReadCloser: r.Body, front: f, gone: r.Request.Context().Done()}
	}
	return nil
}

// watchBody is the answer to a watch.
type watchBody struct {
	io.ReadCloser
	front *Front
	gone  <-chan struct{} // closed when the client has left
}

func (b *watchBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.front.mu.Lock()
	still := b.front.still
	b.front.mu.Unlock()
	if still != nil {
		select {
		case <-still:
		case <-b.gone:
		}
	}
	return n, err
}
