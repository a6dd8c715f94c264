package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/reconcile"
	"github.com/holdfast-storage/holdfast/state"
)

func newPlan() *cobra.Command {
	var v verb
	var out output
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan --cluster NAME (--kubeconfig FILE | --nodes FILE)",
		Short: "Show what would be removed, and what stands in the way",
		Long: `Reads the ledger and the cluster's nodes once, and shows what a controller that
leads would remove, why, and what stands in the way. It changes nothing.

Give it the flags that the cluster's controller has: the brake's, and where its
nodes come from. What stands in the way, in the order in which it is looked at:

` + obstacleList() + `
A fencer and the live check, which come last, are not tried.`,
		Example: `  holdfast plan --cluster east --kubeconfig ~/.kube/config
  kubectl get nodes -o json >nodes.json && holdfast plan --cluster east --nodes nodes.json -o json`,
		Args: cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, &v, &out) },
	}
	fs := cmd.Flags()
	v.clusterFlags.add(fs)
	f.nodes.add(fs)
	fs.Var(cli.NewChoice(&f.identity, identityName, identityName, identityUID), "node-identity",
		"what makes a node the same node: its name, or its Node object's UID too")
	fs.Float64Var(&f.fraction, "brake-fraction", reconcile.DefaultBrakeFraction, "the controller's --brake-fraction")
	fs.IntVar(&f.min, "brake-min", reconcile.DefaultBrakeMin, "the controller's --brake-min")
	fs.Var(newDuration(&f.window, reconcile.DefaultBrakeWindow), "brake-window", "the controller's --brake-window")
	fs.Var(newDuration(&f.timeout, 30*time.Second), "timeout", "how long the two sources may take to load")
	out.add(cmd)
	v.addVerb(cmd)
	return cmd
}

type planFlags struct {
	nodes           nodeFlags
	identity        string
	fraction        float64
	min             int
	window, timeout time.Duration
}

func (f *planFlags) run(cmd *cobra.Command, v *verb, out *output) error {
	log := v.log.logger(cmd.ErrOrStderr())
	leadLogs(log)
	if v.clusterFlags.name == "" {
		return cli.Usagef("--cluster is missing: expected the name of the cluster to plan for")
	}
	tune := func(c *state.Config) { c.ReadOnly, c.MatchNodeUID = true, f.identity == identityUID }
	return v.open(cmd, tune, func(ctx context.Context, l *state.Ledger) error {
		ctx, cancel := context.WithTimeout(ctx, f.timeout)
		defer cancel()
		cfg := reconcile.Config{Logger: log, Brake: reconcile.BrakeConfig{Fraction: f.fraction, Min: f.min, Window: f.window}}
		if f.min == 0 {
			cfg.Brake.Min = reconcile.NoBrakeMin
		}
		recorded, err := l.Cluster(ctx, state.Identity{Name: v.clusterFlags.name, UID: ""})
		if err != nil {
			return err
		}
		uid, err := f.uid(v.clusterFlags.uid, recorded.UID())
		if err != nil {
			return err
		}
		if cfg.Nodes, err = f.nodes.source(uid, log); err != nil {
			return err
		}
		// The nodes of another cluster would make every node of this one look gone.
		if uid, err = cfg.Nodes.ClusterUID(ctx); err != nil {
			return err
		}
		if cfg.Cluster, err = l.Cluster(ctx, state.Identity{Name: v.clusterFlags.name, UID: uid}); err != nil {
			return err
		}
		overview, err := reconcile.PlanOnce(ctx, cfg)
		if err != nil {
			return err
		}
		return out.print(cmd, overview, func(w io.Writer) { printPlan(w, overview) })
	})
}

// uid is the identity of a node file. A controller keeps one beside the file;
// where there is none, a plan, which changes nothing, takes the one on record.
func (f *planFlags) uid(given, recorded string) (string, error) {
	if given != "" || f.nodes.file == "" {
		return given, nil
	}
	_, err := os.Stat(f.nodes.file + ".cluster-uid")
	switch {
	case err == nil:
		return "", nil
	case errors.Is(err, fs.ErrNotExist):
		return recorded, nil
	}
	return "", fmt.Errorf("the identity of --nodes %s: %w", f.nodes.file, err)
}

func printPlan(w io.Writer, o *reconcile.Overview) {
	fmt.Fprintf(w, "Cluster:  %s\n", o.Cluster)
	gates := "open"
	if len(o.Obstacles) > 0 {
		gates = obstacles(o.Obstacles)
	}
	fmt.Fprintf(w, "Gates:    %s\n", gates)
	if p := o.Pause; p != nil {
		fmt.Fprintf(w, "Paused:   %s\n", cli.OneLine(fmt.Sprintf("since %s by %s: %s", age(p.Since), p.By, p.Why)))
	}
	if f := o.Frozen; f != nil {
		fmt.Fprintf(w, "Frozen:   %s\n", cli.OneLine(fmt.Sprintf("since %s by %s: %s", age(f.Since), f.By, f.Why)))
	}
	if len(o.Freezes) > 0 {
		fmt.Fprintf(w, "          %s\n", afterRestore)
	}
	fmt.Fprintf(w, "Brake:    %s\n\n", o.Brake)
	t := newTable(w, "NODE", "NEXT", "VOLUME", "REASON", "IN THE WAY")
	orphans, removable := 0, 0
	for _, n := range o.Nodes {
		if len(n.Orphans) == 0 {
			t.row(n.Node, string(n.Next), "", "", "")
		}
		for _, orphan := range n.Orphans {
			t.row(n.Node, string(orphan.Next()), orphan.Attachment.Volume, string(orphan.Reason), obstacles(orphan.Obstacles))
		}
		orphans += len(n.Orphans)
		removable += len(n.Removable())
	}
	t.flush()
	fmt.Fprintf(w, "\n%d would be removed now, of %d attachments that no node stands behind\n", removable, orphans)
}

func obstacles(list []reconcile.Obstacle) string {
	names := make([]string, len(list))
	for i, o := range list {
		names[i] = string(o)
	}
	return strings.Join(names, ", ")
}

// obstacleList is all obstacles, a few a line.
func obstacleList() string {
	var lines strings.Builder
	column := 0
	for _, o := range reconcile.Obstacles() {
		if column+len(o) > 76 {
			lines.WriteString("\n")
			column = 0
		}
		if column == 0 {
			lines.WriteString("  ")
		}
		n, _ := fmt.Fprintf(&lines, "%s  ", o)
		column += n
	}
	return strings.TrimRight(lines.String(), " ") + "\n"
}
