package watch

import "time"

// nodeSink takes what a NodeSource says into the Watcher.
type nodeSink struct{ w *Watcher }

var _ NodeSink = nodeSink{}

// ReplaceNodes takes in a whole Node list.
func (s nodeSink) ReplaceNodes(nodes []Node, since int64) {
	s.w.update(func() changes {
		s.w.fresh.nodes = contact{at: time.Now()}
		s.w.metrics.nodeList()
		return s.w.index.replaceNodes(nodes, since)
	})
}

// ApplyNode takes in a change of one node.
func (s nodeSink) ApplyNode(n Node, deleted bool) {
	s.w.update(func() changes {
		s.w.fresh.nodes = contact{at: time.Now()}
		s.w.metrics.nodeEvent(deleted)
		return s.w.index.applyNode(n, deleted)
	})
}

// Heard takes in a sign of life, or of none.
func (s nodeSink) Heard(err error) {
	var before error
	s.w.update(func() changes {
		before = s.w.fresh.nodes.err
		if err == nil {
			s.w.fresh.nodes = contact{at: time.Now()}
		} else {
			s.w.fresh.nodes.err = err
			s.w.metrics.nodeError()
		}
		return changes{}
	})
	if err != nil && (before == nil || before.Error() != err.Error()) {
		s.w.log.Warn("nodes cannot be read; nothing is removed until they are", "error", err)
	}
}
