package main

import (
	"flag"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// rewrite puts what the tests find in the place of what they expect: in the
// golden help, in docs/cli.md and in the scripts' cmp files. Read the diff.
var rewrite = flag.Bool("rewrite", false, "rewrite expected output")

// The test binary is also the command, for the scripts to run: what TestMain
// calls decides by its name.
func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"holdfast": main})
}

// tests stops the shared etcd, and looks for goroutines, when all have run.
type tests struct{ *testing.M }

func (t tests) Run() int { return statetest.Main(t.M) }
