package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/adopt"
	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newAudit() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit --cluster NAME --kubeconfig FILE --attacher DRIVER",
		Short: "Compare the ledger with a cluster's VolumeAttachments, both ways",
		Long: `Compares what the cluster has attached through one CSI driver with what the
ledger says that it holds. It changes nothing. Kinds of differences:

  missing    attached in Kubernetes, and not held
  extra      held, and nothing attached in Kubernetes
  elsewhere  attached to one node in Kubernetes, and held by another one, of this
             cluster or of another
  twice      attached to several nodes in Kubernetes, although its access modes
             are those of a single node
  mode       held shared, although its access modes are those of a single node

The API server and etcd have no order between them: what looks different is
looked at again after --settle, and is a difference if both looks have seen it
of the very same VolumeAttachment and hold. What is being attached or detached, a
migration within its window, and VolumeAttachments whose volume is not known
(with the holds of their nodes that they may explain) are told of, and are none.

Exit code 0 if both are equal, 1 on a difference.

With --watch it goes on, every --every, until Ctrl-C: it prints what changes, and
serves metrics, /healthz and /readyz at --listen. What is away is waited for.`,
		Example: `  holdfast audit --cluster east --kubeconfig ~/.kube/east --attacher csi.example.com

  # In the cluster's own pod, for Prometheus
  holdfast audit --cluster east --attacher csi.example.com --watch --listen :9447`,
		Args: cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.adoptionFlags.add(cmd)
	fs := cmd.Flags()
	fs.Var(newDuration(&f.settle, adopt.DefaultSettle), "settle", "how long to wait before what looks different is looked at again")
	fs.BoolVar(&f.watch, "watch", false, "go on until Ctrl-C, and print what changes")
	fs.Var(newDuration(&f.every, adopt.DefaultEvery), "every", "how often --watch audits")
	fs.StringVar(&f.listen, "listen", defaultAuditListen, "--watch serves /metrics, /healthz and /readyz at this `address`; port 0 for a free one, empty for not at all")
	cli.AllowEmpty(fs.Lookup("listen"))
	f.out.add(cmd)
	f.ledgerFlags.add(fs)
	f.log.add(fs, "warn") // that it was cut off, and goes on
	return cmd
}

// defaultAuditListen is not the controller's: both may run on one machine.
const defaultAuditListen = "127.0.0.1:9447"

type auditFlags struct {
	adoptionFlags
	out           output
	settle, every time.Duration
	watch         bool
	listen        string
}

func (f *auditFlags) run(cmd *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	log := f.log.logger(cmd.ErrOrStderr())
	leadLogs(log)
	kube, err := f.reader()
	if err != nil {
		return err
	}
	if f.watch {
		return f.keepAuditing(cmd, kube, log)
	}
	report, err := f.audit(cmd, kube)
	if err != nil {
		return err
	}
	view := auditView{report, f.command("import")}
	if err := f.out.print(cmd, view, view.print); err != nil {
		return err
	}
	if n := len(report.Differences); n > 0 {
		return fmt.Errorf("%s between the ledger and the VolumeAttachments of cluster %s", several(n, "difference"), report.Cluster)
	}
	return nil
}

// audit compares once, through a ledger of its own. It writes nothing.
func (f *auditFlags) audit(cmd *cobra.Command, kube *reader) (*adopt.Report, error) {
	var report *adopt.Report
	readOnly := func(c *state.Config) { f.tune(c); c.ReadOnly = true }
	err := f.open(cmd, readOnly, func(ctx context.Context, l *state.Ledger) error {
		if err := known(ctx, l, f.clusterFlags.name, kube); err != nil {
			return err
		}
		var err error
		report, err = adopt.Audit(ctx, adopt.Config{
			Kubernetes: kube.Kubernetes, Ledger: l, Cluster: f.clusterFlags.name,
			Attacher: f.attacher, Mode: state.Mode(f.mode), Settle: f.settle,
		})
		return err
	})
	return report, err
}

// known makes sure that Kubernetes is the cluster that has the name in the
// ledger: of another one everything would be missing, and everything extra.
func known(ctx context.Context, l *state.Ledger, name string, kube *reader) error {
	if err := knownCluster(ctx, l, name); err != nil {
		return err
	}
	uid, err := kube.uid(ctx)
	if err != nil {
		return err
	}
	_, err = l.Cluster(ctx, state.Identity{Name: name, UID: uid})
	return err
}
