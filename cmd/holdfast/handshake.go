package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// alertWait is how long a server that turns a client certificate away has to
// say so: in TLS 1.3 it does after the handshake.
const alertWait = time.Second

// handshake tries TLS with each endpoint, and returns why it will not do. To
// etcd's client a certificate that does not fit is a server that is away; but
// no waiting puts it right. It returns nil where nothing can be said.
func handshake(ctx context.Context, cfg state.Config) error {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	if cfg.CACertFile != "" {
		pem, err := os.ReadFile(cfg.CACertFile)
		if err != nil {
			return nil
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	if cfg.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil
		}
		config.Certificates = []tls.Certificate{pair}
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	for _, endpoint := range cfg.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "https" {
			continue
		}
		if err := handshakeAt(ctx, u.Host, config); err != nil {
			return fmt.Errorf("etcd at %s: %w: check --cacert, --cert, --key and the endpoint's name", endpoint, err)
		}
	}
	return nil
}

// handshakeAt returns nil for a server that is away too.
func handshakeAt(ctx context.Context, address string, config *tls.Config) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil
	}
	defer conn.Close()
	host, _, _ := net.SplitHostPort(address)
	config = config.Clone()
	config.ServerName = host
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return definite(err)
	}
	_ = secured.SetReadDeadline(time.Now().Add(alertWait))
	_, err = secured.Read(make([]byte, 1))
	return definite(err)
}

// definite keeps the errors of TLS itself: not a timeout, nor a connection that broke.
func definite(err error) error {
	var (
		verification *tls.CertificateVerificationError
		alert        tls.AlertError
		plain        tls.RecordHeaderError
		remote       *net.OpError
	)
	switch {
	case errors.As(err, &verification), errors.As(err, &alert), errors.As(err, &plain):
		return err
	case errors.As(err, &remote) && remote.Op == "remote error":
		return err
	}
	return nil
}
