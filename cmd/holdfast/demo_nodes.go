package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// nodeFile is a file of nodes, as `kubectl get nodes -o json` prints them.
type nodeFile struct {
	path  string
	names []string
}

// write replaces the file at once, so that nobody reads half of it. No name
// makes it an empty list, which says that there are no nodes.
func (f *nodeFile) write(names ...string) error {
	type object map[string]any
	nodes := []object{}
	for _, name := range names {
		nodes = append(nodes, object{
			"apiVersion": "v1", "kind": "Node",
			"metadata": object{"name": name, "uid": "uid-of-" + name},
			"status":   object{"conditions": []object{{"type": "Ready", "status": "True"}}},
		})
	}
	content, err := json.MarshalIndent(object{"apiVersion": "v1", "kind": "List", "items": nodes}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the node file: %w", err)
	}
	next := f.path + ".next"
	if err := os.WriteFile(next, append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing the node file: %w", err)
	}
	if err := os.Rename(next, f.path); err != nil {
		return fmt.Errorf("writing the node file: %w", err)
	}
	f.names = names
	return nil
}

func (f *nodeFile) String() string { return strings.Join(f.names, ", ") }
