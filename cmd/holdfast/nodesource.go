package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/watch"
)

// nodeFlags say where the Node list of a cluster comes from.
type nodeFlags struct{ kubeconfig, context, file string }

func (f *nodeFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "take the nodes from the cluster of this kubeconfig `file`")
	fs.StringVar(&f.context, "context", "", "`name` of the kubeconfig's context (default its current one)")
	fs.StringVar(&f.file, "nodes", "", "take the nodes from this `file`, as 'kubectl get nodes -o json' or '-o yaml' prints it")
}

// origin is where a cluster's nodes come from.
type origin struct {
	nodes watch.NodeSource
	// api is the way to the cluster's API server; nil for a file of nodes.
	api *rest.Config
}

// origin is what the flags name, or else the cluster that the process runs in.
// A kubeconfig that happens to lie in the home folder is never taken: a Node
// list of the wrong cluster would make every node of the right one look gone.
//
// uid is what --cluster-uid says, for a file, which has no identity of its own.
func (f *nodeFlags) origin(uid string, log *slog.Logger) (origin, error) {
	switch {
	case f.file != "" && (f.kubeconfig != "" || f.context != ""):
		return origin{}, cli.Usagef("--nodes and --kubeconfig exclude each other: expected one source of nodes")
	case f.file != "":
		return origin{nodes: watch.NewFile(f.file, uid, log)}, nil
	}
	config, err := f.rest()
	if err != nil {
		return origin{}, err
	}
	return kubernetes(config)
}

// source is the origin's nodes, for who needs nothing else of it.
func (f *nodeFlags) source(uid string, log *slog.Logger) (watch.NodeSource, error) {
	from, err := f.origin(uid, log)
	return from.nodes, err
}

func kubernetes(config *rest.Config) (origin, error) {
	nodes, err := watch.NewKubernetes(config)
	if err != nil {
		return origin{}, err
	}
	return origin{nodes: nodes, api: config}, nil
}

// rest is the way to the API server.
func (f *nodeFlags) rest() (*rest.Config, error) {
	if f.kubeconfig == "" && f.context == "" {
		if os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
			return nil, cli.Usagef("no source of nodes: expected --nodes FILE, --kubeconfig FILE, or to run in a pod of the cluster")
		}
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("the cluster that this pod runs in: %w", err)
		}
		return config, nil
	}
	config, err := readKubeconfig(f.kubeconfig, f.context)
	if err != nil {
		return nil, cli.Usagef("invalid --kubeconfig %q, --context %q: %w", f.kubeconfig, f.context, err)
	}
	return config, nil
}

// readKubeconfig reads a context of a kubeconfig: of the usual ones where path
// is empty, and its current one where context is. It does not, as client-go's
// own loader does, take the cluster of the pod where the file is empty.
func readKubeconfig(path, context string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	loaded, err := rules.Load()
	if err != nil {
		return nil, err
	}
	return clientcmd.NewNonInteractiveClientConfig(*loaded, context, &clientcmd.ConfigOverrides{}, rules).ClientConfig()
}
