//go:build failpoints

package chaos

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

var (
	soakTime = flag.Duration("soak.time", 0, "how long a soak has churn; 0: none is made")
	soakRate = flag.Float64("soak.rate", 100, "calls a second that a soak offers")
	soakSeed = flag.Uint64("soak.seed", 0, "seed of a soak's faults; 0 takes a new one")
)

func soakConfig(t *testing.T) SoakConfig {
	t.Helper()
	if *soakTime == 0 {
		t.Skip("no -soak.time: 'make soak' gives it")
	}
	seed := *soakSeed
	if seed == 0 {
		seed = 1 + rand.Uint64N(1_000_000)
	}
	t.Logf("seed %d: the same faults with 'make soak SOAK_SEED=%d SOAK_TIME=%s'", seed, seed, *soakTime)
	c := SoakConfig{
		Seed: seed, Time: *soakTime, Rate: *soakRate, Folder: soakFolder(t, seed),
		Etcd: program(t, "", "etcd"), Etcdutl: program(t, *chaosUtil, "etcdutl"), Holdfast: program(t, "", "holdfast"),
		Progress: func(line string) { t.Log(line) },
	}
	if *chaosLoud {
		c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return c
}

func soakFolder(t *testing.T, seed uint64) string {
	t.Helper()
	folder, err := os.MkdirTemp(*chaosKeep, fmt.Sprintf("soak-%d-", seed))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() && *chaosKeep == "" {
			os.RemoveAll(folder)
		}
	})
	return folder
}

// What a leak looks like, so that a soak that finds none means something.
func TestSoak_FindsLeaks(t *testing.T) {
	c := soakConfig(t)
	c.Time, c.Rounds, c.Retention, c.Leaks = 30*time.Second, 3, 5*time.Second, true
	report, err := Soak(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	grown := report.Grown()
	for _, want := range []string{"drivers heap in use", "drivers goroutines", "drivers descriptors", "etcd leases", "etcd leases without a key", "etcd keys but the journal's"} {
		if !slices.Contains(grown, want) {
			t.Errorf("%s was leaked, and is not among what has grown: %q", want, grown)
		}
	}
	if err := report.Left.account(len(clusterNames), 2*len(clusterNames)); err == nil {
		t.Error("keys and leases were leaked, and all are accounted for")
	}
	if t.Failed() {
		t.Log(report)
	}
}

func TestSoak(t *testing.T) {
	c := soakConfig(t)
	report, err := Soak(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(report)
	if err := report.Err(); err != nil {
		t.Errorf("seed %d: kept in %s", c.Seed, c.Folder)
	}
	if err := report.enough(c.Time); err != nil {
		t.Errorf("seed %d: the soak says too little: %v", c.Seed, err)
	}
}
