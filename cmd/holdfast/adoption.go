package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/adopt"
	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// adoptionFlags say which cluster's VolumeAttachments import and audit are about.
type adoptionFlags struct {
	verb
	nodeFlags
	attacher, mode string
}

func (f *adoptionFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.clusterFlags.name, "cluster", "", "the cluster's `name` (required)")
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "the cluster's kubeconfig `file` (default the cluster whose pod it runs in)")
	fs.StringVar(&f.context, "context", "", "`name` of the kubeconfig's context (default its current one)")
	fs.StringVar(&f.attacher, "attacher", "", "the CSI `driver` whose VolumeAttachments they are (required)")
	fs.Var(cli.NewChoice(&f.mode, "", string(state.Exclusive), string(state.Shared)), "mode",
		"how every volume is held (default by the access modes of its PersistentVolume)")
}

func (f *adoptionFlags) check() error {
	switch {
	case f.clusterFlags.name == "":
		return cli.Usagef("--cluster is missing: expected the name of the cluster whose VolumeAttachments they are")
	case f.attacher == "":
		return cli.Usagef("--attacher is missing: expected the CSI driver's name, as 'kubectl get volumeattachments' shows it")
	case f.driver != "" && f.driver != f.attacher:
		return cli.Usagef("--driver %q and --attacher %q: expected one and the same driver", f.driver, f.attacher)
	case f.kubeconfig == "" && f.context == "" && os.Getenv("KUBERNETES_SERVICE_HOST") == "":
		return cli.Usagef("no cluster to read from: expected --kubeconfig FILE, or to run in a pod of the cluster")
	}
	return state.ValidateCluster(f.clusterFlags.name)
}

// command is another verb about the same cluster, to be copied into a shell.
func (f *adoptionFlags) command(verb string) string {
	flags := []string{"--cluster", f.clusterFlags.name}
	for _, given := range [][2]string{{"--kubeconfig", f.kubeconfig}, {"--context", f.context}, {"--attacher", f.attacher}, {"--mode", f.mode}} {
		if given[1] != "" {
			flags = append(flags, given[:]...)
		}
	}
	return command(verb, nil, flags...)
}

// tune makes a ledger of another driver an error, and one that is new this
// driver's.
func (f *adoptionFlags) tune(c *state.Config) { c.Driver = f.attacher }

// reader is the way to the cluster, and to its identity.
type reader struct {
	*adopt.Kubernetes
	identity watch.NodeSource
	patience time.Duration // for the identity
}

// identityPatience is how long an API server may take to tell the identity. One
// that hangs must not hold up an audit for ever.
const identityPatience = 30 * time.Second

// uid is the identity: the UID of the kube-system namespace.
func (r *reader) uid(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	return r.identity.ClusterUID(ctx)
}

func (f *adoptionFlags) reader() (*reader, error) {
	config, err := f.rest()
	if err != nil {
		return nil, err
	}
	nodes, err := watch.NewKubernetes(config)
	if err != nil {
		return nil, err
	}
	kube, err := adopt.NewKubernetes(config)
	if err != nil {
		return nil, err
	}
	return &reader{kube, nodes, identityPatience}, nil
}

// nothingOf is what to say where an attacher has no VolumeAttachment: it may be
// misspelt.
func nothingOf(attacher string, others map[string]int) string {
	text := fmt.Sprintf("no VolumeAttachment is of attacher %s", attacher)
	if len(others) == 0 {
		return text + ", nor of any other"
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(others)) {
		all = append(all, fmt.Sprintf("%s (%d)", name, others[name]))
	}
	return text + "; there are those of " + strings.Join(all, ", ")
}
