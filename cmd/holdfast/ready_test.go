package main

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-storage/holdfast/state"
)

// A controller whose etcd answers nothing any more is not ready, and says why;
// it is again by itself.
func TestProcess_NotReadyWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{}, "node-1")
	controller := w.controller("--stale-after", "15s")
	w.etcd.Freeze()
	w.eventually("/readyz names etcd", func(ctx context.Context) (bool, error) {
		code, body, err := controller.get(ctx, "/readyz")
		return err == nil && code == http.StatusServiceUnavailable && strings.Contains(body, "etcd"), nil
	})
	w.etcd.Thaw()
	if err := controller.ready(t.Context(), patience); err != nil {
		t.Error(err)
	}
}
