package statetest

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/uuid"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"google.golang.org/grpc"

	"github.com/holdfast-storage/holdfast/state/embedded"
)

// settings are what a server is started with, in this process or in its own.
type settings struct {
	dir, client       string // the data folder, and the address for clients
	peer              string // the address for other members; empty: an only member
	initial           string // the cluster's members
	token             string // what makes a cluster's ID its own
	election, authTTL time.Duration
	quota             int64
	authority         *Authority // whose certificates it shows and wants; nil: no TLS. Of processes only
	versions          []string   // what the members say that they are; none: what they are
}

// Option changes a server that Start or StartCluster starts.
type Option func(*settings)

// WithElectionTimeout sets the election timeout. It takes the smallest TTL of
// a lease with it, 1.5 election timeouts in whole seconds: the default of 1 s
// makes that 2 s, as on a default etcd, and anything up to 666 ms makes it 1 s.
func WithElectionTimeout(d time.Duration) Option { return func(s *settings) { s.election = d } }

// WithQuota sets the size of the database, in bytes, at which etcd raises
// NOSPACE. A new database is some 20 kB.
func WithQuota(bytes int64) Option { return func(s *settings) { s.quota = bytes } }

// WithAuthTokenTTL sets how long a login lasts, in whole seconds: by default
// five minutes, longer than a test likes to wait for its end.
func WithAuthTokenTTL(d time.Duration) Option { return func(s *settings) { s.authTTL = d } }

// WithVersions has the members, in their order, say that they are other
// versions than they are, to whoever asks for their status. They always run in
// this process.
func WithVersions(versions ...string) Option { return func(s *settings) { s.versions = versions } }

func newSettings(opts []Option) (settings, error) {
	dir, err := dataFolder()
	s := settings{
		dir: dir, token: uuid.NewString(),
		election: time.Second, authTTL: 5 * time.Minute, quota: embedded.DefaultQuotaBytes,
	}
	for _, opt := range opts {
		opt(&s)
	}
	return s, err
}

// dataFolder makes a folder in memory where the system has /dev/shm.
func dataFolder() (string, error) {
	const memory, pattern = "/dev/shm", "holdfast-etcd-"
	if dir, err := os.MkdirTemp(memory, pattern); err == nil {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", pattern)
	if err != nil {
		return "", fmt.Errorf("statetest: make a data folder: %w", err)
	}
	return dir, nil
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func httpURL(address string) url.URL { return url.URL{Scheme: "http", Host: address} }

func memberName(peer string) string { return "member-" + peer }

func (s settings) endpoint() string {
	if s.authority != nil {
		return "https://" + s.client
	}
	return "http://" + s.client
}

// embedded is how a server in this process is told of s.
func (s settings) embedded() embedded.Config {
	return embedded.Config{
		Dir:               s.dir,
		ListenClient:      s.client,
		QuotaBytes:        s.quota,
		HeartbeatInterval: s.election / 10,
		ElectionTimeout:   s.election,
		UnsafeNoFsync:     true,
		Logger:            slog.New(slog.DiscardHandler), // a slow machine makes etcd warn a lot
		Tune:              s.tune,
	}
}

func (s settings) tune(ec *embed.Config) {
	ec.BcryptCost = bcryptCost
	ec.AuthTokenTTL = uint(s.authTTL / time.Second)
	if s.peer != "" {
		ec.Name = memberName(s.peer)
		ec.ListenPeerUrls = []url.URL{httpURL(s.peer)}
		ec.AdvertisePeerUrls = ec.ListenPeerUrls
		ec.InitialCluster, ec.InitialClusterToken = s.initial, s.token
		ec.SnapshotCatchUpEntries = etcdserver.DefaultSnapshotCatchUpEntries
	}
	if len(s.versions) > 0 {
		ec.GRPCAdditionalServerOptions = append(ec.GRPCAdditionalServerOptions, grpc.ChainUnaryInterceptor(s.claimVersion))
	}
}

func (s settings) claimVersion(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	answer, err := handle(ctx, req)
	if status, ok := answer.(*pb.StatusResponse); ok {
		status.Version = s.versions[0]
	}
	return answer, err
}

// bcryptCost is bcrypt's least: hashing is no part of any test.
const bcryptCost = 4

// founding are the flags that make the data, of an etcd and of etcdutl.
func (s settings) founding() []string {
	peer, initial := s.peer, s.initial
	if peer == "" {
		peer = loopback(0) // nobody dials it
		initial = memberName(peer) + "=http://" + peer
	}
	return []string{
		"--name=" + memberName(peer), "--data-dir=" + s.dataDir(), "--initial-advertise-peer-urls=http://" + peer,
		"--initial-cluster=" + initial, "--initial-cluster-token=" + s.token,
	}
}

// dataDir is where a process has its data, apart from its log.
func (s settings) dataDir() string { return filepath.Join(s.dir, "data") }

// flags is how a process of any supported version is told of s.
func (s settings) flags() []string {
	peer := s.peer
	if peer == "" {
		peer = loopback(0)
	}
	flags := append(s.founding(),
		"--log-level=warn", "--unsafe-no-fsync", "--listen-peer-urls=http://"+peer,
		"--listen-client-urls="+s.endpoint(), "--advertise-client-urls="+s.endpoint(),
		fmt.Sprintf("--heartbeat-interval=%d", (s.election/10).Milliseconds()),
		fmt.Sprintf("--election-timeout=%d", s.election.Milliseconds()),
		fmt.Sprintf("--quota-backend-bytes=%d", s.quota),
		fmt.Sprintf("--auth-token-ttl=%d", s.authTTL/time.Second),
		fmt.Sprintf("--bcrypt-cost=%d", bcryptCost),
	)
	if a := s.authority; a != nil {
		flags = append(flags, "--cert-file="+a.Path("etcd.pem"), "--key-file="+a.Path("etcd-key.pem"),
			"--trusted-ca-file="+a.Path("ca.pem"), "--client-cert-auth")
	}
	return flags
}
