package chaos

import (
	"encoding/json"
	"os"
	"sync"
)

// presence is told when a node is surely in the list and in service, and just
// before that ends.
type presence interface {
	Present(cluster, node string)
	Leaving(cluster, node string)
}

// nodeList is the node file of one cluster: what its controllers take for the
// truth, and what the run knows to be it.
type nodeList struct {
	cluster, path string
	told          presence

	mu    sync.Mutex
	names []string
	state map[string]*nodeState
	// instead, unless it is nil, stands in the file in place of the list.
	instead []byte
}

type nodeState struct{ gone, outOfService bool }

func (n *nodeState) serves() bool { return !n.gone && !n.outOfService }

func newNodeList(cluster, path string, told presence, names ...string) (*nodeList, error) {
	l := &nodeList{cluster: cluster, path: path, told: told, names: names, state: map[string]*nodeState{}}
	for _, n := range names {
		l.state[n] = &nodeState{}
	}
	if err := l.write(); err != nil {
		return nil, err
	}
	for _, n := range names {
		told.Present(cluster, n)
	}
	return l, nil
}

// set writes a node's new state. It is surely there only before the file
// begins to change, and only after it has.
func (l *nodeList) set(name string, to nodeState) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.state[name]
	if *n == to {
		return nil
	}
	if n.serves() {
		l.told.Leaving(l.cluster, name)
	}
	*n = to
	err := l.write()
	if err == nil && n.serves() {
		l.told.Present(l.cluster, name)
	}
	return err
}

func (l *nodeList) remove(name string) error { return l.set(name, nodeState{gone: true}) }
func (l *nodeList) taint(name string) error  { return l.set(name, nodeState{outOfService: true}) }
func (l *nodeList) give(name string) error   { return l.set(name, nodeState{}) }

// say writes something else than the list: an empty one, half of one. It is no
// evidence of anything, so as the run knows it all nodes stay. nil ends it.
func (l *nodeList) say(text []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.instead = text
	return l.write()
}

// sayHalf cuts the list in two.
func (l *nodeList) sayHalf() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	whole, err := l.list()
	if err != nil {
		return err
	}
	l.instead = whole[:len(whole)/2]
	return l.write()
}

// write replaces the file at once, as whoever writes a node file should.
func (l *nodeList) write() error {
	text := l.instead
	if text == nil {
		var err error
		if text, err = l.list(); err != nil {
			return err
		}
	}
	if err := os.WriteFile(l.path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(l.path+".new", l.path)
}

type object = map[string]any

func (l *nodeList) list() ([]byte, error) {
	items := []object{}
	for _, name := range l.names {
		n := l.state[name]
		if n.gone {
			continue
		}
		item := object{"apiVersion": "v1", "kind": "Node", "metadata": object{"name": name, "uid": "uid-" + name}}
		if n.outOfService {
			item["spec"] = object{"taints": []object{{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}}}
		}
		items = append(items, item)
	}
	return json.Marshal(object{"apiVersion": "v1", "kind": "List", "items": items})
}
