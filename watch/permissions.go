package watch

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// probeNode is the name of a Node that is asked for where any will do. That no
// cluster has it is as good an answer as any.
const probeNode = "holdfast-permission-check"

// CheckPermissions makes each request that a live check and the watch of the
// Nodes are made of, and is nil if the API server carries out all of them. Where
// it refuses some its error names every one, with the API server's own words for
// whom, and is an IsForbidden or an IsUnauthorized; any other error says that
// the API server could not be asked.
func (k *Kubernetes) CheckPermissions(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	var refused []error
	version := ""
	for _, request := range []struct {
		what string
		try  func() error
	}{
		{"get /readyz", func() error { return k.readyz(ctx) }},
		{"get namespaces", func() error { return k.sameCluster(ctx) }},
		{"get nodes", func() error {
			_, err := k.core.Nodes().Get(ctx, probeNode, metav1.GetOptions{})
			if saysAbsent(err, probeNode) {
				return nil
			}
			return err
		}},
		{"list nodes", func() error {
			some, err := k.core.Nodes().List(ctx, metav1.ListOptions{Limit: 1})
			if err == nil {
				version = some.ResourceVersion
			}
			return err
		}},
		{"watch nodes", func() error {
			// From where the list ends there is nothing to send but what changes.
			second := int64(1)
			w, err := k.core.Nodes().Watch(ctx, metav1.ListOptions{ResourceVersion: version, TimeoutSeconds: &second})
			if err == nil {
				w.Stop()
			}
			return err
		}},
	} {
		err := request.try()
		switch {
		case err == nil:
		case IsForbidden(err):
			refused = append(refused, fmt.Errorf("%s: %w", request.what, err))
		default: // the others would end as this one did
			return errors.Join(append(refused, fmt.Errorf("%s: %w", request.what, err))...)
		}
	}
	return errors.Join(refused...)
}

// IsForbidden says whether an API server has refused a request for want of a
// permission. The refusal may be wrapped, or joined with other errors.
func IsForbidden(err error) bool { return anywhere(err, apierrors.IsForbidden) }

// IsUnauthorized says, as IsForbidden does, whether an API server has refused a
// request because it does not know who asks.
func IsUnauthorized(err error) bool { return anywhere(err, apierrors.IsUnauthorized) }

// anywhere looks at each of joined errors. apierrors' own functions look at the
// first alone that is of an API server.
func anywhere(err error, is func(error) bool) bool {
	switch e := err.(type) { //nolint:errorlint // it unwraps
	case nil:
		return false
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if anywhere(one, is) {
				return true
			}
		}
		return false
	case interface{ Unwrap() error }:
		return is(err) || anywhere(e.Unwrap(), is)
	}
	return is(err)
}
