package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

// clusterSpec is one cluster that a controller is to serve: its name alone or,
// in a hub, also the kubeconfig, and the context in it (empty: the current one).
type clusterSpec struct{ name, kubeconfig, context string }

// place is where a hub finds the cluster, for an error.
func (s clusterSpec) place() string {
	if s.context == "" {
		return fmt.Sprintf("kubeconfig %q", s.kubeconfig)
	}
	return fmt.Sprintf("context %q of kubeconfig %q", s.context, s.kubeconfig)
}

// clusterSpecs is the flag --cluster of a controller. The environment has one
// value for all of them, so commas separate them in every form.
type clusterSpecs []clusterSpec

// Set adds what one --cluster, or the environment, says.
func (l *clusterSpecs) Set(value string) error {
	var all []clusterSpec
	for one := range strings.SplitSeq(value, ",") {
		spec, err := parseCluster(strings.TrimSpace(one))
		if err != nil {
			return err
		}
		all = append(all, spec)
	}
	*l = append(*l, all...)
	return nil
}

// parseCluster splits at the first '=' and then at the first ':': contexts, as
// EKS names them, have colons.
func parseCluster(text string) (clusterSpec, error) {
	name, where, isHub := strings.Cut(text, "=")
	path, context, hasContext := strings.Cut(where, ":")
	spec := clusterSpec{name: name, kubeconfig: path, context: context}
	switch {
	case name == "":
		return spec, errors.New("expected NAME, or NAME=KUBECONFIG[:CONTEXT]")
	case !isHub:
		return spec, nil
	case path == "":
		return spec, fmt.Errorf("expected a kubeconfig file after %q", name+"=")
	case hasContext && context == "":
		return spec, fmt.Errorf("expected a context after %q, or no colon for the kubeconfig's current one; a path may have no colon", name+"="+path+":")
	case strings.HasPrefix(path, "~"):
		return spec, fmt.Errorf("expected the whole path of the kubeconfig: the shell leaves the ~ of %q as it is", path)
	}
	return spec, nil
}

// Type and String are for pflag.
func (l *clusterSpecs) Type() string { return "clusters" }

func (l *clusterSpecs) String() string {
	if l == nil {
		return ""
	}
	return strings.Join(l.names(), ",")
}

func (l clusterSpecs) names() []string {
	names := make([]string, len(l))
	for i, c := range l {
		names[i] = c.name
	}
	return names
}

// hub says whether the clusters come with their kubeconfigs.
func (l clusterSpecs) hub() bool { return len(l) > 0 && l[0].kubeconfig != "" }

// checkClusters refuses clusters that cannot be served together, and flags that
// say of one cluster what a hub takes from its kubeconfigs.
func (f *controllerFlags) checkClusters(given func(flag string) bool) error {
	if len(f.clusters) == 0 {
		return cli.Usagef("--cluster is missing: expected the name of the cluster to run the controller of")
	}
	names, places := f.clusters.names(), map[string]string{}
	for i, c := range f.clusters {
		if err := state.ValidateCluster(c.name); err != nil {
			return err
		}
		place := c.place()
		switch {
		case slices.Contains(names[i+1:], c.name):
			return cli.Usagef("--cluster %s is given twice: expected each name once", c.name)
		case c.kubeconfig == "" && len(f.clusters) > 1:
			return cli.Usagef("--cluster %s has no kubeconfig: expected NAME=KUBECONFIG[:CONTEXT] for each where there are several", c.name)
		case places[place] != "":
			return cli.Usagef("--cluster %s and %s have the same %s: expected a cluster of its own for each name", places[place], c.name, place)
		}
		places[place] = c.name
	}
	if !f.clusters.hub() {
		return nil
	}
	for _, flag := range []string{"kubeconfig", "context", "nodes", "cluster-uid"} {
		if given(flag) {
			return cli.Usagef("--%s and --cluster NAME=KUBECONFIG exclude each other: expected each cluster's nodes and identity to come from its own kubeconfig", flag)
		}
	}
	return nil
}
