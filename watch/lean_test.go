package watch

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// heap is the live heap, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// manyAttachments are events as etcd's watch makes them: the names are pieces of
// their keys.
func manyAttachments(nodes, perNode int) []state.Event {
	var events []state.Event
	for n := range nodes {
		for v := range perNode {
			key := fmt.Sprintf("/holdfast/v1/attachments/a/node-%05d.example/pvc-%036d", n, n*perNode+v)
			parts := strings.Split(key, "/")
			mod := int64(n*perNode + v + 1)
			events = append(events, state.Event{Type: state.Put, Key: key, Revision: mod, Record: state.Attachment{
				Cluster: "a", Node: parts[5], Volume: parts[6], Mode: state.Exclusive, NodeUID: fmt.Sprintf("uid-of-%036d", n),
				Token: state.NewToken(1, mod), Since: time.Unix(1_700_000_000, 0).UTC(), Lease: state.LeaseID(1 + mod/64),
				CreateRevision: mod, ModRevision: mod,
			}})
		}
	}
	return events
}

// One attachment of a million must not cost more than it has to.
func TestIndexIsLean(t *testing.T) {
	const nodes, perNode, most = 200, 200, 200 // bytes each, the volume's 40 included
	ix := newIndex("a", false, true)
	before := heap()
	ix.apply(partAttachments, state.Batch{Reset: true, Events: manyAttachments(nodes, perNode)})
	ix.apply(partAttachments, state.Batch{Synced: true})
	each := (heap() - before) / (nodes * perNode)
	if ix.attachments != nodes*perNode {
		t.Fatal(ix.attachments)
	}
	t.Logf("%d bytes of heap for an attachment", each)
	if each > most {
		t.Errorf("%d bytes of heap for an attachment, want at most %d", each, most)
	}
	ix.apply(partAttachments, state.Batch{Reset: true, Events: manyAttachments(nodes, perNode)})
	ix.apply(partAttachments, state.Batch{Synced: true})
	if again := (heap() - before) / (nodes * perNode); again > most {
		t.Errorf("%d bytes of heap for an attachment after a relist, want at most %d", again, most)
	}
}

// What an event costs does not depend on how much there is.
func BenchmarkIndexApply(b *testing.B) {
	for _, size := range []int{100, 2000} {
		b.Run(fmt.Sprintf("nodes=%d", size), func(b *testing.B) {
			ix := newIndex("a", false, true)
			events := manyAttachments(size, 100)
			ix.apply(partAttachments, state.Batch{Reset: true, Synced: true, Events: events})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				e := events[i%len(events)]
				ix.apply(partAttachments, state.Batch{Events: []state.Event{{Type: state.Delete, Record: e.Record}, e}})
			}
		})
	}
}
