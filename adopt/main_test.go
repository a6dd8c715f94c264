package adopt

import (
	"flag"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"
	"k8s.io/klog/v2"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata give as what they expect")

func TestMain(m *testing.M) {
	flag.Parse()
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // client-go tells of the faults that the tests make
	os.Exit(statetest.Main(m, goleak.IgnoreCurrent()))
}
