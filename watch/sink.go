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
	news := false
	s.w.update(func() changes {
		if err == nil {
			s.w.fresh.nodes = contact{at: time.Now()}
			return changes{}
		}
		s.w.metrics.nodeError()
		if s.w.fresh.nodes.err == nil {
			clear(s.w.said)
		}
		s.w.fresh.nodes.err = err
		if _, said := s.w.said[err.Error()]; !said && len(s.w.said) < maxSaid {
			s.w.said[err.Error()] = struct{}{}
			news = true
		}
		return changes{}
	})
	if news {
		s.w.log.Warn("nodes cannot be read; nothing is removed until they are", "error", err)
	}
}

// maxSaid bounds the lines that one outage of the Node list gives. A source that
// is tried again and again fails in few ways, and each is said once.
const maxSaid = 8
