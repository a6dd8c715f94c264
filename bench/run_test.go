package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

func TestMeasure_RefusesAPrefixInUse(t *testing.T) {
	cfg, client := configFor(t)
	if _, err := client.Put(t.Context(), cfg.Etcd.Prefix+"somebody's", "data"); err != nil {
		t.Fatal(err)
	}
	ran := false
	result, err := Measure(t.Context(), cfg, []Workload{workload("w", func(context.Context, *Run) error { ran = true; return nil })})
	if err == nil || !strings.Contains(err.Error(), "is not empty") || !strings.Contains(err.Error(), "somebody's") {
		t.Errorf("error %v; want one that says that the prefix is not empty, and what is there", err)
	}
	if ran || result != nil {
		t.Errorf("the workload ran: %v, with result %v", ran, result)
	}
	if got := below(t, client, cfg.Etcd.Prefix); len(got) != 1 {
		t.Errorf("keys %q, want somebody's still", got)
	}
}

// Two runs that begin at once have the same prefix in sight, and it is empty.
func TestMeasure_RefusesAPrefixThatAnotherRunHas(t *testing.T) {
	cfg, client := configFor(t)
	_, err := Measure(t.Context(), cfg, []Workload{workload("outer", func(ctx context.Context, _ *Run) error {
		_, err := Measure(ctx, cfg, nil)
		if err == nil || !strings.Contains(err.Error(), "is not empty") {
			t.Errorf("a second run on the same prefix: error %v", err)
		}
		return nil
	})})
	if err != nil {
		t.Error(err)
	}
	if got := below(t, client, cfg.Etcd.Prefix); len(got) > 0 {
		t.Errorf("keys %q are left", got)
	}
}

func putSome(ctx context.Context, r *Run) error {
	for i := range 3 {
		if _, err := r.Client().Put(ctx, fmt.Sprintf("%sk%d", r.Etcd.Prefix, i), ""); err != nil {
			return err
		}
	}
	return nil
}

func TestMeasure_CleansUp(t *testing.T) {
	cfg, client := configFor(t)
	boom := errors.New("boom")
	var left []string
	result, err := Measure(t.Context(), cfg, []Workload{
		workload("fails", func(ctx context.Context, r *Run) error { return errors.Join(putSome(ctx, r), boom) }),
		workload("goes on", func(ctx context.Context, r *Run) error {
			left = below(t, client, cfg.Etcd.Prefix+"k")
			r.Add(Row{Workload: "goes on", Metrics: []Metric{{Unit: "x", Value: 1}}})
			return putSome(ctx, r)
		}),
	})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "workload fails") {
		t.Errorf("error %v; want the workload's, with its name", err)
	}
	if len(left) > 0 {
		t.Errorf("what a workload left is there for the next: %q", left)
	}
	if result == nil || len(result.Rows) != 1 || !strings.Contains(result.Partial, "boom") {
		t.Errorf("result %+v; want the row of the workload after it, and why it is partial", result)
	}
	if got := below(t, client, cfg.Etcd.Prefix); len(got) > 0 {
		t.Errorf("keys %q are left", got)
	}
}

func TestMeasure_CleansUpWhenItIsStopped(t *testing.T) {
	cfg, client := configFor(t)
	ctx, stop := context.WithCancelCause(t.Context())
	result, err := Measure(ctx, cfg, []Workload{
		workload("stopped", func(ctx context.Context, r *Run) error {
			if err := putSome(ctx, r); err != nil {
				return err
			}
			r.Add(Row{Workload: "stopped", Metrics: []Metric{{Unit: "x", Value: 1}}})
			stop(errors.New("somebody pressed Ctrl-C"))
			return ctx.Err()
		}),
		workload("never", func(context.Context, *Run) error { t.Error("a workload ran after the end"); return nil }),
	})
	if err == nil || !strings.Contains(err.Error(), "somebody pressed Ctrl-C") {
		t.Errorf("error %v; want the cause", err)
	}
	if result == nil || len(result.Rows) != 1 || !strings.Contains(result.Partial, "stopped at workload stopped") {
		t.Errorf("result %+v; want the row so far, and where it stopped", result)
	}
	if got := below(t, client, cfg.Etcd.Prefix); len(got) > 0 {
		t.Errorf("keys %q are left", got)
	}
}

func TestMeasure_LedgersAreApart(t *testing.T) {
	cfg, client := configFor(t)
	_, err := Measure(t.Context(), cfg, []Workload{workload("w", func(ctx context.Context, r *Run) error {
		for i := range 2 {
			ledger, cluster, err := r.Ledger(ctx, "mine", nil)
			if err != nil {
				return err
			}
			defer func() { _ = ledger.Close() }()
			// The second one's volume is nobody's yet.
			if _, err := cluster.Attach(ctx, state.AttachRequest{Volume: "v", Node: fmt.Sprintf("node-%d", i)}); err != nil {
				return err
			}
		}
		for _, want := range []string{"mine-1/v1/holds/", "mine-2/v1/holds/"} {
			if got := below(t, client, cfg.Etcd.Prefix+want); len(got) != 1 {
				t.Errorf("below %s: %q, want a hold", want, got)
			}
		}
		return nil
	})})
	if err != nil {
		t.Error(err)
	}
}

func TestMeasure_HeaderSaysOnWhat(t *testing.T) {
	cfg, _ := configFor(t)
	result, err := Measure(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := result.Header
	if !strings.HasPrefix(h.Etcd, "3.") || h.Members != 1 || h.Sizes != "quick" || h.Seed != 1 || h.Cores < 1 || !strings.HasPrefix(h.Go, "go1.") {
		t.Errorf("header %+v", h)
	}
}

func TestMeasure_LogsIn(t *testing.T) {
	etcd := statetest.Start(t)
	const prefix = "/bench/"
	etcd.EnableAuth(t, statetest.User{Name: "bench", Password: "secret", Prefix: prefix})
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Etcd: state.Config{Endpoints: etcd.Endpoints(), Prefix: prefix}, Sizes: quick}
	works := []Workload{workload("w", putSome)}
	if _, err := Measure(t.Context(), cfg, works); err == nil {
		t.Error("without a user: no error")
	}
	cfg.Etcd.Username, cfg.Etcd.PasswordFile = "bench", file
	if result, err := Measure(t.Context(), cfg, works); err != nil || !result.Header.Auth {
		t.Errorf("with a password file: %+v, %v", result, err)
	}
}

func TestMeasure_RefusesBadCertificates(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]state.Config{
		"no certificate": {CACertFile: file},
		"no file":        {CACertFile: file + "x"},
		"no pair":        {CertFile: file, KeyFile: file},
	} {
		cfg.Endpoints = []string{"https://127.0.0.1:1"}
		if _, err := Measure(t.Context(), Config{Etcd: cfg}, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A prefix of more keys than are deleted at a time.
func TestWipe(t *testing.T) {
	cfg, client := configFor(t)
	for i := range 3 {
		if _, err := client.Put(t.Context(), fmt.Sprintf("%sa/%d", cfg.Etcd.Prefix, i), ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Put(t.Context(), cfg.Etcd.Prefix+"b", ""); err != nil {
		t.Fatal(err)
	}
	if err := wipe(t.Context(), client, cfg.Etcd.Prefix+"a/", 2, 3); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{cfg.Etcd.Prefix + "b"}, below(t, client, cfg.Etcd.Prefix)); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

func TestRun_TakesNoNumberForNothing(t *testing.T) {
	r := &Run{result: &Result{Summary: map[string]float64{}, Figures: map[string]Figure{}, Skipped: map[string]string{}}}
	r.Add(Row{Metrics: []Metric{{Unit: "a", Value: math.NaN()}, {Unit: "b", Value: 1}, {Unit: "c", Value: math.Inf(1)}}})
	if got := r.result.Rows[0].Metrics; len(got) != 1 || got[0].Unit != "b" {
		t.Errorf("metrics %v, want b only", got)
	}
	r.Figure("attach_vs_put", Median(nil), nil)
	r.Figure("resync_ms", 7, []float64{7})
	if _, ok := r.result.Skipped["attach_vs_put"]; !ok || len(r.result.Summary) != 1 || r.result.Figures["resync_ms"].Unit != "ms" {
		t.Errorf("result %+v; want one figure, and the other said to be missing", r.result)
	}
	defer func() {
		if recover() == nil {
			t.Error("a figure that nobody has a goal for was taken")
		}
	}()
	r.Figure("unheard_of", 1, nil)
}

func TestChoose(t *testing.T) {
	all, err := Choose()
	if err != nil || len(all) != len(Workloads()) || len(all) == 0 {
		t.Errorf("Choose() = %v, %v; want all", all, err)
	}
	last := all[len(all)-1].Name
	one, err := Choose(last)
	if err != nil || len(one) != 1 || one[0].Name != last {
		t.Errorf("Choose(%q) = %v, %v", last, one, err)
	}
	if _, err := Choose(last, "dance"); err == nil || !strings.Contains(err.Error(), "dance") || !strings.Contains(err.Error(), last) {
		t.Errorf("Choose(dance): error %v; want one that says what there is", err)
	}
}

// A name is what rows and a command line say, and About a line of a list.
func TestWorkloads_AreNamed(t *testing.T) {
	var names []string
	for _, w := range Workloads() {
		if w.Name == "" || strings.ContainsAny(w.Name, " ,/=-") || slices.Contains(names, w.Name) || w.Run == nil {
			t.Errorf("workload %q: want a word, and each once, that runs", w.Name)
		}
		if w.About == "" || strings.ContainsAny(w.About, "\n") || strings.HasSuffix(w.About, ".") || len(w.About) > 110 {
			t.Errorf("workload %s: about %q; want a line without a full stop", w.Name, w.About)
		}
		names = append(names, w.Name)
	}
}

func TestGoals_AreInOrder(t *testing.T) {
	for name, g := range Goals {
		if g.About == "" || !slices.Contains([]string{"ratio", "s", "ms", "B", "count"}, g.Unit) {
			t.Errorf("%s: unit %q, about %q", name, g.Unit, g.About)
		}
		if got := g.Met(g.Reach); got != "reached" {
			t.Errorf("%s: %v is %q, want reached", name, g.Reach, got)
		}
		if g.Least != g.Reach {
			if got := g.Met(g.Least); got != "at least" {
				t.Errorf("%s: %v is %q, want at least: the least is better than the goal", name, g.Least, got)
			}
		}
		worse := g.Least * 1.01
		if g.More {
			worse = g.Least * 0.99
		}
		if worse == g.Least {
			worse = 1
		}
		if got := g.Met(worse); got != "missed" {
			t.Errorf("%s: %v is %q, want missed", name, worse, got)
		}
	}
}

// docs/performance.md is what people read: it has every figure and every workload.
func TestDocs_TellEveryFigureAndWorkload(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range Goals {
		sign := "≤ "
		switch {
		case g.Reach == g.Least:
			sign = ""
		case g.More:
			sign = "≥ "
		}
		if !regexp.MustCompile(fmt.Sprintf("(?m)^\\| `%s` \\|.*\\| %s%v \\| %v \\|$", name, sign, g.Reach, g.Least)).Match(text) {
			t.Errorf("docs/performance.md has no row of %s with its goals, %s%v and %v", name, sign, g.Reach, g.Least)
		}
	}
	for _, w := range Workloads() {
		if !strings.Contains(string(text), "| `"+w.Name+"` |") {
			t.Errorf("docs/performance.md has no row of the workload %s", w.Name)
		}
	}
}
