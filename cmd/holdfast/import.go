package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/holdfast-storage/holdfast/adopt"
	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newImport() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import --cluster NAME --kubeconfig FILE --attacher DRIVER [--yes]",
		Short: "Bring what a running cluster has attached into the ledger",
		Long: `Reads the cluster's VolumeAttachments of one CSI driver whose status says
attached, and gives their nodes the holds. Volumes are known by the volume
handles of their PersistentVolumes. Without --yes it shows what it would do, and
changes nothing.

What it does about each, as it prints it:

  attached   the node has its hold now (attach: it would get one)
  there      it had it already
  in-motion  being attached or detached: once that is done, import again
  skipped    which volume it is, or how to hold it, is not known
  conflict   held otherwise, in another cluster's grace period, or attached twice
             in Kubernetes. Nothing is overwritten
  left       its VolumeAttachment has gone while the import ran, its hold is there
  failed     it could not be attached (unknown: no answer came; import again)
  not-tried  the import ended before its turn

A volume that many nodes may use (ReadWriteMany, ReadOnlyMany) is held shared,
also if it lists a mode of a single node beside; any other is held exclusively.
Holds get the UIDs of their Nodes, where the cluster lets those be listed.

The cluster is known by the UID of its kube-system namespace: under a name that
is another cluster's nothing is imported. A ledger that is new becomes one of
this driver. Running it again is harmless, and goes on where it was interrupted.
Start the cluster's controller next: without one the holds lapse after
--attachment-ttl. Lapsed ones stay held.

Exit code 3 if there was a conflict, 1 if something failed or was left.`,
		Example: `  # What would be done
  holdfast import --cluster east --kubeconfig ~/.kube/east --attacher csi.example.com

  # Do it, and look whether both agree
  holdfast import --cluster east --kubeconfig ~/.kube/east --attacher csi.example.com --yes
  holdfast audit --cluster east --kubeconfig ~/.kube/east --attacher csi.example.com`,
		Args: cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.adoptionFlags.add(cmd)
	fs := cmd.Flags()
	fs.BoolVar(&f.yes, "yes", false, "attach them; without it they are only listed")
	cli.OnlyTyped(fs, "yes")
	f.addBy(fs)
	f.out.add(cmd)
	f.addVerb(cmd, waitAttachmentTTL)
	return cmd
}

type importFlags struct {
	adoptionFlags
	out output
	yes bool
}

// run reads Kubernetes before it opens a ledger: one that is not there is made
// only by an import that knows what to bring in.
func (f *importFlags) run(cmd *cobra.Command) error {
	if err := f.check(); err != nil {
		return err
	}
	leadLogs(f.log.logger(cmd.ErrOrStderr()))
	kube, err := f.reader()
	if err != nil {
		return err
	}
	i := &importing{importFlags: f, kube: kube, result: &imported{Cluster: f.clusterFlags.name, Attacher: f.attacher, Imported: f.yes}}
	if err := i.read(cmd.Context()); err != nil {
		return err
	}
	if f.yes {
		err = f.open(cmd, f.tune, func(ctx context.Context, l *state.Ledger) error {
			return i.carryOut(ctx, l, newProgress(cmd.ErrOrStderr()))
		})
	} else {
		err = i.preview(cmd)
	}
	if i.result.Items == nil {
		return err
	}
	i.result.count()
	if err == nil {
		err = i.result.verdict()
	}
	return errors.Join(err, f.out.print(cmd, i.result, i.result.print))
}

// importing is one import.
type importing struct {
	*importFlags
	kube   *reader
	result *imported

	reading  *adopt.Reading
	nodeUIDs map[string]string
}

// read reads all that Kubernetes has to say.
func (i *importing) read(ctx context.Context) (err error) {
	if i.result.UID, err = i.kube.uid(ctx); err != nil {
		return err
	}
	if i.reading, err = i.kube.Read(ctx, i.attacher, state.Mode(i.mode)); err != nil {
		return err
	}
	if len(i.reading.Attachments) == 0 {
		i.result.hint("%s", nothingOf(i.attacher, i.reading.Others))
	}
	i.nodeUIDs, err = i.kube.NodeUIDs(ctx)
	if apierrors.IsForbidden(err) {
		i.result.hint("the cluster's Nodes may not be listed: the holds are without the UIDs of their nodes, which --node-identity uid goes by")
		err = nil
	}
	return err
}

// preview plans on the ledger as it is, or on none.
func (i *importing) preview(cmd *cobra.Command) error {
	readOnly := func(c *state.Config) { i.tune(c); c.ReadOnly = true }
	err := i.open(cmd, readOnly, func(ctx context.Context, l *state.Ledger) error {
		_, err := l.Cluster(ctx, i.identity())
		switch {
		case errors.Is(err, state.ErrReadOnly):
			i.result.hint("cluster %s is not on record yet: --yes puts it there, with the kube-system UID %s", i.result.Cluster, i.result.UID)
		case err != nil:
			return err
		}
		return i.plan(ctx, l)
	})
	if errors.Is(err, state.ErrNoLedger) {
		i.result.hint("no ledger is below prefix %q yet: --yes makes one, of driver %s, with cluster %s", i.prefix, i.attacher, i.result.Cluster)
		i.result.Items = adopt.Plan(i.result.Cluster, i.reading.Attachments, &adopt.Held{}, i.nodeUIDs)
		return nil
	}
	return err
}

func (i *importing) identity() state.Identity {
	return state.Identity{Name: i.result.Cluster, UID: i.result.UID}
}

func (i *importing) plan(ctx context.Context, l *state.Ledger) error {
	ledger, err := l.Record(ctx)
	if err != nil {
		return err
	}
	if ledger.Frozen != nil && !i.yes {
		i.result.hint("the ledger is frozen by %s, and --yes will be refused: %s", ledger.Frozen.By, ledger.Frozen.Why)
	}
	freezes, err := restoreFreezes(ctx, l)
	if err != nil {
		return err
	}
	if len(freezes) > 0 && !i.yes {
		f := freezes[0].Freeze()
		i.result.hint("the ledger is frozen after a restore, by %s, and --yes will be refused: %s", f.By, f.Why)
	}
	if ledger.Driver == "" {
		i.result.hint("the ledger has no driver on record: nobody checks that its volumes are those of %s", i.attacher)
	}
	held, err := adopt.ReadForImport(ctx, l, i.result.Cluster, i.reading)
	if err != nil {
		return err
	}
	i.result.Items = adopt.Plan(i.result.Cluster, i.reading.Attachments, held, i.nodeUIDs)
	return nil
}

// carryOut attaches, and looks again at what Kubernetes has detached meanwhile.
func (i *importing) carryOut(ctx context.Context, l *state.Ledger, p *progress) error {
	c, err := l.Cluster(ctx, i.identity())
	if err != nil {
		return err
	}
	if err := i.plan(ctx, l); err != nil {
		return err
	}
	p.begin(i.result.Items)
	err = adopt.Import(ctx, c, i.result.Items, p.done)
	p.end()
	look := i.command("audit")
	switch {
	case !i.result.has(adopt.Done):
	case err != nil:
		i.result.hint("whether Kubernetes has detached any meanwhile was not looked at: '%s' tells", look)
	default:
		if err = adopt.Recheck(ctx, i.kube.Kubernetes, l, i.attacher, i.result.Items); err != nil {
			return fmt.Errorf("what could be attached is, but whether Kubernetes has detached any meanwhile is not known; '%s' tells: %w", look, err)
		}
	}
	return err
}
