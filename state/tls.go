package state

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc/credentials"
)

// tlsFiles are the PEM files that connections are secured by. Each connection
// reads them anew, so that what is rotated on disk is used without a restart.
// Files that do not do, as in the middle of a rotation, leave those in use that
// did last.
type tlsFiles struct {
	ca, cert, key string
	log           *slog.Logger

	mu    sync.Mutex
	roots *x509.CertPool // nil: the system's
	pair  *tls.Certificate
	said  map[string]string // by file, what was warned of and still stands
}

// newTLSFiles is nil where the configuration names no file. At the start files
// that do not do are an ErrInvalid.
func newTLSFiles(cfg Config) (*tlsFiles, error) {
	if cfg.CACertFile == "" && cfg.CertFile == "" {
		return nil, nil
	}
	f := &tlsFiles{ca: cfg.CACertFile, cert: cfg.CertFile, key: cfg.KeyFile, log: cfg.Logger, said: map[string]string{}}
	roots, err := readRoots(f.ca)
	if err == nil {
		f.roots = roots
		f.pair, err = readPair(f.cert, f.key)
	}
	if err != nil {
		return nil, fmt.Errorf("%w TLS files (CA %q, certificate %q, key %q): %w", ErrInvalid, f.ca, f.cert, f.key, err)
	}
	return f, nil
}

// config is that of one connection.
func (f *tlsFiles) config() *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	roots, err := readRoots(f.ca)
	if f.does(f.ca, err) {
		f.roots = roots
	}
	pair, err := readPair(f.cert, f.key)
	if f.does(f.cert, err) {
		f.pair = pair
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: f.roots}
	if pair := f.pair; pair != nil {
		// In Certificates it would be held back from a server that names other CAs
		// than the one it is of, and that server's refusal would not say why.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	return c
}

// does says whether a file could be read, and warns once of each reason why not:
// connections are tried often while a server is away.
func (f *tlsFiles) does(file string, err error) bool {
	switch {
	case err == nil:
		delete(f.said, file)
	case f.said[file] != err.Error():
		f.said[file] = err.Error()
		f.log.Warn("TLS file cannot be used: what it held before stays in use", "file", file, "error", err)
	}
	return err == nil
}

func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: expected certificates in PEM, and there is none in it", file)
	}
	return roots, nil
}

func readPair(cert, key string) (*tls.Certificate, error) {
	if cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// reloading are transport credentials that read their files for each handshake.
type reloading struct {
	credentials.TransportCredentials // what is not of one connection
	files                            *tlsFiles
}

func newReloading(files *tlsFiles) *reloading {
	return &reloading{credentials.NewTLS(files.config()), files}
}

// ClientHandshake secures one connection.
func (r *reloading) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(r.files.config()).ClientHandshake(ctx, authority, conn)
}

// Clone is for gRPC, which makes one for each connection it keeps.
func (r *reloading) Clone() credentials.TransportCredentials {
	return &reloading{r.TransportCredentials.Clone(), r.files}
}
