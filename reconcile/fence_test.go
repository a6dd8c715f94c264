package reconcile

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// fenceCommand, in the environment, makes the test's own binary a fence
// command; the value says which.
const fenceCommand = "HOLDFAST_TEST_FENCE_COMMAND"

func runFenceCommand(kind string) int {
	switch kind {
	case "save":
		input, err := io.ReadAll(os.Stdin)
		if err == nil {
			err = os.WriteFile(os.Args[1], input, 0o600)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	case "deaf": // does not read its input
	case "fail":
		fmt.Fprint(os.Stderr, "connecting to the array\nno such LUN: \x1b[31mvol\x00\n\n")
		return 3
	case "noisy":
		line := strings.Repeat("x", 1000)
		for range 10_000 {
			fmt.Fprintln(os.Stderr, line)
			fmt.Println(line)
		}
		fmt.Fprintln(os.Stderr, strings.Repeat("é", 1000))
		return 1
	case "hang":
		fmt.Fprintln(os.Stderr, "waiting for the array")
		select {}
	}
	return 0
}

func execFencer(t *testing.T, kind string, args ...string) *ExecFencer {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(fenceCommand, kind)
	f, err := NewExecFencer(patience, append([]string{self}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestExecFencer_OrphanOnStandardInput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "input")
	want := Fencing{
		Volume: "vol\n\x00\x1b[31m'\"$(rm -rf /)\u2028é", Cluster: "a", Node: "n2", NodeUID: "uid", Mode: state.Exclusive,
		Token: 1<<48 | 42, Reason: state.NodeGone, Since: time.Now().UTC().Round(0), Departed: time.Now().UTC().Round(0),
	}
	if err := execFencer(t, "save", file).Fence(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	var all []string
	for lines.Scan() {
		all = append(all, lines.Text())
	}
	if len(all) != 1 {
		t.Fatalf("input has %d lines, want 1: %q", len(all), all)
	}
	var got Fencing
	if err := json.Unmarshal([]byte(all[0]), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestExecFencer_Outcomes(t *testing.T) {
	f := Fencing{Volume: "vol-1", Node: "n2"}
	t.Run("does not read", func(t *testing.T) {
		if err := execFencer(t, "deaf").Fence(t.Context(), f); err != nil {
			t.Error(err)
		}
	})
	t.Run("fails", func(t *testing.T) {
		err := execFencer(t, "fail").Fence(t.Context(), f)
		if err == nil || !strings.HasSuffix(err.Error(), "exit status 3: no such LUN:  [31mvol") {
			t.Errorf("error is %q, want the last line, fit for a log", err)
		}
	})
	t.Run("says too much", func(t *testing.T) {
		err := execFencer(t, "noisy").Fence(t.Context(), f)
		if err == nil || len(err.Error()) > 1000 || !strings.HasSuffix(err.Error(), "é…") {
			t.Errorf("error is %q", err)
		}
	})
	t.Run("takes too long", func(t *testing.T) {
		fencer := execFencer(t, "hang")
		fencer.Timeout = 500 * time.Millisecond
		err := fencer.Fence(t.Context(), f)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v, want the deadline's", err)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := execFencer(t, "hang").Fence(ctx, f); !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v, want the context's", err)
		}
	})
}

func TestNewExecFencer(t *testing.T) {
	for name, make := range map[string]func() (*ExecFencer, error){
		"no command":       func() (*ExecFencer, error) { return NewExecFencer(0) },
		"empty command":    func() (*ExecFencer, error) { return NewExecFencer(0, "") },
		"no such program":  func() (*ExecFencer, error) { return NewExecFencer(0, "/no/such/program") },
		"negative timeout": func() (*ExecFencer, error) { return NewExecFencer(-1, os.Args[0]) },
	} {
		if _, err := make(); !errors.Is(err, state.ErrInvalid) {
			t.Errorf("%s: error is %v, want ErrInvalid", name, err)
		}
	}
	f, err := NewExecFencer(0, os.Args[0])
	if err != nil || f.Timeout != 30*time.Second {
		t.Errorf("timeout is %v (%v), want 30s", f, err)
	}
}

// fakeFencer does what a test says.
type fakeFencer struct {
	mu     sync.Mutex
	fenced []Fencing
	answer func(Fencing) error
}

func (f *fakeFencer) Fence(_ context.Context, o Fencing) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fenced = append(f.fenced, o)
	if f.answer != nil {
		return f.answer(o)
	}
	return nil
}

func (f *fakeFencer) calls() []Fencing {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Fencing(nil), f.fenced...)
}

func TestFencer_HoldsBackWhatItCannotFence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	h := w.attach("vol-1", "n2")
	w.attach("vol-2", "n2")
	fencer := &fakeFencer{answer: func(f Fencing) error {
		if f.Volume == "vol-2" {
			return errors.New("no such LUN")
		}
		return nil
	}}
	r := w.started(func(c *Config) { c.Fencer = fencer })
	w.removed("vol-1")
	eventually(t, "it is tried again", func() bool { return value(r.metrics.fails.WithLabelValues("fencer")) > 1 })
	w.mustHold("vol-2", "n2")
	for _, f := range fencer.calls() {
		if f.Volume == "vol-1" && (f.Token != h.Token || f.Node != "n2" || f.Cluster != "a" || f.Reason != state.NodeGone || f.Departed.IsZero()) {
			t.Errorf("the fencer was told %+v of %+v", f, h)
		}
	}
	if e := w.journal(state.ActionRemoved); len(e) != 1 || !e[0].Evidence.Fenced {
		t.Errorf("journal is %+v, want one entry with fenced evidence", e)
	}
}

// The fencer takes its time and the node is back before it has succeeded.
func TestFencer_NodeReturnsMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	w.attach("vol-1", "n2")
	w.started(func(c *Config) {
		c.Fencer = &fakeFencer{answer: func(Fencing) error { w.nodes.add("n2"); return nil }}
	})
	eventually(t, "the departure is deleted", func() bool { return w.departures("n2") > 0 && w.departure("n2") == nil })
	w.mustHold("vol-1", "n2")
	if n := w.nodes.liveChecks(); n != 0 {
		t.Errorf("%d live checks, want none for a node that the list has", n)
	}
}

// Neither a grace nor a quarantine is cut short by fencing a node early.
func TestFencer_WaitsForGraceAndQuarantine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), shortWaits, func(c *state.Config) { c.GracePeriod = 4 * time.Second })
	fencer := &fakeFencer{answer: func(Fencing) error {
		v, err := w.ledger.Volume(context.Background(), "vol-1")
		if err != nil || v.InGrace() || w.quarantined("n2") {
			t.Errorf("fenced too early: %+v, %v", v, err)
		}
		return nil
	}}
	w.started(func(c *Config) { c.Fencer = fencer })
	w.attach("vol-1", "n2")
	w.detach("vol-1", "n2")
	w.attach("vol-1", "n2")
	w.nodes.remove("n2")
	w.removed("vol-1")
	if n := len(fencer.calls()); n != 1 {
		t.Errorf("fenced %d times, want once", n)
	}
}

var _ live = watch.NodeSource(nil)

// Removals that do not get on hold up nobody: volumes are attached and detached
// as ever, while the fencer does not answer for any.
func TestFencer_ThatHangsHoldsUpNoAttach(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n3"), noQuarantine)
	for i := range 20 {
		w.attach(fmt.Sprint("vol-", i), "n2")
	}
	fencer := hangingFencer{make(chan struct{}, 20), make(chan struct{})}
	w.started(func(c *Config) { c.Fencer = fencer })
	<-fencer.asked
	for i := range 20 {
		volume := fmt.Sprint("other-", i)
		w.attach(volume, "n1")
		w.detach(volume, "n1")
		w.attach(volume, "n3")
	}
	w.mustHold("vol-0", "n2")
	close(fencer.release)
	w.removed("vol-0", "vol-19")
}

type hangingFencer struct{ asked, release chan struct{} }

func (f hangingFencer) Fence(ctx context.Context, _ Fencing) error {
	select {
	case f.asked <- struct{}{}:
	default:
	}
	select {
	case <-f.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A node that comes back and goes again while its worker is busy with the
// fencer: the queue makes one change of the two, and it waits anew all the same.
func TestComesAndGoesWhileFencing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), shortWaits)
	w.attach("vol-1", "n2")
	first := true
	w.started(func(c *Config) {
		c.Fencer = &fakeFencer{answer: func(Fencing) error {
			if first {
				first = false
				w.nodes.add("n2")
				w.nodes.remove("n2")
			}
			return nil
		}}
	})
	w.nodes.remove("n2")
	w.removed("vol-1")
	if n := w.departures("n2"); n != 2 {
		t.Errorf("%d departures, want 2: the node was back in between", n)
	}
}
