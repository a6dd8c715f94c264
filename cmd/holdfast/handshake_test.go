package main

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// What TLS says for certain is told at once; all else may be a server that is away.
func TestHandshake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeCertificates(t, dir)
	quiet := slog.NewLogLogger(slog.DiscardHandler, 0)
	server := func(tune func(*httptest.Server)) *httptest.Server {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = quiet
		tune(s)
		t.Cleanup(s.Close)
		return s
	}
	secured := server(func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() })
	plain := server(func(s *httptest.Server) { s.Start() })
	particular := server(func(s *httptest.Server) {
		s.EnableHTTP2 = true
		s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()}
		s.StartTLS()
	})
	ca := filepath.Join(dir, "right.pem")
	writePEM(t, ca, "CERTIFICATE", secured.Certificate().Raw)
	one, key := filepath.Join(dir, "one.pem"), filepath.Join(dir, "one-key.pem")

	for name, c := range map[string]struct {
		cfg  state.Config
		want string // part of the error; empty: none
	}{
		"fits":                {state.Config{Endpoints: []string{secured.URL}, CACertFile: ca}, ""},
		"unknown authority":   {state.Config{Endpoints: []string{secured.URL}, CACertFile: one}, "unknown authority"},
		"second of two":       {state.Config{Endpoints: []string{"https://127.0.0.1:1", secured.URL}, CACertFile: one}, secured.URL},
		"no TLS there":        {state.Config{Endpoints: []string{strings.Replace(plain.URL, "http", "https", 1)}, CACertFile: ca}, "does not look like a TLS handshake"},
		"no certificate":      {state.Config{Endpoints: []string{particular.URL}, CACertFile: ca}, "certificate"},
		"another certificate": {state.Config{Endpoints: []string{particular.URL}, CACertFile: ca, CertFile: one, KeyFile: key}, "certificate"},
		"away":                {state.Config{Endpoints: []string{"https://127.0.0.1:1"}, CACertFile: ca}, ""},
		"http":                {state.Config{Endpoints: []string{plain.URL}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.DialTimeout = 30 * time.Second
			err := handshake(t.Context(), c.cfg)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("handshake: %v, want none", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("handshake: %v, want one with %q", err, c.want)
			}
		})
	}
}
