package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/embedded"
)

const demoLong = `The whole of Holdfast on this machine, in well under a minute, with nothing
installed: an etcd, a controller of a cluster named east as a process of its
own, a file of nodes, and short waits. It attaches, runs into a conflict,
detaches, hands over, migrates, kills the controller in the middle of a grace
period, loses a node, and then all of them.

Each step is checked against etcd itself. One that did not happen ends the demo
with exit code 1. Ports are free ones, files are in a temporary folder, and all
of it is gone in the end, or after Ctrl-C.`

// The waits of the demo. etcd's shortest lease is 2 s, and a wait's lease is
// about a second longer than the wait, so that none ends early.
const (
	demoGrace      = 4 * time.Second
	demoQuarantine = 3 * time.Second
	demoWindow     = 30 * time.Second
	demoElection   = 2 * time.Second
	// demoPatience is how long a step may take beyond what it waits for.
	demoPatience = 30 * time.Second
)

func newDemo() *cobra.Command {
	return &cobra.Command{
		Use:     "demo",
		Short:   "See the whole of it on this machine, in under a minute",
		Long:    demoLong,
		Example: "  holdfast demo",
		Args:    cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("finding this program, to run its controller: %w", err)
			}
			return runDemo(cmd.Context(), cmd.OutOrStdout(), program, acts())
		},
	}
}

// demo is all that one run of the demo has started.
type demo struct {
	program    string // whose controller it shows: this one
	out        *timeline
	dir        string
	nodes      *nodeFile
	etcd       *embedded.Server
	ledger     *state.Ledger
	east, west *state.Cluster
	controller *child
}

// act is one step, and what it is there to show.
type act struct {
	title, about string
	play         func(context.Context, *demo) error
}

func acts() []act {
	return []act{
		{"Attach", "A hold is a fact, and lasts. The attachment beside it says that its cluster stands by it.", actAttach},
		{"Conflict", "Whoever comes second is told who holds the volume. Nothing changes.", actConflict},
		{"Detach", "A grace period begins: a key under a lease. Until etcd deletes it, only the same cluster may attach.", actDetach},
		{"Hand over", "The same cluster attaches to its next node at once, under a greater token.", actHandOver},
		{"Migrate", "For a while the volume has two holders, source and target. Never a third.", actMigrate},
		{"Kill the controller", "kill -9, in the middle of a grace period. The wait is etcd's, not the controller's.", actKill},
		{"Lose a node", "Seen missing, put in quarantine, looked up once more, and removed in a transaction that says why.", actLoseNode},
		{"Lose all nodes", "An empty node list is more likely a mistake than the truth: the brake stops every removal.", actBrake},
	}
}

func runDemo(ctx context.Context, out io.Writer, program string, acts []act) (err error) {
	d := &demo{program: program, out: newTimeline(out)}
	defer func() { err = errors.Join(err, d.cleanUp()) }()

	d.out.title("Holdfast, on this machine", "left: seconds since the start; rN: at etcd's revision N; ✓: found in etcd itself; ✗: refused, as it should be")
	d.out.line("")
	if err := d.setUp(ctx); err != nil {
		return d.failed("the start", err)
	}
	for _, a := range acts {
		d.out.act(a.title, a.about)
		if err := a.play(ctx, d); err != nil {
			return d.failed(a.title, err)
		}
	}
	d.out.line("\n%s", d.out.paint(bold, fmt.Sprintf("All of it happened, in %.1f s. Now try it with your own etcd: holdfast help", d.out.elapsed().Seconds())))
	return nil
}

// failed says which step did not happen, and what the controller had to say.
func (d *demo) failed(what string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	d.out.failed(what, err)
	if d.controller != nil {
		d.out.line("%sthe end of the controller's log:", indent)
		d.out.detail(d.controller.tail())
	}
	return fmt.Errorf("demo: %q did not happen: %w", what, err)
}

func (d *demo) setUp(ctx context.Context) error {
	var err error
	if d.dir, err = os.MkdirTemp("", "holdfast-demo-"); err != nil {
		return fmt.Errorf("making a temporary folder: %w", err)
	}
	quiet := slog.New(slog.DiscardHandler)
	d.etcd, err = embedded.Start(ctx, embedded.Config{Dir: filepath.Join(d.dir, "etcd"), ListenClient: "127.0.0.1:0", Logger: quiet})
	if err != nil {
		return err
	}
	d.out.event(0, "an etcd of its own, at %s", d.etcd.Endpoint())

	d.nodes = &nodeFile{path: filepath.Join(d.dir, "nodes.json")}
	if err := d.nodes.write("node-1", "node-2", "node-3", "node-4"); err != nil {
		return err
	}
	d.out.event(0, "a file of nodes: %s", d.nodes)
	if err := d.startController(ctx); err != nil {
		return err
	}

	d.ledger, err = state.Open(ctx, state.Config{
		Endpoints: d.etcd.Endpoints(), GracePeriod: demoGrace, Quarantine: demoQuarantine,
		MigrationWindow: demoWindow, ElectionTTL: demoElection, By: "demo", Logger: quiet,
	})
	if err != nil {
		return err
	}
	// East is on record since its controller's start, with the identity that
	// goes with the node file. West has no controller, only a name.
	if d.east, err = d.ledger.Cluster(ctx, state.Identity{Name: "east"}); err != nil {
		return err
	}
	if d.west, err = d.ledger.Cluster(ctx, state.Identity{Name: "west", UID: "demo-west"}); err != nil {
		return err
	}
	revision, err := d.ledger.Revision(ctx)
	if err != nil {
		return err
	}
	d.out.event(revision, "a second cluster, west, on the same storage")
	return nil
}

// startController starts the controller of east, and waits until it is ready.
func (d *demo) startController(ctx context.Context) error {
	began := time.Now()
	var err error
	d.controller, err = startChild(d.program, "controller", "--cluster", "east",
		"--endpoints", d.etcd.Endpoint(), "--nodes", d.nodes.path, "--listen", "127.0.0.1:0",
		"--grace-period", demoGrace.String(), "--quarantine", demoQuarantine.String(),
		"--migration-window", demoWindow.String(), "--election-ttl", demoElection.String())
	if err != nil {
		return err
	}
	if err := d.controller.ready(ctx, demoPatience); err != nil {
		return err
	}
	d.out.event(0, "the controller of cluster east, process %d, ready after %.1f s", d.controller.pid(), time.Since(began).Seconds())
	return nil
}

// cleanUp ends what was started, in the reverse order, whatever the reason.
func (d *demo) cleanUp() error {
	var errs []error
	if d.controller != nil {
		errs = append(errs, d.controller.stop())
	}
	if d.ledger != nil {
		errs = append(errs, d.ledger.Close())
	}
	if d.etcd != nil {
		errs = append(errs, d.etcd.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cleaning up after the demo: %w", err)
	}
	return nil
}

// until asks again and again until the answer is yes. What etcd ends shows only
// in etcd, so there is nothing to be told by.
func until(ctx context.Context, limit time.Duration, what string, ask func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v: %s", limit, what))
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		yes, err := ask(ctx)
		if yes {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
