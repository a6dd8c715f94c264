package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// A dry run says what it would remove, and writes nothing.
func TestProcess_DryRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{Quarantine: state.NoQuarantine}, "node-1", "node-2")
	controller := w.controller("--dry-run")
	w.does("attach", "vol-1", "node-2", "--cluster", "east")
	w.withoutNode("node-2")
	w.eventually("controller says what it would do", func(context.Context) (bool, error) {
		return strings.Contains(controller.tail(), "dry run: would"), nil
	})
	left := w.etcd.Dump(t, ledgerRoot)
	if keys := slices.Concat(keysBelow(left, kindDeparted), keysBelow(left, kindElections), keysBelow(left, kindJournal)); len(keys) > 0 {
		t.Errorf("a dry run has written %v", keys)
	}
	w.heldBy("vol-1", "node-2")
}

// The fencer is asked before a removal, told of the orphan, and believed.
func TestProcess_FenceCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{Quarantine: state.NoQuarantine}, "node-1", "node-2")
	dir := t.TempDir()
	program, told, agree := filepath.Join(dir, "fence"), filepath.Join(dir, "told"), filepath.Join(dir, "agree")
	script := fmt.Sprintf("#!/bin/sh\ncat >%s.next && mv %s.next %s\ntest \"$1\" = --array || exit 2\ntest -e %s\n", told, told, told, agree)
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	controller := w.controller("--fence-command", program+" --array a1", "--fence-timeout", "20s")
	w.leads(controller)
	w.does("attach", "vol-1", "node-2", "--cluster", "east")
	w.withoutNode("node-2")

	w.eventually("fencer has refused", func(ctx context.Context) (bool, error) {
		value, _, err := controller.metric(ctx, `holdfast_fences_total{cluster="east",result="error"}`)
		return err == nil && value != "0" && value != "", err
	})
	w.heldBy("vol-1", "node-2")
	var orphan struct{ Volume, Cluster, Node, Reason string }
	if err := json.Unmarshal(readFile(t, told), &orphan); err != nil {
		t.Fatal(err)
	}
	if orphan.Volume != "vol-1" || orphan.Cluster != "east" || orphan.Node != "node-2" || orphan.Reason != string(state.NodeGone) {
		t.Errorf("the fencer was told %+v", orphan)
	}
	if err := os.WriteFile(agree, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.eventually("orphan is removed", func(context.Context) (bool, error) { return len(w.volume("vol-1").Holds) == 0, nil })
	if journal := w.does("journal", "-o", "json"); !strings.Contains(journal, `"fenced": true`) {
		t.Errorf("the journal does not say that the node was fenced:\n%s", journal)
	}
}

// The brake's numbers count, and an operator lets it go.
func TestProcess_Brake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{Quarantine: state.NoQuarantine}, "node-1", "node-2", "node-3")
	controller := w.controller("--brake-min", "0", "--brake-fraction", "0.3")
	w.leads(controller)
	for i := range 3 {
		w.does("attach", name("vol", i+1), name("node", i+1), "--cluster", "east")
	}
	w.withoutNode("node-3")
	braked := func(want string) {
		t.Helper()
		w.eventually(brakeMetric+" is "+want, func(ctx context.Context) (bool, error) {
			value, _, err := controller.metric(ctx, brakeMetric)
			return value == want, err
		})
	}
	braked("1")
	w.heldBy("vol-3", "node-3")
	w.does("resume", "east", "--brake", "--reason", "node-3 is off for good")
	w.eventually("orphan is removed", func(context.Context) (bool, error) { return len(w.volume("vol-3").Holds) == 0, nil })
	braked("0")
}

// Another machine under a node's name: it counts where it is told to.
func TestProcess_NodeIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{Quarantine: state.NoQuarantine}, "node-1", "node-2")
	w.leads(w.controller("--node-identity", "uid"))
	w.does("attach", "vol-1", "node-1", "--cluster", "east", "--node-uid", "uid-of-node-1")
	w.does("attach", "vol-2", "node-2", "--cluster", "east", "--node-uid", "uid-of-the-one-before")
	w.eventually("replaced node's volume is removed", func(context.Context) (bool, error) {
		return len(w.volume("vol-2").Holds) == 0, nil
	})
	if journal := w.does("journal"); !strings.Contains(journal, string(state.NodeReplaced)) {
		t.Errorf("the journal does not say why:\n%s", journal)
	}
	w.heldBy("vol-1", "node-1")
}

// Without an address nothing is served, and the controller runs all the same.
func TestProcess_ListensNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{Quarantine: state.NoQuarantine, ElectionTTL: 2 * time.Second}, "node-1", "node-2")
	c, err := startChild(w.program, "controller", "--cluster", "east", "--endpoints", w.etcd.Endpoint(), "--nodes", w.nodes.path,
		"--listen", "", "--quarantine", "0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	w.eventually("controller leads", func(context.Context) (bool, error) { return strings.Contains(c.tail(), "msg=leading"), nil })
	w.does("attach", "vol-1", "node-2", "--cluster", "east")
	w.withoutNode("node-2")
	w.eventually("orphan is removed", func(context.Context) (bool, error) { return len(w.volume("vol-1").Holds) == 0, nil })
	if c.url("/") != "" {
		t.Errorf("it serves at %s", c.url("/"))
	}
}
