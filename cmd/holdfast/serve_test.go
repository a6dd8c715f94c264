package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
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

// A profiler only for who asks for it, and what is served is nothing but our own:
// imported packages register theirs in Go's default mux.
func TestProfiling(t *testing.T) {
	plain := monitoring(prometheus.NewRegistry(), &readiness{}, slog.New(slog.DiscardHandler))
	for path, want := range map[string]struct{ plain, profiled int }{
		"/healthz":                         {200, 200},
		"/debug/pprof/":                    {404, 200},
		"/debug/pprof/heap":                {404, 200},
		"/debug/pprof/profile?seconds=0.1": {404, 200},
		"/debug/pprof/symbol":              {404, 200},
		"/debug/pprof/cmdline":             {404, 404},
		"/debug/requests":                  {404, 404},
		"/debug/vars":                      {404, 404},
		"/debug/":                          {404, 404},
	} {
		for handler, code := range map[http.Handler]int{plain: want.plain, profiling(plain): want.profiled} {
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, http.NoBody))
			if answer.Code != code {
				t.Errorf("GET %s = %d, want %d", path, answer.Code, code)
			}
		}
	}
}

// Whoever opens a connection and is slow to ask, or asks too much, is cut off.
func TestServeBounds(t *testing.T) {
	t.Parallel()
	address := strings.TrimPrefix(serving(t, &readiness{}), "http://")
	for name, said := range map[string]string{
		"a request that does not end": "GET /healthz HTTP/1.1\r\nHost: h\r\n",
		"a header without end":        "GET /healthz HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 2*maxHeaderBytes),
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, said) // it may be cut off before all is said
		answer, err := io.ReadAll(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(string(answer), " 200 ") {
			t.Errorf("%s: %q, %v: want it cut off", name, answer, err)
		}
	}
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
