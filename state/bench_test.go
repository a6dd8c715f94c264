package state

import (
	"strconv"
	"sync/atomic"
	"testing"
)

// atOnce is how many callers make calls at the same time, for each core.
const atOnce = 64

// What a call costs this process, with an etcd in it too: compare before and after
// a change, not with another machine.
func BenchmarkAttach(b *testing.B) {
	c := asCluster(b, openLedger(b), "a")
	b.ReportAllocs()
	each(b, func(volume string) error {
		_, err := c.Attach(b.Context(), AttachRequest{Volume: volume, Node: "node-1"})
		return err
	})
}

func BenchmarkDetach(b *testing.B) {
	c := asCluster(b, openLedger(b), "a")
	each(b, func(volume string) error {
		_, err := c.Attach(b.Context(), AttachRequest{Volume: volume, Node: "node-1"})
		return err
	})
	b.ReportAllocs()
	b.ResetTimer()
	each(b, func(volume string) error {
		_, err := c.Detach(b.Context(), DetachRequest{Volume: volume, Node: "node-1"})
		return err
	})
}

// each makes b.N calls, each about a volume of its own, the same ones each time.
func each(b *testing.B, call func(volume string) error) {
	var volumes atomic.Int64
	b.SetParallelism(atOnce)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := call("pvc-" + strconv.FormatInt(volumes.Add(1), 10)); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkAttach_Built is what building the transaction costs.
func BenchmarkAttach_Built(b *testing.B) {
	c := asCluster(b, openLedger(b), "a")
	op := &attach{c: c, req: AttachRequest{Volume: "pvc-00000000-0000-4000-8000-000000000001", Node: "node-1", Mode: Exclusive}, since: now()}
	b.ReportAllocs()
	for b.Loop() {
		op.branch(attempt{})
	}
}
