package watch

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-storage/holdfast/state"
)

const kubernetesV1 = "v1"

// parseNodes reads Node objects as kubectl prints them: JSON or YAML, one List
// or several documents. It is strict, for a list that lacks nodes looks just
// like one of a cluster that lost them: what is cut short, malformed, unnamed
// or no Node is an error, and only a list that says so is empty.
//
// It finds every cut through JSON, and through the YAML of a List as kubectl
// prints it, with the kind behind the items. YAML that is cut exactly between
// two documents, or between two items of a list whose kind stands first, cannot
// be told from a whole one.
func parseNodes(data []byte) ([]Node, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	text := bytes.TrimLeft(data, " \t\r\n")
	switch {
	case len(text) == 0:
		return nil, errors.New("is empty")
	case !utf8.Valid(data):
		return nil, errors.New("is not UTF-8")
	}
	documents := jsonDocuments
	if text[0] != '{' {
		documents = yamlDocuments
	}
	docs, err := documents(data)
	if err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		return nil, errors.New("has no document in it")
	}
	var nodes []Node
	for i, doc := range docs {
		found, err := parseDocument(doc)
		if err != nil {
			return nil, fmt.Errorf("is malformed in document %d: %w", i+1, err)
		}
		nodes = append(nodes, found...)
	}
	seen := make(map[string]struct{}, len(nodes))
	for _, n := range nodes {
		if _, twice := seen[n.Name]; twice {
			return nil, fmt.Errorf("has node %q twice", n.Name)
		}
		seen[n.Name] = struct{}{}
	}
	return nodes, nil
}

func jsonDocuments(data []byte) ([][]byte, error) {
	var docs [][]byte
	for dec := stdjson.NewDecoder(bytes.NewReader(data)); ; {
		var doc stdjson.RawMessage
		err := dec.Decode(&doc)
		switch {
		case errors.Is(err, io.EOF):
			return docs, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, errors.New("is cut short: its JSON does not end")
		case err != nil:
			return nil, fmt.Errorf("is no JSON after byte %d: %w", dec.InputOffset(), err)
		}
		docs = append(docs, doc)
	}
}

// yamlDocuments returns each document as JSON, those with nothing in them left
// out.
func yamlDocuments(data []byte) ([][]byte, error) {
	if data[len(data)-1] != '\n' {
		return nil, errors.New("is cut short: its last line has no end")
	}
	var docs [][]byte
	add := func(text []byte) error {
		// Strict: a key twice is an error.
		doc, err := yaml.YAMLToJSONStrict(text)
		if err != nil {
			return fmt.Errorf("is no YAML: %s", oneLine(err))
		}
		if !bytes.Equal(doc, []byte("null")) {
			docs = append(docs, doc)
		}
		return nil
	}
	begin := 0
	for at := 0; at < len(data); {
		end := at + bytes.IndexByte(data[at:], '\n') + 1
		if separates(data[at:end]) {
			if err := add(data[begin:at]); err != nil {
				return nil, err
			}
			begin = end
		}
		at = end
	}
	return docs, add(data[begin:])
}

// separates says whether a line ends a document. A document that goes on in the
// line of its "---" is not something that kubectl prints; it fails to parse.
func separates(line []byte) bool {
	line = bytes.TrimRight(line, " \t\r\n")
	return bytes.Equal(line, []byte("---")) || bytes.Equal(line, []byte("...")) || bytes.HasPrefix(line, []byte("--- #"))
}

// head is what a document says of itself.
type head struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	Items      stdjson.RawMessage `json:"items"`
}

func parseDocument(doc []byte) ([]Node, error) {
	var h head
	if err := json.Unmarshal(doc, &h); err != nil {
		return nil, errors.New(oneLine(err))
	}
	if h.Kind == "" {
		return nil, errors.New("it has no kind")
	}
	if h.APIVersion != kubernetesV1 {
		return nil, fmt.Errorf("it is a %q of apiVersion %q, not %q", h.Kind, h.APIVersion, kubernetesV1)
	}
	switch h.Kind {
	case "Node":
		n, err := parseNode(doc)
		return []Node{n}, err
	case "List", "NodeList":
	default:
		return nil, fmt.Errorf("it is a %q", h.Kind)
	}
	var items []stdjson.RawMessage
	if err := json.Unmarshal(h.Items, &items); len(h.Items) == 0 || err != nil || items == nil {
		return nil, fmt.Errorf("the %s has no list of items", h.Kind)
	}
	nodes := make([]Node, 0, len(items))
	for i, item := range items {
		var ih head
		err := json.Unmarshal(item, &ih)
		// The items of a NodeList, as the API gives it, do not say what they are.
		untyped := h.Kind == "NodeList" && ih.Kind == "" && ih.APIVersion == ""
		if err == nil && !untyped && (ih.Kind != "Node" || ih.APIVersion != kubernetesV1) {
			err = fmt.Errorf("it is a %q of apiVersion %q, not a Node of %q", ih.Kind, ih.APIVersion, kubernetesV1)
		}
		var n Node
		if err == nil {
			n, err = parseNode(item)
		}
		if err != nil {
			return nil, fmt.Errorf("item %d: %s", i+1, oneLine(err))
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func parseNode(doc []byte) (Node, error) {
	var n corev1.Node
	if err := json.Unmarshal(doc, &n); err != nil {
		return Node{}, errors.New(oneLine(err))
	}
	if n.Name == "" {
		return Node{}, errors.New("the Node has no name")
	}
	if err := state.ValidateNode(n.Name); err != nil {
		return Node{}, err
	}
	return fromKubernetes(&n), nil
}

// oneLine is an error's text on one line: YAML's come on several.
func oneLine(err error) string {
	return string(bytes.Join(bytes.Fields([]byte(err.Error())), []byte(" ")))
}
