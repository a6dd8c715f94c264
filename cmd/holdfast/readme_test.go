package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestReadme follows the README's steps on one machine to the letter: the node
// file, the controller in one terminal, the commands in another.
func TestReadme(t *testing.T) {
	blocks := readmeBlocks(t, "## Step by step, on one machine")
	if len(blocks) != 4 {
		t.Fatalf("the section has %d shell blocks, want the node file, the controller, the commands and a shorter node file", len(blocks))
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Dir(binary(t)), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	etcd := freeAddress(t)
	inDir := func(script string, env ...string) []string {
		return slices.Concat([]string{"-C", dir}, env, []string{"bash", "-c", script})
	}
	shell := func(script string) (string, int) {
		out, err := exec.CommandContext(t.Context(), "env", inDir(script, "HOLDFAST_ENDPOINTS=http://"+etcd, "HOLDFAST_GRACE_PERIOD=2s")...).CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return string(out), exit.ExitCode()
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(out), 0
	}
	if out, code := shell(blocks[0]); code != 0 {
		t.Fatalf("the node file: exit code %d\n%s", code, out)
	}
	controller, err := startChild("env", inDir("exec "+blocks[1], "HOLDFAST_EMBEDDED_LISTEN="+etcd,
		"HOLDFAST_LISTEN=127.0.0.1:0", "HOLDFAST_QUARANTINE=2s", "HOLDFAST_GRACE_PERIOD=2s")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(controller.kill)
	if err := controller.ready(t.Context(), patience); err != nil {
		t.Fatalf("%v; the end of its log:\n%s", err, controller.tail())
	}
	for line := range strings.Lines(blocks[2]) {
		want := 0
		if strings.Contains(line, "# exit code 3") {
			want = 3
		}
		if out, code := shell(line); code != want {
			t.Errorf("%sexit code %d, want %d\n%s", line, code, want, out)
		}
	}
	if out, code := shell(blocks[3]); code != 0 {
		t.Fatalf("the shorter node file: exit code %d\n%s", code, out)
	}
	err = until(t.Context(), patience, "vol-1 is removed from node-3", func(context.Context) (bool, error) {
		out, code := shell("bin/holdfast journal -o json")
		if code != 0 {
			return false, errors.New(out)
		}
		return strings.Contains(out, `"removed"`) && strings.Contains(out, `"node-3"`), nil
	})
	if err != nil {
		t.Error(err)
	}
}

// readmeBlocks are the shell blocks of a section.
func readmeBlocks(t *testing.T, heading string) []string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), heading)
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []string
	for {
		_, after, more := strings.Cut(section, "```sh\n")
		if !more {
			return blocks
		}
		block, rest, _ := strings.Cut(after, "```\n")
		blocks, section = append(blocks, block), rest
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
