package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-storage/holdfast/watch"
)

// nodeFlags say where the Node list of a cluster comes from.
type nodeFlags struct{ kubeconfig, context, file string }

func (f *nodeFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "take the nodes from the cluster of this kubeconfig `file`")
	fs.StringVar(&f.context, "context", "", "`name` of the kubeconfig's context (default its current one)")
	fs.StringVar(&f.file, "nodes", "", "take the nodes from this `file`, as 'kubectl get nodes -o json' or '-o yaml' prints it")
}

// source is what the flags name, or else the cluster that the process runs in.
// A kubeconfig that happens to lie in the home folder is never taken: a Node
// list of the wrong cluster would make every node of the right one look gone.
//
// uid is what --cluster-uid says, for a file, which has no identity of its own.
func (f *nodeFlags) source(uid string, log *slog.Logger) (watch.NodeSource, error) {
	switch {
	case f.file != "" && (f.kubeconfig != "" || f.context != ""):
		return nil, usagef("--nodes and --kubeconfig exclude each other: expected one source of nodes")
	case f.file != "":
		return watch.NewFile(f.file, uid, log), nil
	}
	config, err := f.rest()
	if err != nil {
		return nil, err
	}
	return watch.NewKubernetes(config)
}

// rest is the way to the API server.
func (f *nodeFlags) rest() (*rest.Config, error) {
	if f.kubeconfig == "" && f.context == "" {
		if os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
			return nil, usagef("no source of nodes: expected --nodes FILE, --kubeconfig FILE, or to run in a pod of the cluster")
		}
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("the cluster that this pod runs in: %w", err)
		}
		return config, nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if f.kubeconfig != "" {
		rules.ExplicitPath = f.kubeconfig
	}
	overrides := &clientcmd.ConfigOverrides{CurrentContext: f.context}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, usagef("invalid --kubeconfig %q, --context %q: %w", f.kubeconfig, f.context, err)
	}
	return config, nil
}
