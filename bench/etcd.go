package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-storage/holdfast/state"
)

// connect makes a plain client, as whoever has an etcd to use would.
func connect(ctx context.Context, cfg state.Config) (*clientv3.Client, error) {
	plain := clientv3.Config{
		Endpoints: cfg.Endpoints, Username: cfg.Username, Password: cfg.Password,
		DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
	}
	if cfg.PasswordFile != "" {
		password, err := state.ReadPassword(cfg.PasswordFile)
		if err != nil {
			return nil, err
		}
		plain.Password = password
	}
	if cfg.CACertFile != "" || cfg.CertFile != "" {
		var err error
		if plain.TLS, err = certificates(cfg); err != nil {
			return nil, err
		}
	}
	client, err := clientv3.New(plain)
	if err != nil {
		return nil, fmt.Errorf("etcd at %v: %w", cfg.Endpoints, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := client.Get(ctx, cfg.Prefix, clientv3.WithCountOnly()); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("etcd at %v: %w", cfg.Endpoints, err)
	}
	return client, nil
}

func certificates(cfg state.Config) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CACertFile != "" {
		pem, err := os.ReadFile(cfg.CACertFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: expected certificates in PEM, and there is none in it", cfg.CACertFile)
		}
	}
	if cfg.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// claimKey is put below the prefix of a run for as long as it takes.
const claimKey = "holdfast-bench-run"

// claim keeps a benchmark from writing among, and then deleting, what is
// somebody's: also what another run is about to write.
func claim(ctx context.Context, client *clientv3.Client, prefix string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	empty := clientv3.Compare(clientv3.CreateRevision(prefix), "=", 0).WithPrefix()
	found, err := client.Txn(ctx).If(empty).
		Then(clientv3.OpPut(path.Join(prefix, claimKey), time.Now().UTC().Format(time.RFC3339))).
		Else(clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(1))).
		Commit()
	switch {
	case err != nil:
		return fmt.Errorf("looking below %s: %w", prefix, err)
	case found.Succeeded:
		return nil
	}
	there := found.Responses[0].GetResponseRange()
	return fmt.Errorf("the prefix %s is not empty: there are %d keys below it, such as %q; expected a prefix that a benchmark may empty",
		prefix, there.Count, there.Kvs[0].Key)
}

// A delete of a million keys would keep an etcd from doing anything else for
// seconds, so one takes wipePage. For a list with a limit etcd counts all keys
// behind it, so one takes many pages' keys.
const wipePage, wipeList = 10_000, 200_000

// Wipe deletes all below a prefix, a page at a time.
func Wipe(ctx context.Context, client *clientv3.Client, prefix string) error {
	return wipe(ctx, client, prefix, wipePage, wipeList)
}

func wipe(ctx context.Context, client *clientv3.Client, prefix string, page int, list int64) error {
	end := clientv3.GetPrefixRangeEnd(prefix)
	for from := prefix; ; {
		found, err := client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(list))
		if err != nil {
			return err
		}
		if len(found.Kvs) == 0 {
			if from == prefix {
				return nil
			}
			from = prefix // once more, for what was written meanwhile
			continue
		}
		for keys := range slices.Chunk(found.Kvs, page) {
			after := string(keys[len(keys)-1].Key) + "\x00"
			if _, err := client.Delete(ctx, from, clientv3.WithRange(after)); err != nil {
				return err
			}
			// Until a compaction etcd walks over what was deleted, so not from the begin.
			from = after
		}
	}
}

// compact ends all history, and returns once it is gone.
func compact(ctx context.Context, client *clientv3.Client) error {
	now, err := client.Get(ctx, "/", clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	_, err = client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	return err
}
