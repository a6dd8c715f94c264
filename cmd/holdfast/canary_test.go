package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

const (
	canary = "canary-7f3a"
	wrong  = "canary-wrong"
)

// A password is in nothing that the binary puts out: no log, metric, profile or
// error, and not where processes are listed.
func TestCanary(t *testing.T) {
	t.Parallel()
	etcd := statetest.Start(t)
	etcd.EnableAuth(t, statetest.User{Name: "holdfast", Password: canary, Prefix: state.DefaultPrefix})
	dir := t.TempDir()
	nodes, right, bad := &nodeFile{path: filepath.Join(dir, "nodes.json")}, filepath.Join(dir, "right"), filepath.Join(dir, "bad")
	if err := errors.Join(nodes.write("node-1"), os.WriteFile(right, []byte(canary+"\n"), 0o600), os.WriteFile(bad, []byte(wrong+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	program := binary(t)
	controller, err := startChild(program, "controller", "--cluster", "east", "--endpoints", etcd.Endpoint(), "--nodes", nodes.path,
		"--listen", "127.0.0.1:0", "--pprof", "--log-level", "debug", "--user", "holdfast", "--password-file", right)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(controller.kill)
	if err := controller.ready(t.Context(), patience); err != nil {
		t.Fatalf("%v; its log:\n%s", err, controller.tail())
	}
	said := map[string]string{}
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/debug/pprof/", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline"} {
		_, body, err := controller.get(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		said[path] = body
	}
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", controller.pid())); err == nil {
		said["ps"] = string(line)
	}
	verb := func(password string, args ...string) {
		cmd := exec.CommandContext(t.Context(), program, append(args, "--endpoints", etcd.Endpoint(), "--user", "holdfast", "--log-level", "debug")...)
		cmd.Env = append(os.Environ(), "HOLDFAST_PASSWORD="+password)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		if (err == nil) != (password == canary) {
			t.Errorf("%q with password %q: %v: %s", args, password, err, out.String())
		}
		said[strings.Join(args, " ")+" with "+password] = out.String()
	}
	for _, args := range [][]string{
		{"attach", "vol-1", "node-1", "--cluster", "east"}, {"list", "-o", "json"}, {"get", "vol-1", "-o", "yaml"}, {"journal"}, {"clusters"},
		{"plan", "--cluster", "east", "--nodes", nodes.path}, {"detach", "vol-1", "node-1", "--cluster", "east"},
	} {
		verb(canary, args...)
		verb(wrong, args...)
	}
	said["help"], _ = commandOutput(t, program, "controller", "--help")
	for name, args := range map[string][]string{
		"wrong password file":     {"list", "--endpoints", etcd.Endpoint(), "--user", "holdfast", "--password-file", bad},
		"password as a flag":      {"list", "--endpoints", etcd.Endpoint(), "--user", "holdfast:" + canary},
		"password in an endpoint": {"list", "--endpoints", "http://holdfast:" + canary + "@127.0.0.1:2379"},
	} {
		out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
		if err == nil {
			t.Errorf("%s: it went well", name)
		}
		said[name] = string(out)
	}
	endsWell(t, controller)
	controller.mu.Lock()
	said["log"] = strings.Join(controller.lines, "\n")
	controller.mu.Unlock()
	for where, text := range said {
		if strings.Contains(text, "canary") {
			t.Errorf("%s gives a password away: %s", where, text)
		}
	}
	if !strings.Contains(said["log"], "leading") || !strings.Contains(said["/metrics"], "holdfast_") {
		t.Errorf("the log or the metrics are empty: %s", said["log"])
	}
}
