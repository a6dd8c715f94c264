package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/reconcile"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

const (
	// witnessConfigMap is made by deploy/base/access, so that the controllers need
	// no permission to make any.
	witnessConfigMap = "holdfast-witness"
	// witnessNamespace is where deploy/ puts everything.
	witnessNamespace = "holdfast-system"
	// witnessRequest bounds one request about the ConfigMap.
	witnessRequest = 5 * time.Second
	// podNamespace is the file in which a pod finds its own.
	podNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

// witnessFlags say where the controllers keep, outside etcd, what tells a
// restored etcd from the one it was.
type witnessFlags struct{ file, namespace string }

func (f *witnessFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.file, "witness-file", "",
		"with --nodes, the `file` that tells a restored etcd from the one it was; it is written every few seconds, and nothing is removed where it cannot be (default one beside the nodes)")
	fs.StringVar(&f.namespace, "witness-namespace", "",
		"the same for nodes from Kubernetes: the `namespace` of the ConfigMap "+witnessConfigMap+" (default the pod's own, or "+witnessNamespace+" where a kubeconfig is given)")
}

// check refuses what would be without effect.
func (f *witnessFlags) check(nodeFile bool) error {
	switch {
	case f.file != "" && !nodeFile:
		return cli.Usagef("--witness-file is for nodes from a file: where they come from Kubernetes, a ConfigMap in --witness-namespace takes its place")
	case f.namespace != "" && nodeFile:
		return cli.Usagef("--witness-namespace is for nodes from Kubernetes: with --nodes, a file takes its place (--witness-file)")
	}
	return nil
}

// witness is the store of a cluster's witness.
func (f *controllerFlags) witness(cluster string, from origin) (reconcile.WitnessStore, error) {
	key := witnessKey(cluster, f.prefix)
	if from.api == nil {
		return reconcile.NewWitnessFile(cmp.Or(f.witnessFlags.file, f.nodeFlags.file+".witness-"+key)), nil
	}
	config := rest.CopyConfig(from.api)
	config.Timeout = witnessRequest
	client, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of ConfigMaps: %w", err)
	}
	return reconcile.NewWitnessConfigMap(client.ConfigMaps(f.witnessIn()), witnessConfigMap, key), nil
}

// witnessIn is the namespace of the ConfigMap. With a kubeconfig the pod's own,
// if there is one, is of another cluster.
func (f *controllerFlags) witnessIn() string {
	if f.namespace != "" {
		return f.namespace
	}
	if !f.clusters.hub() && f.kubeconfig == "" && f.context == "" {
		if own, err := os.ReadFile(podNamespace); err == nil && len(own) > 0 {
			return strings.TrimSpace(string(own))
		}
	}
	return witnessNamespace
}

// witnessKey tells apart the ledgers that controllers of one cluster may be of.
func witnessKey(cluster, prefix string) string {
	if prefix = strings.TrimSuffix(cmp.Or(prefix, state.DefaultPrefix), "/") + "/"; prefix == state.DefaultPrefix {
		return cluster
	}
	sum := sha256.Sum256([]byte(prefix))
	return cluster + "." + hex.EncodeToString(sum[:4])
}

// unproven says why the leader does not know whether etcd is the one it was.
func unproven(r *reconcile.Reconciler) []string {
	err := r.WitnessError()
	switch {
	case err == nil:
		return nil
	case watch.IsForbidden(err), apierrors.IsNotFound(err):
		return []string{cli.OneLine(err.Error() + "; apply deploy/base/access in that cluster: it has the ConfigMap " + witnessConfigMap + ", and who may write it; --witness-namespace names another namespace")}
	}
	return []string{advised(err)}
}
