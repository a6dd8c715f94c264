package watch

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-storage/holdfast/state"
)

// inFiles are the nodes of the files in testdata/nodes, which have what kubectl prints.
var inFiles = []Node{
	{Name: "n1", UID: "0c1a-1", Ready: true},
	{Name: "n2.rack-2.example", UID: "0c1a-2", OutOfService: true},
	{Name: "n3", UID: "0c1a-3", Deleting: true},
}

func nodeFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "nodes", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseNodes_WhatKubectlPrints(t *testing.T) {
	list := nodeFile(t, "list.json")
	var compact bytes.Buffer
	if err := json.Compact(&compact, list); err != nil {
		t.Fatal(err)
	}
	untyped := strings.NewReplacer(`"apiVersion":"v1","kind":"Node",`, "", `"kind":"List"`, `"kind":"NodeList"`)
	for name, c := range map[string]struct {
		data []byte
		want []Node
	}{
		"list in JSON":             {list, inFiles},
		"list in JSON, one line":   {compact.Bytes(), inFiles},
		"list in YAML":             {nodeFile(t, "list.yaml"), inFiles},
		"documents in YAML":        {nodeFile(t, "documents.yaml"), inFiles},
		"one node in JSON":         {nodeFile(t, "node.json"), inFiles[:1]},
		"NodeList, as the API has": {[]byte(untyped.Replace(compact.String())), inFiles},
		"documents in JSON":        {append(nodeFile(t, "node.json"), `{"apiVersion":"v1","kind":"Node","metadata":{"name":"b"}}`...), []Node{inFiles[0], {Name: "b"}}},
		"with a byte order mark":   {append([]byte("\xef\xbb\xbf"), list...), inFiles},
		"with Windows' line ends":  {bytes.ReplaceAll(nodeFile(t, "documents.yaml"), []byte("\n"), []byte("\r\n")), inFiles},
		"comments and empty ones":  {append([]byte("# nodes\n---\n\n--- # another\n"), nodeFile(t, "documents.yaml")...), inFiles},
		"an empty list":            {[]byte("apiVersion: v1\nitems: []\nkind: List\nmetadata:\n  resourceVersion: \"\"\n"), nil},
		"an empty list in JSON":    {[]byte(`{"apiVersion":"v1","kind":"NodeList","items":[]}`), nil},
		"by hand":                  {[]byte("apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: a}}\n"), []Node{{Name: "a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseNodes(c.data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" && len(c.want)+len(got) > 0 {
				t.Errorf("-want +got: %s", diff)
			}
		})
	}
}

// bad are files that no one may take for a list of nodes, with what is said of them.
var bad = map[string]struct{ data, want string }{
	"empty":                      {"", "is empty"},
	"blank":                      {" \n\n", "is empty"},
	"only comments":              {"# soon\n---\n", "has no document in it"},
	"not UTF-8":                  {"\xff\xfek\x00i\x00n\x00d\x00", "is not UTF-8"},
	"cut short":                  {`{"apiVersion":"v1","kind":"List","items":[{"kind":"No`, "is cut short: its JSON does not end"},
	"more behind it":             {`{"apiVersion":"v1","kind":"List","items":[]}]`, "is no JSON after byte 44: invalid character ']'"},
	"an array":                   {"[]\n", "is malformed in document 1: json: cannot unmarshal array"},
	"no final line end":          {"apiVersion: v1\nitems: []\nkind: List", "is cut short: its last line has no end"},
	"YAML cut in the items":      {"apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Node\n  metadata:\n    name: a\n", "it has no kind"},
	"no YAML":                    {"a: b: c\n", "is no YAML: "},
	"a word":                     {"nodes\n", "is malformed in document 1: json: cannot unmarshal string"},
	"kubectl's complaint":        {"Error from server (Forbidden): nodes is forbidden\n", "is malformed in document 1: it has no kind"},
	"a key twice":                {"apiVersion: v1\nkind: List\nitems: []\nkind: List\n", `key "kind" already set`},
	"no kind":                    {`{"items":[]}`, "it has no kind"},
	"another kind":               {`{"apiVersion":"v1","kind":"PodList","items":[]}`, "it is a \"PodList\""},
	"another group's Node":       {`{"apiVersion":"x/v1","kind":"Node","metadata":{"name":"a"}}`, `it is a "Node" of apiVersion "x/v1", not "v1"`},
	"no items":                   {`{"apiVersion":"v1","kind":"List"}`, "the List has no list of items"},
	"items null":                 {`{"apiVersion":"v1","kind":"List","items":null}`, "the List has no list of items"},
	"items no list":              {`{"apiVersion":"v1","kind":"List","items":{}}`, "the List has no list of items"},
	"Items":                      {`{"apiVersion":"v1","kind":"List","Items":[]}`, "the List has no list of items"},
	"an item of another kind":    {`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}]}`, `item 1: it is a "Pod"`},
	"an untyped item of a List":  {`{"apiVersion":"v1","kind":"List","items":[{"metadata":{"name":"a"}}]}`, `item 1: it is a ""`},
	"an item that is null":       {`{"apiVersion":"v1","kind":"NodeList","items":[null]}`, "item 1: the Node has no name"},
	"a node without a name":      {`{"apiVersion":"v1","kind":"Node","metadata":{}}`, "the Node has no name"},
	"a name that is none":        {`{"apiVersion":"v1","kind":"Node","metadata":{"name":"A B"}}`, `invalid node "A B"`},
	"a name that is a number":    {"apiVersion: v1\nkind: Node\nmetadata: {name: 7}\n", "cannot unmarshal number"},
	"taints that are none":       {`{"apiVersion":"v1","kind":"Node","metadata":{"name":"a"},"spec":{"taints":"x"}}`, "cannot unmarshal string"},
	"a node twice":               {"apiVersion: v1\nkind: Node\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Node\nmetadata: {name: a}\n", `has node "a" twice`},
	"a second document that bad": {"apiVersion: v1\nkind: List\nitems: []\n---\nkind: Pod\napiVersion: v1\n", "is malformed in document 2: it is a \"Pod\""},
	"more behind the end":        {"apiVersion: v1\nkind: List\nitems: []\n...\njunk\n", "is malformed in document 2"},
}

func TestParseNodes_Bad(t *testing.T) {
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			got, err := parseNodes([]byte(c.data))
			if err == nil {
				t.Fatalf("taken for %v", got)
			}
			if text := err.Error(); !strings.Contains(text, c.want) || strings.Contains(text, "\n") {
				t.Errorf("said %q, want one line with %q", text, c.want)
			}
		})
	}
}

// However a file is cut short, it never gives fewer nodes.
func TestParseNodes_CutAnywhere(t *testing.T) {
	for _, name := range []string{"list.json", "list.yaml"} {
		data := nodeFile(t, name)
		whole := 0
		for end := range data {
			if end%5 != 0 && data[end] != '\n' && (end == 0 || data[end-1] != '\n') {
				continue // every line's end, and a fifth of the rest: it takes long
			}
			got, err := parseNodes(data[:end])
			if err == nil && !cmp.Equal(got, inFiles) {
				t.Fatalf("%s cut at byte %d of %d gives %v", name, end, len(data), got)
			}
			if err == nil {
				whole++
			}
		}
		if whole > 3 { // without its last line end, and YAML without the list's metadata
			t.Errorf("%s counts as whole when cut in %d ways", name, whole)
		}
	}
}

func FuzzParseNodes(f *testing.F) {
	for _, name := range []string{"list.json", "list.yaml", "documents.yaml", "node.json"} {
		f.Add(nodeFile(f, name))
	}
	for _, c := range bad {
		f.Add([]byte(c.data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		nodes, err := parseNodes(data)
		if err != nil {
			if text := err.Error(); len(text) > 8<<10 || strings.ContainsAny(text, "\n\x1b\x00") {
				t.Errorf("%d bytes of an error: %.1000q", len(text), text)
			}
			if len(nodes) > 0 {
				t.Errorf("%v, and nodes too: %v", err, nodes)
			}
			return
		}
		seen := map[string]bool{}
		for _, n := range nodes {
			if state.ValidateNode(n.Name) != nil || seen[n.Name] {
				t.Errorf("no name, or twice: %q", n.Name)
			}
			seen[n.Name] = true
		}
		again, err := parseNodes(data)
		if err != nil || !cmp.Equal(nodes, again) {
			t.Errorf("a second time: %v (%v), not %v", again, err, nodes)
		}
	})
}
