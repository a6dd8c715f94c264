package state

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The defaults of a Config. docs/design.md tells what each wait is for.
const (
	DefaultPrefix           = "/holdfast/"
	DefaultGracePeriod      = 30 * time.Second
	DefaultQuarantine       = 40 * time.Second
	DefaultAttachmentTTL    = 15 * time.Minute
	DefaultMigrationWindow  = 5 * time.Minute
	DefaultJournalRetention = 7 * 24 * time.Hour
	DefaultElectionTTL      = 15 * time.Second
	DefaultDialTimeout      = 5 * time.Second
	DefaultRequestTimeout   = 5 * time.Second
)

// NoQuarantine is the Quarantine of a Config that has none at all.
const NoQuarantine time.Duration = -1

// Config says which ledger to open, and how. The zero value of every field
// but Endpoints has a default.
type Config struct {
	// Endpoints are etcd's client URLs, such as "https://10.0.0.1:2379".
	Endpoints []string
	// CACertFile, CertFile and KeyFile are PEM files for TLS; empty means none.
	// Each connection reads them anew, so they can be replaced at any time.
	CACertFile, CertFile, KeyFile string
	// Username and Password are for etcd's own authentication; empty means none.
	Username, Password string
	// PasswordFile is where the password stands, in place of Password. It is read
	// for each login: put a new one there first, then tell etcd.
	PasswordFile string
	// Prefix is what all keys begin with; default "/holdfast/".
	Prefix string
	// Driver is the CSI driver whose volumes the ledger covers. It goes on
	// record when the ledger is made; later another one is refused. Empty:
	// whatever is on record.
	Driver string

	// The waits. Zero means the default of the same name, a negative one is
	// ErrInvalid, and so is one below the server's smallest lease TTL.
	GracePeriod time.Duration
	// Quarantine may also be NoQuarantine.
	Quarantine       time.Duration
	AttachmentTTL    time.Duration
	MigrationWindow  time.Duration
	JournalRetention time.Duration
	ElectionTTL      time.Duration

	// DialTimeout bounds the first contact, RequestTimeout one request. A call
	// whose answer does not come is sent again for up to half a grace period.
	DialTimeout    time.Duration
	RequestTimeout time.Duration

	// MatchNodeUID makes an attach under another Node UID than the hold's a conflict.
	MatchNodeUID bool
	// AllowUnsafeEtcd opens an etcd older than the oldest safe version, with a
	// warning, in place of ErrUnsafeEtcd.
	AllowUnsafeEtcd bool
	// ReadOnly makes nothing anew at the start and refuses every write.
	ReadOnly bool
	// By is who writes, for the records; default the host's name.
	By string

	// Logger gets what no caller is told; default slog.Default().
	Logger *slog.Logger
	// Registerer gets the metrics; nil means none.
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if !strings.HasSuffix(c.Prefix, "/") {
		c.Prefix += "/"
	}
	for _, w := range c.waits() {
		if *w.value == 0 {
			*w.value = w.fallback
		}
	}
	if c.By == "" {
		c.By, _ = os.Hostname()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

type wait struct {
	name     string
	value    *time.Duration
	fallback time.Duration
	leased   bool
}

// waits lists the durations of c by the name that an error calls them.
func (c *Config) waits() []wait {
	return []wait{
		{"grace period", &c.GracePeriod, DefaultGracePeriod, true},
		{"quarantine", &c.Quarantine, DefaultQuarantine, true},
		{"attachment TTL", &c.AttachmentTTL, DefaultAttachmentTTL, true},
		{"migration window", &c.MigrationWindow, DefaultMigrationWindow, true},
		{"journal retention", &c.JournalRetention, DefaultJournalRetention, true},
		{"election TTL", &c.ElectionTTL, DefaultElectionTTL, true},
		{"dial timeout", &c.DialTimeout, DefaultDialTimeout, false},
		{"request timeout", &c.RequestTimeout, DefaultRequestTimeout, false},
	}
}

func (c Config) validate() error {
	if len(c.Endpoints) == 0 {
		return invalid("endpoints", "", "at least one etcd client URL, such as http://127.0.0.1:2379")
	}
	for _, e := range c.Endpoints {
		if _, host, secret := strings.Cut(e, "@"); secret {
			return invalid("endpoints", "…@"+host, "no user and password in it: endpoints are logged")
		}
		if !reachable(e) {
			return invalid("endpoints", e, "an etcd client URL, such as http://127.0.0.1:2379 or https://etcd.example.com:2379")
		}
	}
	for _, w := range c.waits() {
		if *w.value == NoQuarantine && w.value == &c.Quarantine {
			continue
		}
		if *w.value < 0 {
			return invalid(w.name, w.value.String(), "a duration above zero")
		}
		if w.leased && *w.value > maxLeaseTTL {
			return invalid(w.name, w.value.String(), fmt.Sprintf("at most %s, etcd's longest lease", maxLeaseTTL))
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return invalid("certificate", c.CertFile+c.KeyFile, "a certificate and its key, both or neither")
	}
	if c.Password != "" && c.PasswordFile != "" {
		return invalid("password file", c.PasswordFile, "a password or a file with it, not both")
	}
	return errors.Join(c.validateSecured(), validateText("by", c.By))
}

// validateSecured refuses what would look encrypted and not be.
func (c Config) validateSecured() error {
	for _, e := range c.Endpoints {
		if strings.HasPrefix(e, "http://") && (c.CACertFile != "" || c.CertFile != "") {
			return invalid("endpoints", e, "https://, since there are files for TLS")
		}
	}
	return nil
}

// reachable says whether an endpoint has a form that etcd's client takes: a URL,
// or a host and a port.
func reachable(endpoint string) bool {
	scheme, rest, isURL := strings.Cut(endpoint, "://")
	if !isURL {
		scheme, rest = "http", endpoint
	}
	switch scheme {
	case "unix", "unixs":
		return rest != ""
	case "http", "https":
		u, err := url.Parse(scheme + "://" + rest)
		return err == nil && u.Hostname() != "" && u.Path == "" && u.Port() != ""
	}
	return false
}

// validateFloor refuses the waits that etcd would silently make longer.
func (c Config) validateFloor(floor time.Duration) error {
	for _, w := range c.waits() {
		if w.leased && *w.value != NoQuarantine && *w.value < floor {
			return tooShort(w.name, *w.value, floor)
		}
	}
	return nil
}

func tooShort(name string, got, floor time.Duration) error {
	return invalid(name, got.String(), fmt.Sprintf("at least %s, this etcd's smallest lease TTL (1.5 election timeouts)", floor))
}
