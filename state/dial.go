package state

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-storage/holdfast/state/internal/zaplog"
)

const (
	// maxLeaseTTL is the longest TTL that etcd grants.
	maxLeaseTTL = 9_000_000_000 * time.Second
	// smallQuota: below etcd's own default an operator has probably not meant it.
	smallQuota = 2 << 30
	// manyRevisions without one compaction mean that nobody compacts.
	manyRevisions = 10_000
)

func dial(ctx context.Context, cfg Config) (*clientv3.Client, error) {
	files, err := newTLSFiles(cfg)
	if err != nil {
		return nil, err
	}
	settings := clientv3.Config{
		Endpoints:            cfg.Endpoints,
		Username:             cfg.Username,
		Password:             cfg.Password,
		DialTimeout:          cfg.DialTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		// A request that fails is reported by whoever sent it, not by the client too.
		Logger: zaplog.New(cfg.Logger.Handler(), zapcore.WarnLevel, zaplog.Without("retrying of unary invoker failed")),
		// The default would send a write again that was already applied.
		MaxUnaryRetries: 1,
		DialOptions:     []grpc.DialOption{grpc.WithChainUnaryInterceptor(bounded), grpc.WithChainStreamInterceptor(boundedStream)},
	}
	if files != nil {
		settings.DialOptions = append(settings.DialOptions, grpc.WithTransportCredentials(newReloading(files)))
	}
	if cfg.PasswordFile != "" {
		if settings.Password, err = ReadPassword(cfg.PasswordFile); err != nil {
			return nil, fmt.Errorf("%w password file: %w", ErrInvalid, err)
		}
		settings.DialOptions = append(settings.DialOptions, grpc.WithChainUnaryInterceptor((&login{file: cfg.PasswordFile, last: settings.Password}).intercept))
	}
	client, err := clientv3.New(settings)
	if err != nil {
		return nil, explain(cfg, err)
	}
	return client, nil
}

// explain makes the first error that etcd's client meets one that says what to look at.
func explain(cfg Config, err error) error {
	f, mapped := classify(err)
	where := strings.Join(cfg.Endpoints, ",")
	if f == refused {
		return fmt.Errorf("opening etcd at %s as user %q: %w", where, user(cfg), mapped)
	}
	return fmt.Errorf("%w at %s (endpoints, TLS files and network): %w", ErrUnavailable, where, err)
}

// user is whom etcd takes a connection to be: the user that is named, or else the
// common name of the certificate that is shown.
func user(cfg Config) string {
	if cfg.Username != "" || cfg.CertFile == "" {
		return cfg.Username
	}
	pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil || pair.Leaf == nil {
		return ""
	}
	return pair.Leaf.Subject.CommonName
}

// probe makes the first contact, and looks at what an operator should know of.
func (l *Ledger) probe(ctx context.Context) error {
	resp, err := l.client.Get(ctx, l.keys.ledger(), clientv3.WithKeysOnly())
	if err != nil {
		return explain(l.cfg, l.reason(err))
	}
	if err := l.observe(resp.Header, 0); err != nil {
		return err
	}
	l.warnOfClearText()
	if err := l.askMembers(ctx); err != nil {
		return err
	}
	if resp.Header.Revision > manyRevisions {
		if _, err := l.client.Get(ctx, l.keys.ledger(), clientv3.WithRev(1), clientv3.WithCountOnly()); err == nil {
			l.warn("etcd has %d revisions and was never compacted: set --auto-compaction-retention on it", resp.Header.Revision)
		}
	}
	return nil
}

// warnOfClearText says where passwords and records can be read on the way.
func (l *Ledger) warnOfClearText() {
	for _, e := range l.cfg.Endpoints {
		_, hostPort, _ := strings.Cut(e, "://")
		host, _, _ := net.SplitHostPort(hostPort)
		if address := net.ParseIP(host); l.cfg.Username == "" || !strings.HasPrefix(e, "http://") || host == "localhost" || address.IsLoopback() {
			continue
		}
		l.warn("etcd at %s is reached without TLS: the password of user %q can be read on the way; use https:// and a CA", e, l.cfg.Username)
	}
}

// reason finds out why nothing was reached. etcd's client waits for a connection
// until ctx ends, and then says only that it did; a call that does not wait says
// what the last try to connect met.
func (l *Ledger) reason(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, last := pb.NewKVClient(l.client.ActiveConnection()).Range(ctx,
		&pb.RangeRequest{Key: []byte(l.keys.ledger()), KeysOnly: true}, grpc.WaitForReady(false))
	if s, ok := status.FromError(last); ok && s.Code() == codes.Unavailable {
		return fmt.Errorf("%w: %s", err, s.Message())
	}
	return err
}

// askMembers asks every member for its status, all at once and not for long: one
// that is down must not use up the time for the first contact. It fails where
// one that answers is of an unsafe version.
func (l *Ledger) askMembers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.DialTimeout/4)
	defer cancel()
	endpoints := l.client.Endpoints()
	answers := make([]*clientv3.StatusResponse, len(endpoints))
	errs := make([]error, len(endpoints))
	var joined sync.WaitGroup
	for i, endpoint := range endpoints {
		joined.Go(func() { answers[i], errs[i] = l.client.Status(ctx, endpoint) })
	}
	joined.Wait()
	versions := make([]string, len(endpoints))
	for i, endpoint := range endpoints {
		if errs[i] != nil {
			l.warn("etcd member %s does not say its status: %v", endpoint, errs[i])
			continue
		}
		versions[i] = answers[i].Version
		l.judge(endpoint, answers[i])
	}
	return l.judgeVersions(endpoints, versions)
}

func (l *Ledger) judge(endpoint string, status *clientv3.StatusResponse) {
	switch {
	case status.DbSizeQuota > 0 && status.DbSizeQuota < smallQuota:
		l.warn("etcd member %s has a quota of %d MiB: set --quota-backend-bytes on it, at least %d MiB", endpoint, status.DbSizeQuota>>20, smallQuota>>20)
	case status.DbSizeQuota > 0 && status.DbSize > status.DbSizeQuota/5*4:
		l.warn("etcd member %s has used %d%% of its quota: compact and defragment it", endpoint, status.DbSize*100/status.DbSizeQuota)
	}
	if len(status.Errors) > 0 {
		l.warn("etcd member %s reports: %s", endpoint, strings.Join(status.Errors, "; "))
	}
}

func (l *Ledger) warn(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	l.warnings = append(l.warnings, line)
	l.log.Warn(line)
}

// findFloor asks etcd for a lease shorter than any it grants: the answer says
// what its shortest is.
func (l *Ledger) findFloor(ctx context.Context) error {
	var granted *clientv3.LeaseGrantResponse
	err := l.again(ctx, func(ctx context.Context) (*pb.ResponseHeader, error) {
		resp, err := l.client.Grant(ctx, 1)
		if err != nil {
			return nil, err
		}
		granted = resp
		return resp.ResponseHeader, nil
	})
	if errors.Is(err, ErrNoSpace) {
		l.warn("etcd is out of space: its smallest lease TTL is not known, and nothing can be attached or detached")
		return nil
	}
	if err != nil {
		return fmt.Errorf("granting a lease: %w", err)
	}
	l.floor = time.Duration(granted.TTL) * time.Second
	// Left to itself it ends within the floor; revoking only tidies.
	_, _ = l.client.Revoke(ctx, granted.ID)
	return nil
}
