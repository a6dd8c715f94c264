package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// serving runs the server of a controller for one test.
func serving(t *testing.T, ready *readiness) (url string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_test", Help: "A test's."}))
	listener, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, monitoring(registry, ready, log), log) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return "http://" + listener.Addr().String()
}

// ask makes one request on a connection of its own.
func ask(t *testing.T, method, url string) (int, string) {
	t.Helper()
	code, body, err := request(method, url)
	if err != nil {
		t.Fatal(err)
	}
	return code, body
}

func request(method, url string) (int, string, error) {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return 0, "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func TestServe(t *testing.T) {
	ready := &readiness{}
	url := serving(t, ready)

	expect := func(method, path string, code int, body string) {
		t.Helper()
		got, text := ask(t, method, url+path)
		if got != code || !strings.Contains(text, body) {
			t.Errorf("%s %s = %d %q, want %d with %q", method, path, got, text, code, body)
		}
	}
	expect("GET", "/healthz", 200, "ok")
	expect("GET", "/metrics", 200, "holdfast_test 0")
	expect("GET", "/readyz", 503, "has not begun")
	ready.waitFor("etcd at http://127.0.0.1:2379")
	expect("GET", "/readyz", 503, "waiting for\n  etcd at http://127.0.0.1:2379\n")
	ready.follow(func() []string { return []string{"one source", "the other"} })
	expect("GET", "/readyz", 503, "  one source\n  the other\n")
	ready.follow(func() []string { return nil })
	expect("GET", "/readyz", 200, "ok")
	expect("GET", "/healthz", 200, "ok")

	// Nothing that was not asked for, least of all a profiler.
	expect("POST", "/healthz", 405, "")
	expect("GET", "/debug/pprof/", 404, "")
	expect("GET", "/", 404, "")
}

func TestListenRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, address := range []string{"no-port", "127.0.0.1:99999", taken.Addr().String()} {
		listener, err := listen(address)
		if err == nil {
			listener.Close()
			t.Errorf("listen(%q) succeeded", address)
			continue
		}
		if want := fmt.Sprintf("--listen %q", address); !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("listen(%q): %q: expected one line that has %s", address, err, want)
		}
	}
}

// A client that opens a connection and says nothing does not hold up the end.
func TestServeEndsWithASilentClient(t *testing.T) {
	listener, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serve(ctx, listener, monitoring(prometheus.NewRegistry(), &readiness{}, log), log)
	}()
	silent, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if code, _ := ask(t, "GET", "http://"+listener.Addr().String()+"/healthz"); code != 200 {
		t.Fatalf("/healthz = %d", code)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("serve has not ended, 30 s after it was told to")
	}
}
