package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/reconcile"
	"github.com/holdfast-storage/holdfast/state/embedded"
)

const controllerLong = `Runs beside a cluster: watches its nodes and its records, keeps its attachments
alive, and removes what no node stands behind any more. Several replicas may
run: one leads and removes, all keep attachments alive.

Nodes come from --kubeconfig or --context, from a file (--nodes), or else from
the cluster whose pod it runs in. etcd is the one of --endpoints, or one of its
own in a folder (--embedded-etcd).

As a hub it serves several clusters on one ledger: --cluster NAME=KUBECONFIG for
each, in the environment separated by commas. CONTEXT is all that follows the
first colon, and by default the kubeconfig's current context; the path may have
neither a colon nor a comma. Every other flag is for all of them. A cluster that
cannot be served is logged, named by /readyz, and tried again within a minute,
its kubeconfig read anew; the others go on.

An etcd or a Kubernetes that cannot be reached is waited for, with a log line
for each try, and /readyz says so. What no waiting puts right ends it with one
line: a wrong flag, password or certificate, or (but of a hub) a name that is
another cluster's.

SIGTERM and Ctrl-C end it at once: it gives up its lead, and leaves the records
as they are. A second one kills it.`

const controllerExample = `  # An etcd of its own, nodes from a file
  holdfast controller --cluster east --embedded-etcd ./holdfast.etcd --nodes nodes.json

  # Decide and say, but remove nothing
  holdfast controller --cluster east --endpoints http://10.0.0.1:2379 --kubeconfig ~/.kube/config --dry-run

  # A hub: two clusters, each with a kubeconfig, the second with a context of it too
  holdfast controller --cluster east=/etc/holdfast/east --cluster west=/etc/holdfast/others:west-admin \
    --endpoints http://10.0.0.1:2379

  # Cut a node off at the storage before anything of it is removed
  holdfast controller --cluster east --fence-command "/usr/local/bin/fence --array a1"`

const defaultListen = "127.0.0.1:9446"

// The values of --node-identity.
const (
	identityName = "name"
	identityUID  = "uid"
)

// controllerFlags are those of `holdfast controller`.
type controllerFlags struct {
	ledgerFlags
	clusters   clusterSpecs
	clusterUID string
	nodeFlags
	witnessFlags
	eventsFlag
	embeddedDir, embeddedListen string
	listen                      string
	pprof                       bool
	dryRun                      bool
	nodeIdentity                string
	removalRate                 float64
	fenceCommand                string
	fenceTimeout                time.Duration
	brake                       reconcile.BrakeConfig
}

func newController() *cobra.Command {
	var f controllerFlags
	cmd := &cobra.Command{
		Use:     "controller --cluster NAME[=KUBECONFIG[:CONTEXT]]",
		Short:   "Run the controller of a cluster",
		Long:    controllerLong,
		Example: controllerExample,
		Args:    cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd.Flags().Changed); err != nil {
				return err
			}
			d, err := f.daemon(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			leadLogs(d.log)
			return d.run(cmd.Context())
		},
	}
	f.addTo(cmd)
	return cmd
}

func (f *controllerFlags) addTo(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.Var(&f.clusters, "cluster", "the cluster's `NAME` (required); of a hub NAME=KUBECONFIG[:CONTEXT], once for each cluster")
	fs.StringVar(&f.clusterUID, "cluster-uid", "",
		"`UID` that the cluster's kube-system namespace must have; with --nodes, what stands for it (default one that the first start makes, and keeps beside the file)")
	f.nodeFlags.add(fs)
	f.witnessFlags.add(fs)
	f.eventsFlag.add(fs)
	fs.StringVar(&f.embeddedDir, "embedded-etcd", "", "run an etcd in this process, with its data in this `folder`, in place of --endpoints")
	fs.StringVar(&f.embeddedListen, "embedded-listen", embedded.DefaultListenClient, "`address` of that etcd for others")
	fs.StringVar(&f.listen, "listen", defaultListen, "serve /metrics, /healthz and /readyz at this `address`; port 0 for a free one, empty for not at all")
	cli.AllowEmpty(fs.Lookup("listen"))
	fs.BoolVar(&f.pprof, "pprof", false, "serve Go's profiles at /debug/pprof/ of that address too; /debug/pprof/profile?seconds=20 for the processor's")
	fs.BoolVar(&f.dryRun, "dry-run", false, "decide and say what would be removed, and remove nothing; attachments are kept alive all the same")
	fs.Var(cli.NewChoice(&f.nodeIdentity, identityName, identityName, identityUID), "node-identity",
		"what makes a node the same node: its name, or its Node object's UID too")
	fs.Float64Var(&f.removalRate, "removal-rate", reconcile.DefaultRemovalRate, "removals a second, at most, in each cluster")
	fs.StringVar(&f.fenceCommand, "fence-command", "", "`command` that cuts a node off from a volume: the orphan as JSON on its standard input, exit code 0 to go on. Words end at spaces, and no shell runs")
	fs.Var(newDuration(&f.fenceTimeout, reconcile.DefaultFenceTimeout), "fence-timeout", "how long the fence command may take")
	fs.Float64Var(&f.brake.Fraction, "brake-fraction", reconcile.DefaultBrakeFraction, "stop removing when more than this part of the nodes with attachments is missing or was removed; 1 for only when there are no nodes at all")
	fs.IntVar(&f.brake.Min, "brake-min", reconcile.DefaultBrakeMin, "but never for this many nodes or fewer")
	fs.Var(newDuration(&f.brake.Window, reconcile.DefaultBrakeWindow), "brake-window", "how long a removed node counts for the brake")
	fs.Var(&duration{value: &f.brake.Release, zero: true}, "brake-release", "go on by itself after the brake has been on for so long; 0 for never, and never with no nodes at all")
	f.ledgerFlags.add(fs, allWaits()...)
	f.log.add(fs, "info")
}

// minStaleAfter is longer than the node file and etcd are silent when all is
// well: below it a source would be stale every few seconds.
const minStaleAfter = 15 * time.Second

// check refuses what a flag's own type does not.
func (f *controllerFlags) check(given func(flag string) bool) error {
	if err := f.checkClusters(given); err != nil {
		return err
	}
	if err := f.witnessFlags.check(f.nodeFlags.file != ""); err != nil {
		return err
	}
	switch {
	case f.embeddedDir != "" && given("endpoints"):
		return cli.Usagef("--embedded-etcd and --endpoints exclude each other: expected one etcd")
	case f.embeddedDir == "" && given("embedded-listen"):
		return cli.Usagef("--embedded-listen needs --embedded-etcd: the folder of the etcd to run")
	case f.embeddedDir != "" && (f.caCert != "" || f.cert != "" || f.user != ""):
		return cli.Usagef("--cacert, --cert and --user are for an etcd of --endpoints: the one of --embedded-etcd has neither TLS nor passwords")
	case f.pprof && f.listen == "":
		return cli.Usagef("--pprof needs --listen: the address to serve the profiles at")
	case !(f.removalRate > 0): // NaN neither
		return cli.Usagef("invalid --removal-rate %v: expected a number of removals a second, above zero", f.removalRate)
	case f.waits.staleAfter < minStaleAfter:
		return cli.Usagef("invalid --stale-after %q: expected at least %s, for the sources give a sign of life every few seconds (Kubernetes about every minute)",
			f.waits.staleAfter, minStaleAfter)
	case f.brake.Min < 0:
		return cli.Usagef("invalid --brake-min %d: expected a number of nodes", f.brake.Min)
	case !(f.brake.Fraction > 0 && f.brake.Fraction <= 1):
		return cli.Usagef("invalid --brake-fraction %v: expected a part of the nodes, above 0 and up to 1", f.brake.Fraction)
	case f.fenceCommand == "" && given("fence-timeout"):
		return cli.Usagef("--fence-timeout needs --fence-command: the command that may take so long")
	}
	return nil
}

// fencer is nil without a fence command.
func (f *controllerFlags) fencer() (reconcile.Fencer, error) {
	if f.fenceCommand == "" {
		return nil, nil
	}
	words := strings.Fields(f.fenceCommand)
	if len(words) == 0 {
		return nil, cli.Usagef("invalid --fence-command %q: expected a program and its arguments", f.fenceCommand)
	}
	fencer, err := reconcile.NewExecFencer(f.fenceTimeout, words...)
	if err != nil {
		return nil, fmt.Errorf("invalid --fence-command: %w", err)
	}
	return fencer, nil
}

// braking is the brake's configuration, in which zero stands for a default.
func (f *controllerFlags) braking() reconcile.BrakeConfig {
	b := f.brake
	if b.Min == 0 {
		b.Min = reconcile.NoBrakeMin
	}
	// A duration flag that may be zero says so as state.NoQuarantine does.
	b.Release = max(b.Release, 0)
	return b
}
