package embedded_test

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/holdfast-storage/holdfast/state/embedded"
)

func TestConfig_Defaults(t *testing.T) {
	server := start(t, embedded.Config{Dir: t.TempDir()})
	client := connect(t, server.Endpoint())
	status, err := client.Status(within(t), server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	if status.DbSizeQuota != embedded.DefaultQuotaBytes {
		t.Errorf("quota %d, want %d", status.DbSizeQuota, embedded.DefaultQuotaBytes)
	}
	lease, err := client.Grant(within(t), 1)
	if err != nil || lease.TTL != 2 {
		t.Errorf("smallest lease: %v, %v, want 2 s", lease, err)
	}
	running := server.Etcd().Config()
	if running.AutoCompactionMode != embed.CompactorModePeriodic || running.AutoCompactionRetention != "1h0m0s" {
		t.Errorf("compaction %s %s, want periodic 1h0m0s", running.AutoCompactionMode, running.AutoCompactionRetention)
	}
	members, err := client.MemberList(within(t))
	if err != nil || len(members.Members) != 1 || members.Members[0].ClientURLs[0] != server.Endpoint() {
		t.Errorf("members %v, %v, want one that is reached at %s", members, err, server.Endpoint())
	}
}

func TestConfig_EachFieldHasAnEffect(t *testing.T) {
	var log bytes.Buffer
	cfg := embedded.Config{
		Dir:             t.TempDir(),
		ListenClient:    "0.0.0.0:0",
		QuotaBytes:      100 << 20,
		ElectionTimeout: 3 * time.Second, HeartbeatInterval: 50 * time.Millisecond,
		Tune:   func(ec *embed.Config) { ec.Name, ec.InitialCluster = "tuned", "tuned=http://127.0.0.1:0" },
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}
	server := start(t, cfg)
	if !strings.HasPrefix(server.Endpoint(), "http://127.0.0.1:") {
		t.Errorf("endpoint %s, want one that can be dialled", server.Endpoint())
	}
	if !strings.Contains(log.String(), "open to the network") {
		t.Errorf("no warning of an open etcd in the log:\n%s", &log)
	}
	if got := server.Etcd().Config().TickMs; got != 50 {
		t.Errorf("heartbeat every %d ms, want 50", got)
	}
	client := connect(t, server.Endpoint())
	status, err := client.Status(within(t), server.Endpoint())
	if err != nil || status.DbSizeQuota != cfg.QuotaBytes {
		t.Errorf("status %v, %v, want a quota of %d", status, err, cfg.QuotaBytes)
	}
	lease, err := client.Grant(within(t), 1)
	if err != nil || lease.TTL != 5 {
		t.Errorf("smallest lease: %v, %v, want 5 s", lease, err)
	}
	members, err := client.MemberList(within(t))
	if err != nil || members.Members[0].Name != "tuned" {
		t.Errorf("members %v, %v, want one that is called tuned", members, err)
	}
}

func TestStart_SaysWhatIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct {
		name string
		cfg  embedded.Config
		want []string
	}{
		{"no folder", embedded.Config{}, []string{"Dir is empty"}},
		{"negative quota", embedded.Config{Dir: t.TempDir(), QuotaBytes: -1}, []string{"QuotaBytes", "-1"}},
		{"short election", embedded.Config{Dir: t.TempDir(), ElectionTimeout: time.Millisecond}, []string{"ElectionTimeout"}},
		{"no port", embedded.Config{Dir: t.TempDir(), ListenClient: "127.0.0.1"}, []string{`"127.0.0.1"`, "host:port"}},
		{"not a port", embedded.Config{Dir: t.TempDir(), ListenClient: "127.0.0.1:99999"}, []string{"127.0.0.1:99999"}},
		{"a host name", embedded.Config{Dir: t.TempDir(), ListenClient: "example.invalid:2379"}, []string{"example.invalid", "IP address"}},
		{"a taken port", embedded.Config{Dir: t.TempDir(), ListenClient: taken.Addr().String()}, []string{taken.Addr().String(), "address already in use"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.cfg.ListenClient == "" {
				test.cfg.ListenClient = "127.0.0.1:0"
			}
			refuses(t, test.cfg, test.want...)
		})
	}
}

// refuses fails the test unless Start gives one line that holds every one of
// want, before long.
func refuses(t *testing.T, cfg embedded.Config, want ...string) {
	t.Helper()
	began := time.Now()
	server, err := embedded.Start(within(t), cfg)
	if err == nil {
		server.Close()
		t.Fatal("it started")
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v to say so", took)
	}
	for _, part := range append(want, "embedded etcd") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
}
