package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"

	"github.com/holdfast-storage/holdfast/state/internal/zaplog"
)

const (
	// DefaultListenClient is where clients are served unless Config says otherwise.
	DefaultListenClient = "127.0.0.1:2379"
	// DefaultQuotaBytes is the greatest quota that etcd's documentation
	// recommends. The ledger's records are small, and a full quota stops
	// every write: so there is no reason to take less.
	DefaultQuotaBytes int64 = 8 << 30
	// CompactionRetention is how much history is kept, at least. A watch that
	// was cut off finds its place again within it and need not list anew: an
	// hour is far longer than any reconnect, and short enough that history
	// does not outgrow the ledger.
	CompactionRetention = time.Hour
)

// memberName and peerURL go into the data folder when it is made, and are the
// same ever after. A single member has no peers: nothing listens on the peer
// URL and nothing dials it, so that no port can be taken or have moved at a
// restart. Port 0 says so to whoever reads it in a member list.
const (
	memberName = "holdfast"
	peerURL    = "http://127.0.0.1:0"
)

// catchUpEntries bounds the raft log that is kept in memory. etcd keeps 5,000
// entries for followers that lag; a single member has none, and a batch of
// attaches is an entry of some ten kilobytes.
const catchUpEntries = 100

// handshakeTimeout bounds how long a connection may stay silent at its start,
// and so for how long one can hold up a shutdown.
const handshakeTimeout = 2 * time.Second

// Config says where an embedded etcd keeps its data and how it is reached.
// Only Dir is required.
type Config struct {
	// Dir is the data folder; it is made when it is not there. One process at
	// a time can use it.
	Dir string
	// ListenClient is the address, host:port, that clients are served on; the
	// host is an IP address or localhost. Port 0 takes a free one. Anything
	// but loopback is open to the network with neither TLS nor passwords.
	// Default: DefaultListenClient.
	ListenClient string
	// QuotaBytes is the size of the database, in bytes, at which etcd refuses
	// writes. Default: DefaultQuotaBytes.
	QuotaBytes int64
	// HeartbeatInterval and ElectionTimeout are etcd's, with its limits: the
	// second at least five times the first, whole milliseconds. The smallest
	// TTL of a lease is 1.5 election timeouts, rounded up to whole seconds.
	// Default: 100 ms and 1 s, hence 2 s.
	HeartbeatInterval, ElectionTimeout time.Duration
	// UnsafeNoFsync leaves writes to the kernel's good will: a crash of the
	// machine loses data. For tests only.
	UnsafeNoFsync bool
	// Tune, if set, changes etcd's own configuration last of all. It is for
	// tests that need a cluster of several members or odd limits, and for
	// what this Config has no field for.
	Tune func(*embed.Config)
	// Logger gets etcd's warnings and errors. Default: slog.Default().
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.ListenClient == "" {
		c.ListenClient = DefaultListenClient
	}
	if c.QuotaBytes == 0 {
		c.QuotaBytes = DefaultQuotaBytes
	}
	if c.HeartbeatInterval == 0 {
		c.HeartbeatInterval = 100 * time.Millisecond
	}
	if c.ElectionTimeout == 0 {
		c.ElectionTimeout = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if c.Dir == "" {
		return errors.New("embedded etcd: Dir is empty: expected the path of a data folder")
	}
	if c.QuotaBytes < 0 {
		return fmt.Errorf("embedded etcd: QuotaBytes is %d: expected a positive number of bytes", c.QuotaBytes)
	}
	if c.HeartbeatInterval < time.Millisecond || c.ElectionTimeout < 5*c.HeartbeatInterval {
		return fmt.Errorf("embedded etcd: ElectionTimeout %v and HeartbeatInterval %v: expected at least 1ms of heartbeat, and five of them in an election timeout",
			c.ElectionTimeout, c.HeartbeatInterval)
	}
	return nil
}

// etcd returns the configuration of etcd itself, for a server whose clients
// reach it at listen.
func (c Config) etcd(listen netip.AddrPort) *embed.Config {
	ec := embed.NewConfig()
	ec.Name, ec.Dir = memberName, c.Dir
	ec.ListenClientUrls = []url.URL{{Scheme: "http", Host: listen.String()}}
	ec.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: reachable(listen).String()}}
	// HTTP (health, metrics) apart from gRPC, on a free port of loopback that
	// nobody is told of: on one port etcd reads a connection's first bytes to
	// tell the two apart, and its shutdown waits for ever for a connection
	// that never sends any.
	ec.ListenClientHttpUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	ec.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ConnectionTimeout(handshakeTimeout)}
	peer, _ := url.Parse(peerURL)
	ec.ListenPeerUrls, ec.AdvertisePeerUrls = nil, []url.URL{*peer}
	ec.InitialCluster = ec.InitialClusterFromName(memberName)
	// The cluster's ID is made from this token and the peer URLs. With the
	// default token every embedded etcd would have the same ID, and a client
	// could not see that it talks to another one.
	ec.InitialClusterToken = uuid.NewString()
	ec.QuotaBackendBytes = c.QuotaBytes
	ec.AutoCompactionMode = embed.CompactorModePeriodic
	ec.AutoCompactionRetention = CompactionRetention.String()
	ec.SnapshotCatchUpEntries = catchUpEntries
	ec.TickMs = uint(c.HeartbeatInterval.Milliseconds())
	ec.ElectionMs = uint(c.ElectionTimeout.Milliseconds())
	ec.UnsafeNoFsync = c.UnsafeNoFsync
	ec.EnableGRPCGateway = false // JSON over HTTP: nobody asks for it, and it dials the server a second time
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zaplog.New(c.Logger.Handler(), zapcore.WarnLevel, zaplog.Without(onPurpose...)))
	if c.Tune != nil {
		c.Tune(ec)
	}
	return ec
}

// onPurpose lists what etcd warns of though it is meant to be so.
var onPurpose = []string{
	// The tokens of a server that is reached over loopback.
	"simple token is not cryptographically signed",
	// Said at each shutdown, of each listener. While the server is meant to
	// run, the same error comes out of Err.
	"setting up serving from embedded etcd failed.",
}

// reachable turns an address to listen on into one to connect to: "every
// interface" is no address that a client can dial.
func reachable(listen netip.AddrPort) netip.AddrPort {
	switch addr := listen.Addr(); {
	case addr == netip.IPv4Unspecified():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), listen.Port())
	case addr == netip.IPv6Unspecified():
		return netip.AddrPortFrom(netip.IPv6Loopback(), listen.Port())
	default:
		return listen
	}
}

// resolveListen checks address, and takes a free port where it asks for one.
// That it can be listened on is found out here, by doing it, since etcd logs
// half a page when it cannot.
func resolveListen(address string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("embedded etcd: listen address %q: expected host:port, like %s", address, DefaultListenClient)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("embedded etcd: listen address %q: expected an IP address or localhost before the port", address)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return netip.AddrPort{}, listenError(address, err)
	}
	defer listener.Close()
	// The address as it was given: the listener calls 0.0.0.0 [::].
	return netip.AddrPortFrom(addr, uint16(listener.Addr().(*net.TCPAddr).Port)), nil
}

func listenError(address string, err error) error {
	var syscallErr *os.SyscallError
	if errors.As(err, &syscallErr) {
		err = syscallErr.Err
	}
	return fmt.Errorf("embedded etcd: cannot listen on %s: %w (another process may use the port: expected a free one, or port 0 for any)", address, err)
}
