package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/adopt"
	"github.com/holdfast-storage/holdfast/state"
)

// auditing lets an audit of nothing go on until the test ends, for its metrics.
func auditing(t *testing.T, registry prometheus.Registerer) {
	t.Helper()
	audited := make(chan struct{}, 1)
	a, err := adopt.NewAuditor(adopt.AuditorConfig{
		Cluster: "east", Every: time.Hour, Registerer: registry,
		Audit:   func(context.Context) (*adopt.Report, error) { return &adopt.Report{}, nil },
		Audited: func(*adopt.Report, error, time.Duration) { audited <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = a.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	<-audited
}

// An audit that goes on, as a process: it says what differs, outlives that the
// API server or etcd is away, and ends well.
func TestProcess_Audit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{})
	api := newStorageAPI()
	defer api.Close()
	change := func(line string) {
		t.Helper()
		if err := api.change(strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
	}
	config, err := api.kubeconfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cluster := []string{"--cluster", "east", "--kubeconfig", config, "--attacher", "csi.example.com"}
	// It may be there before the ledger is.
	audit, err := startChild(w.program, append([]string{"audit", "--watch", "--endpoints", w.etcd.Endpoint(), "--listen", "127.0.0.1:0",
		"--every", "50ms", "--settle", "10ms", "--dial-timeout", "1s", "--request-timeout", "1s", "--log-level", "info"}, cluster...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer audit.kill()
	readyz := func(code int, part string) {
		t.Helper()
		last := ""
		err := until(t.Context(), patience, fmt.Sprintf("/readyz answers %d with %q", code, part), func(ctx context.Context) (bool, error) {
			got, body, err := audit.get(ctx, "/readyz")
			last = body
			return err == nil && got == code && strings.Contains(body, part), nil
		})
		if err != nil {
			t.Fatalf("%v: last %q; its log:\n%s", err, last, audit.tail())
		}
	}
	differs := func(kind string, want int) {
		t.Helper()
		w.eventually(fmt.Sprintf("%d are %s", want, kind), func(ctx context.Context) (bool, error) {
			value, _, err := audit.metric(ctx, fmt.Sprintf(`holdfast_audit_differences{cluster="east",kind=%q}`, kind))
			return value == strconv.Itoa(want), err
		})
	}
	success := func() string {
		t.Helper()
		value, _, err := audit.metric(t.Context(), `holdfast_audit_last_success_timestamp_seconds{cluster="east"}`)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}

	readyz(http.StatusServiceUnavailable, "no ledger below prefix")
	if got := success(); got != "" {
		t.Errorf("it has succeeded at %s, before there was a ledger", got)
	}
	change("attach vol-1 node-1")
	w.does("import", append(cluster, "--yes")...)
	readyz(http.StatusOK, "ok")
	differs("missing", 0)
	change("attach vol-2 node-1")
	differs("missing", 1)

	t.Log("the API server is away")
	change("refuse 503 volumeattachments")
	readyz(http.StatusServiceUnavailable, "listing VolumeAttachments")
	before := success()
	w.eventually("it has tried once more", func(context.Context) (bool, error) { return strings.Count(audit.tail(), "the audit failed") > 2, nil })
	if after := success(); after != before || before == "" {
		t.Errorf("the last success was at %s, and is said to be at %s since", before, after)
	}
	differs("missing", 1) // what was said last
	change("allow")
	readyz(http.StatusOK, "ok")
	if success() == before {
		t.Error("its last success is as it was before the API server was away")
	}

	t.Log("etcd is away")
	w.etcd.Kill()
	readyz(http.StatusServiceUnavailable, "etcd is unavailable")
	change("detach vol-2 node-1")
	w.etcd.Start(t)
	readyz(http.StatusOK, "ok")
	differs("missing", 0)
	endsWell(t, audit)
}

// It ends at once also while it waits for etcd.
func TestProcess_AuditEndsWhileItWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{})
	api := newStorageAPI()
	defer api.Close()
	config, err := api.kubeconfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.etcd.Kill()
	audit, err := startChild(w.program, "audit", "--watch", "--endpoints", w.etcd.Endpoint(), "--listen", "127.0.0.1:0", "--log-level", "info",
		"--dial-timeout", "1m", "--cluster", "east", "--kubeconfig", config, "--attacher", "csi.example.com")
	if err != nil {
		t.Fatal(err)
	}
	defer audit.kill()
	w.eventually("it serves", func(ctx context.Context) (bool, error) {
		code, _, err := audit.get(ctx, "/healthz")
		return err == nil && code == http.StatusOK, nil
	})
	endsWell(t, audit)
}
