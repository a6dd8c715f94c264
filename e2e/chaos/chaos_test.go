//go:build failpoints

package chaos

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	chaosTime   = flag.Duration("chaos.time", time.Minute, "how long faults go on, over all runs")
	chaosRun    = flag.Duration("chaos.run", 60*time.Second, "how long faults go on in one run")
	chaosSeed   = flag.Uint64("chaos.seed", 0, "seed of the first run, the next one's is one more; 0 takes a new one")
	chaosEtcd   = flag.String("chaos.etcd", "", "etcd to run (default bin/etcd-gofail)")
	chaosUtil   = flag.String("chaos.etcdutl", "", "its etcdutl (default bin/etcdutl)")
	chaosKeep   = flag.String("chaos.keep", "", "folder for what the runs write (default: one that is removed where nothing was found)")
	chaosLoud   = flag.Bool("chaos.loud", false, "say what goes on")
	plantedSeed = flag.Uint64("planted.seed", 7, "seed of the runs with a planted fault")
	plantedNot  = flag.Bool("planted.not", false, "make those runs without their faults: nothing may be found")
	chaosTally  = flag.String("chaos.tally", "", "file that gets each run's figures, a line of JSON each")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func program(t testing.TB, given, name string) string {
	t.Helper()
	path := given
	if path == "" {
		path = filepath.Join("..", "..", "bin", name)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run it by 'make chaos', which builds it", err)
	}
	return path
}

func config(t testing.TB, seed uint64) Config {
	t.Helper()
	folder := *chaosKeep
	if folder == "" {
		folder = os.TempDir()
	}
	folder, err := os.MkdirTemp(folder, fmt.Sprintf("chaos-%d-", seed))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() && *chaosKeep == "" {
			os.RemoveAll(folder)
		}
	})
	c := Config{
		Seed: seed, Time: *chaosRun, Folder: folder,
		Etcd: program(t, *chaosEtcd, "etcd-gofail"), Etcdutl: program(t, *chaosUtil, "etcdutl"),
		Holdfast: program(t, "", "holdfast-failpoints"),
		// Some seeds each have what would make the others' checks less sharp.
		Revoke: seed%5 == 3, Restore: seed%5 == 4,
	}
	if *chaosLoud {
		c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return c
}

// Runs follow one another until their time is over, each with a seed of its own
// on an etcd of its own.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = 1 + rand.Uint64N(1_000_000)
	}
	for left := *chaosTime; left > 0; left -= *chaosRun {
		one := seed
		seed++
		if !t.Run(fmt.Sprintf("seed=%d", one), func(t *testing.T) { chaos(t, one, min(left, *chaosRun)) }) {
			break
		}
	}
}

func chaos(t *testing.T, seed uint64, d time.Duration) {
	c := config(t, seed)
	c.Time = d
	t.Logf("seed %d: repeat its schedule with 'make chaos CHAOS_SEED=%d CHAOS_TIME=%s'", seed, seed, d)
	report, err := Run(t.Context(), c)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	t.Logf("%v", report)
	if err := report.Err(); err != nil {
		t.Errorf("seed %d: kept in %s: %v", seed, c.Folder, err)
	}
	if err := report.Enough(d); err != nil {
		t.Errorf("seed %d: the run says too little: %v", seed, err)
	}
	if *chaosTally != "" {
		if err := report.Tally(*chaosTally); err != nil {
			t.Error(err)
		}
	}
}
