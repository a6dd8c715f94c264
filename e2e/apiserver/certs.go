package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a certificate authority of one API server.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(tb testing.TB, name string) *authority {
	tb.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(tb)
	template := certificate(tb, pkix.Name{CommonName: name})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der := must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))(tb)
	cert := must(x509.ParseCertificate(der))(tb)
	return &authority{cert: cert, key: key, pem: pemOf("CERTIFICATE", der)}
}

// issue makes a certificate for a server on loopback, or for a client.
func (a *authority) issue(tb testing.TB, subject pkix.Name) (certPEM, keyPEM []byte) {
	tb.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(tb)
	template := certificate(tb, subject)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.IPAddresses, template.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key))(tb)
	raw := must(x509.MarshalPKCS8PrivateKey(key))(tb)
	return pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", raw)
}

// pair is issue as crypto/tls takes it.
func (a *authority) pair(tb testing.TB, subject pkix.Name) tls.Certificate {
	tb.Helper()
	return must(tls.X509KeyPair(a.issue(tb, subject)))(tb)
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// signingKey is what service account tokens are signed with.
func signingKey(tb testing.TB) []byte {
	tb.Helper()
	key := must(rsa.GenerateKey(rand.Reader, 2048))(tb)
	return pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))(tb))
}

func certificate(tb testing.TB, subject pkix.Name) *x509.Certificate {
	tb.Helper()
	serial := must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)))(tb)
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// write puts a file into a folder, for its owner alone, and returns its path.
func write(tb testing.TB, dir, name string, data []byte) string {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// must is for what fails only where the machine does.
func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}
