package state

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// logged collects what is logged.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func securedBy(a *statetest.Authority, client string) func(*Config) {
	return func(c *Config) {
		c.CACertFile, c.CertFile, c.KeyFile = a.Path("ca.pem"), a.Path(client+".pem"), a.Path(client+"-key.pem")
		c.DialTimeout = 30 * time.Second
	}
}

// CA, etcd's certificate and our own are all replaced while a ledger and its watch
// are open: the next connection takes the new ones, and nothing is restarted.
func TestRotatedCertificates(t *testing.T) {
	t.Parallel()
	a := statetest.NewAuthority(t)
	etcd := statetest.StartSecureProcess(t, statetest.Binary(t, "etcd"), a)
	a.Client("first")
	l := openAt(t, etcd.Endpoints(), "/p/", securedBy(a, "first"), func(c *Config) { c.GracePeriod = 2 * time.Minute })
	c := asCluster(t, l, "a")
	attached(t, c, "before", "n1")
	seen := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	watch := make(chan error, 1)
	go func() {
		watch <- l.Watch(ctx, ScopeAttachments("a"), func(b Batch) error {
			for _, e := range b.Events {
				seen <- e.Record.(Attachment).Volume
			}
			return nil
		})
	}()
	saw(t, seen, "before")

	etcd.Kill()
	a.Renew()
	a.Server("etcd")
	a.Client(statetest.RootUser)
	a.Client("first")
	etcd.Start(t) // reads its CA only then
	attached(t, c, "after", "n1")
	saw(t, seen, "after")
	cancel()
	mustBe(t, <-watch, context.Canceled)
}

func saw(t *testing.T, seen <-chan string, volume string) {
	t.Helper()
	for {
		select {
		case v := <-seen:
			if v == volume {
				return
			}
		case <-time.After(time.Minute):
			t.Fatalf("the watch has not shown %q", volume)
		}
	}
}

// handshake secures a connection to a server of the given configuration, which
// the client takes to be at an address.
func handshake(t *testing.T, files *tlsFiles, address string, server *tls.Config) error {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	mustBe(t, err, nil)
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			defer conn.Close()
			secured := tls.Server(conn, server)
			err = secured.Handshake()
			_ = secured.Close()
		}
		served <- err
	}()
	plain, err := net.Dial("tcp", listener.Addr().String())
	mustBe(t, err, nil)
	defer plain.Close()
	mustBe(t, plain.SetDeadline(time.Now().Add(time.Minute)), nil)
	conn, _, err := newReloading(files).Clone().ClientHandshake(t.Context(), address, plain)
	if err != nil {
		plain.Close()
		<-served
		return err
	}
	_, _ = conn.Read(make([]byte, 1)) // in TLS 1.3 the server speaks last
	return <-served
}

const local = "127.0.0.1:2379"

// server is one that asks for a client certificate, and notes whose it gets.
func server(t *testing.T, a *statetest.Authority, seen *string) *tls.Config {
	t.Helper()
	pair, err := readPair(a.Path("etcd.pem"), a.Path("etcd-key.pem"))
	mustBe(t, err, nil)
	return &tls.Config{
		Certificates: []tls.Certificate{*pair}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2"},
		VerifyConnection: func(s tls.ConnectionState) error {
			*seen = s.PeerCertificates[0].SerialNumber.String()
			return nil
		},
	}
}

// Files that are broken, as in the middle of a rotation, leave the last good ones
// in use, with one warning; whole ones are taken by the next connection.
func TestTLSFiles(t *testing.T) {
	a := statetest.NewAuthority(t)
	a.Server("etcd")
	a.Client("app")
	log := &logged{}
	cfg := Config{Logger: log.logger()}
	securedBy(a, "app")(&cfg)
	files, err := newTLSFiles(cfg)
	mustBe(t, err, nil)
	var first, second, last string
	mustBe(t, handshake(t, files, local, server(t, a, &first)), nil)

	for _, file := range []string{"ca.pem", "app.pem"} {
		whole, err := os.ReadFile(a.Path(file))
		mustBe(t, err, nil)
		mustBe(t, os.WriteFile(a.Path(file), whole[:len(whole)/2], 0o600), nil)
		for range 2 {
			mustBe(t, handshake(t, files, local, server(t, a, &second)), nil)
		}
		if n := strings.Count(log.String(), file); second != first || n == 0 || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("with half of %s: certificate %s after %s, and logged %q; want the same, and one warning", file, second, first, log)
		}
		mustBe(t, os.WriteFile(a.Path(file), whole, 0o600), nil)
		mustBe(t, handshake(t, files, local, server(t, a, &second)), nil)
		log.buf.Reset()
	}

	a.Client("app")
	mustBe(t, handshake(t, files, local, server(t, a, &last)), nil)
	if last == first {
		t.Error("the certificate that was replaced is still shown")
	}
	old := server(t, a, &last)
	a.Renew()
	if err := handshake(t, files, local, old); err == nil {
		t.Error("a server of the CA that was replaced is still trusted")
	}
	a.Server("etcd")
	mustBe(t, handshake(t, files, local, server(t, a, &last)), nil)
}

// Nothing below TLS 1.2, and no server by another name or address than asked for.
func TestTLSRefusals(t *testing.T) {
	a := statetest.NewAuthority(t)
	a.Server("etcd")
	a.Client("app")
	for name, withCert := range map[string]bool{"with a client certificate": true, "with a CA only": false} {
		cfg := Config{Logger: slog.New(slog.DiscardHandler)}
		securedBy(a, "app")(&cfg)
		if !withCert {
			cfg.CertFile, cfg.KeyFile = "", ""
		}
		files, err := newTLSFiles(cfg)
		mustBe(t, err, nil)
		var ignored string
		old := server(t, a, &ignored)
		old.ClientAuth = tls.NoClientCert
		old.VerifyConnection = nil
		mustBe(t, handshake(t, files, local, old), nil)
		old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		if err := handshake(t, files, local, old); err == nil || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%s: a server that speaks only TLS 1.1: %v", name, err)
		}
	}
	cfg := Config{Logger: slog.New(slog.DiscardHandler)}
	securedBy(a, "app")(&cfg)
	files, err := newTLSFiles(cfg)
	mustBe(t, err, nil)
	for _, address := range []string{"127.0.0.2:2379", "etcd.example.com:2379"} {
		err := handshake(t, files, address, server(t, a, new(string)))
		if _, is := errors.AsType[*tls.CertificateVerificationError](err); !is {
			t.Errorf("a certificate of another server than %s: %v", address, err)
		}
	}
}

// What is not there at the start is an error at the start, and so is what would
// look encrypted and not be.
func TestTLSConfig(t *testing.T) {
	a := statetest.NewAuthority(t)
	a.Client("app")
	for name, edit := range map[string]func(*Config){
		"no CA":          func(c *Config) { c.CACertFile = a.Path("nothing.pem") },
		"no certificate": func(c *Config) { c.CertFile = a.Path("ca-key.pem") },
		"a key alone":    func(c *Config) { c.CertFile = "" },
		"http":           func(c *Config) { c.Endpoints = []string{"http://127.0.0.1:1"} },
	} {
		cfg := Config{Endpoints: []string{"https://127.0.0.1:1"}, Logger: slog.New(slog.DiscardHandler)}
		securedBy(a, "app")(&cfg)
		edit(&cfg)
		if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
