package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/holdfast-storage/holdfast/state"
)

// strangeVolumes are names that something on the way might take for more, or for
// less, than a name.
var strangeVolumes = []string{
	"../../x", "/abs/olute//", "%2F", "a%2Fb", "a/b", "nul\x00nul", "new\nline\r\n\ttab", "\x1b[31mred\x1b]0;title\x07",
	"turned\u202edenrut\u2066", "\u2028\u0085line ends", "-rf", "--cluster=west", "'; touch pwned; $(id) `id` \"", " lead and trail ", "null", "*",
	"\u00e9 and e\u0301", strings.Repeat("é", state.MaxVolumeBytes/2),
}

// verbs runs the command line in this process, as names with a NUL can't be given
// to another.
type verbs struct {
	t        *testing.T
	endpoint string
}

func (v verbs) run(args []string, names ...string) (stdout, stderr string, code int) {
	v.t.Helper()
	var out, errs bytes.Buffer
	args = slices.Concat(args, []string{"--endpoints", v.endpoint, "--dial-timeout", "30s", "--"}, names)
	code = run(v.t.Context(), args, &out, &errs)
	plainText := func(what, text string) {
		for _, r := range text {
			if r != '\n' && !unicode.IsPrint(r) || r == unicode.ReplacementChar {
				v.t.Errorf("%q %q: %s has %q in it: %q", args, names, what, r, text)
				return
			}
		}
	}
	plainText("standard error", errs.String())
	if !slices.Contains(args, "json") { // JSON is to be read by programs, and escapes in its own way
		plainText("standard output", out.String())
	}
	return out.String(), errs.String(), code
}

func (v verbs) does(args []string, names ...string) string {
	v.t.Helper()
	stdout, stderr, code := v.run(args, names...)
	if code != exitDone {
		v.t.Fatalf("holdfast %q %q: exit code %d: %s", args, names, code, stderr)
	}
	return stdout
}

// list is what a verb lists of one field, as JSON.
func (v verbs) list(field string, args ...string) []string {
	v.t.Helper()
	var list struct{ Items []map[string]any }
	if err := json.Unmarshal([]byte(v.does(append(args, "-o", "json"))), &list); err != nil {
		v.t.Fatal(err)
	}
	var out []string
	for _, item := range list.Items {
		if text, is := item[field].(string); is && text != "" {
			out = append(out, text)
		}
	}
	return out
}

func sameNames(t *testing.T, what string, got []string) {
	t.Helper()
	got = slices.Compact(slices.Sorted(slices.Values(got)))
	if want := slices.Sorted(slices.Values(strangeVolumes)); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// A volume is one volume everywhere: in its keys, in tables, JSON, errors, the
// log, the journal and what the fence command is told; and nowhere in the metrics.
func TestStrangeVolumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{}, "node-1", "node-2")
	dir := t.TempDir()
	program, told := filepath.Join(dir, "fence"), filepath.Join(dir, "told")
	if err := os.WriteFile(program, []byte(fmt.Sprintf("#!/bin/sh\ncat >>%s\n", told)), 0o700); err != nil {
		t.Fatal(err)
	}
	controller := w.controller("--quarantine", "0", "--fence-command", program, "--log-level", "debug")
	w.leads(controller)
	v := verbs{t, w.etcd.Endpoint()}
	for _, volume := range strangeVolumes {
		strangeDay(t, v, volume)
	}
	sameNames(t, "list", v.list("volume", "list"))
	if lines := strings.Count(v.does([]string{"list"}), "\n"); lines != len(strangeVolumes)+1 {
		t.Errorf("list prints %d lines of %d volumes", lines, len(strangeVolumes))
	}
	sameNames(t, "watch", v.watched(len(strangeVolumes)))
	for _, kv := range w.etcd.Dump(t, ledgerRoot+"holds/") {
		if n := strings.Count(strings.TrimPrefix(kv.Key, ledgerRoot), "/"); n != 4 {
			t.Errorf("key %q has %d slashes", kv.Key, n)
		}
	}
	if err := w.nodes.write("node-2"); err != nil {
		t.Fatal(err)
	}
	w.eventually("every volume is removed", func(context.Context) (bool, error) { return len(w.etcd.Dump(t, ledgerRoot+"holds/")) == 0, nil })
	sameNames(t, "journal", v.list("volume", "journal"))
	v.does([]string{"journal"})
	var fenced []string
	for line := range strings.Lines(string(readFile(t, told))) {
		var orphan struct{ Volume string }
		if err := json.Unmarshal([]byte(line), &orphan); err != nil {
			t.Errorf("the fence command was told %q: %v", line, err)
		}
		fenced = append(fenced, orphan.Volume)
	}
	sameNames(t, "fence command", fenced)
	unwatched(t, controller)
	if found, err := filepath.Glob("pwned"); err != nil || len(found) > 0 {
		t.Errorf("a name was run by a shell: %v, %v", found, err)
	}
}

// strangeDay takes a volume through the verbs, and leaves it attached.
func strangeDay(t *testing.T, v verbs, volume string) {
	t.Helper()
	east := []string{"--cluster", "east"}
	as := func(verb string, flags ...string) []string { return slices.Concat([]string{verb}, east, flags) }
	for _, args := range [][]string{as("attach"), as("detach")} {
		if said := v.does(args, volume, "node-1"); !strings.Contains(said, printable(volume)) && !strings.Contains(said, quoted(volume)) {
			t.Errorf("%s %q says %q", args[0], volume, said)
		}
	}
	v.does([]string{"get"}, volume) // in its grace
	v.does(as("clear"), volume)
	v.does(as("attach"), volume, "node-1")
	for _, refused := range [][]string{{"attach", "node-2"}, {"detach", "node-2"}} {
		_, stderr, code := v.run(as(refused[0]), volume, refused[1])
		if code != exitDone && strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s %q: exit code %d and %q", refused, volume, code, stderr)
		}
	}
	v.does(as("migrate", "--to", "node-2"), volume)
	v.does([]string{"get"}, volume)
	v.does(as("migrate", "--abort"), volume)
	var view volumeView
	if err := json.Unmarshal([]byte(v.does([]string{"get", "-o", "json"}, volume)), &view); err != nil || view.Volume != volume {
		t.Errorf("get -o json of %q: %+v, %v", volume, view.Volume, err)
	}
	_, stderr, code := v.run([]string{"evict", "east", "--volume", volume, "--reason", volume})
	if strings.Count(stderr, "\n") > 1 || code == exitDone && stderr != "" {
		t.Errorf("evict --volume %q: exit code %d and %q", volume, code, stderr)
	}
}

// watched are the volumes of the first n holds that a watch prints.
func (v verbs) watched(n int) []string {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), patience)
	defer cancel()
	read, write := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		defer write.Close()
		ended <- run(ctx, []string{"watch", "-o", "json", "--kind", "hold", "--endpoints", v.endpoint, "--dial-timeout", "30s"}, write, io.Discard)
	}()
	var got []string
	for lines := bufio.NewScanner(read); len(got) < n && lines.Scan(); {
		var change struct{ Record struct{ Volume string } }
		if err := json.Unmarshal(lines.Bytes(), &change); err != nil {
			v.t.Errorf("%q: %v", lines.Text(), err)
		}
		got = append(got, change.Record.Volume)
	}
	cancel()
	_, _ = io.Copy(io.Discard, read)
	<-ended
	return got
}

// unwatched looks for what must not be: control characters in the log, and names
// in the metrics.
func unwatched(t *testing.T, controller *child) {
	t.Helper()
	_, metrics, err := controller.get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, fragment := range []string{"node-1", "node-2", "/x", "nul", "31mred", "denrut", "pwned", "é"} {
		if strings.Contains(strings.ReplaceAll(metrics, "/x509", ""), `"`+fragment) || strings.Contains(metrics, fragment+`"`) && fragment != "/x" {
			t.Errorf("the metrics name %q", fragment)
		}
	}
	controller.mu.Lock()
	defer controller.mu.Unlock()
	for _, line := range controller.lines {
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Errorf("the log has %q in it: %q", r, line)
			}
		}
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("a line of the log that is not of the log: %q", line)
		}
	}
}
