package adopt

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-storage/holdfast/state"
)

// script runs each block of the scripts in a folder of testdata through run: a
// block is comments, lines of input, "----" and the output, and ends at an
// empty line.
func script(t *testing.T, folder string, run func(t *testing.T, input []string) string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata/%s: %v", folder, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var blocks []string
			for block := range strings.SplitSeq(strings.TrimSpace(string(data)), "\n\n") {
				given, _, _ := strings.Cut(block+"\n", "----\n")
				var input []string
				for line := range strings.Lines(given) {
					if !strings.HasPrefix(line, "#") {
						input = append(input, strings.TrimSpace(line))
					}
				}
				if len(input) > 0 {
					given += "----\n" + run(t, input)
				}
				blocks = append(blocks, strings.TrimRight(given, "\n"))
			}
			got := strings.Join(blocks, "\n\n") + "\n"
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if diff := cmp.Diff(strings.Split(string(data), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("%s (-want +got), rewrite it with -rewrite:\n%s", file, diff)
			}
		})
	}
}

// both is what the lines of a block say of the two sides. The cluster is east.
type both struct {
	attachments []VolumeAttachment
	held        *Held
	nodeUIDs    map[string]string
}

func newBoth() *both {
	return &both{
		held: &Held{
			Holders: map[string][]Holder{}, Migrations: map[string]state.Migration{}, Graces: map[string][]state.Detachment{}, Detached: map[string][]string{},
		},
		nodeUIDs: map[string]string{},
	}
}

// apply takes a line:
//
//	va NAME VOLUME NODE [uid=U] [shared|any-mode] [attaching|detaching] [unknown]
//	hold VOLUME CLUSTER/NODE [shared] [rev=N]
//	migration VOLUME CLUSTER/NODE CLUSTER/NODE
//	grace VOLUME CLUSTER/NODE
//	node NODE UID
func (b *both) apply(t *testing.T, line string) {
	words := strings.Fields(line)
	need := map[string]int{"va": 4, "hold": 3, "migration": 4, "grace": 3, "node": 3}[words[0]]
	if need == 0 || len(words) < need {
		t.Fatalf("%q: no such line", line)
	}
	given, options := words[1:need], words[need:]
	has := func(word string) bool { return slices.Contains(options, word) }
	mode := state.Exclusive
	if has("shared") {
		mode = state.Shared
	}
	switch words[0] {
	case "va":
		a := VolumeAttachment{Name: given[0], UID: "uid-of-" + given[0], PersistentVolume: "pv-" + given[0], Volume: given[1], Node: given[2], Phase: Attached, Mode: mode}
		for _, o := range options {
			if uid, ok := strings.CutPrefix(o, "uid="); ok {
				a.UID = uid
			}
		}
		switch {
		case has("attaching"):
			a.Phase = Attaching
		case has("detaching"):
			a.Phase = Detaching
		}
		if has("any-mode") {
			a.Mode = ""
		}
		if has("unknown") {
			a.Volume, a.Mode, a.Unknown = "", "", "nobody knows"
		}
		b.attachments = append(b.attachments, a)
	case "hold":
		place := placeOf(t, given[1])
		h := Holder{Cluster: place.Cluster, Node: place.Node, Mode: mode}
		for _, o := range options {
			if rev, ok := strings.CutPrefix(o, "rev="); ok {
				h.revision, _ = strconv.ParseInt(rev, 10, 64)
			}
		}
		b.held.Holders[given[0]] = append(b.held.Holders[given[0]], h)
	case "migration":
		b.held.Migrations[given[0]] = state.Migration{Volume: given[0], Source: placeOf(t, given[1]), Target: placeOf(t, given[2])}
	case "grace":
		place := placeOf(t, given[1])
		if place.Cluster == "east" {
			b.held.Detached[given[0]] = append(b.held.Detached[given[0]], place.Node)
			break
		}
		b.held.Graces[given[0]] = append(b.held.Graces[given[0]], state.Detachment{Volume: given[0], Cluster: place.Cluster, Node: place.Node})
	case "node":
		b.nodeUIDs[given[0]] = given[1]
	}
}

func placeOf(t *testing.T, text string) state.Place {
	cluster, node, ok := strings.Cut(text, "/")
	if !ok {
		t.Fatalf("%q: expected a place, CLUSTER/NODE", text)
	}
	return state.Place{Cluster: cluster, Node: node}
}

// Compare, and with a line "again" between two looks, Confirm.
func TestCompare(t *testing.T) {
	script(t, "compare", func(t *testing.T, input []string) string {
		looks := []*both{newBoth()}
		for _, line := range input {
			if line == "again" {
				looks = append(looks, newBoth())
				continue
			}
			looks[len(looks)-1].apply(t, line)
		}
		var differences, notes, before []Finding
		for _, l := range looks {
			before = differences
			differences, notes = Compare(Look{Cluster: "east", Attachments: l.attachments, Held: l.held})
		}
		if len(looks) > 1 {
			differences = Confirm(before, differences)
		}
		return describe(differences, notes)
	})
}

func describe(differences, notes []Finding) string {
	var b strings.Builder
	if len(differences) == 0 {
		b.WriteString("equal\n")
	}
	for _, f := range differences {
		b.WriteString(oneFinding(f) + "\n")
	}
	for _, f := range notes {
		b.WriteString("note: " + oneFinding(f) + "\n")
	}
	return b.String()
}

func oneFinding(f Finding) string {
	parts := []string{string(f.Kind)}
	if f.Volume != "" {
		parts = append(parts, f.Volume)
	}
	for _, a := range f.Kubernetes {
		parts = append(parts, fmt.Sprintf("%s on %s", a.Name, a.Node))
	}
	for _, h := range f.Ledger {
		parts = append(parts, fmt.Sprintf("held %s by %s", h.Mode, h.place()))
	}
	if f.Detail != "" {
		parts = append(parts, f.Detail)
	}
	return strings.Join(parts, ", ")
}

func TestPlan(t *testing.T) {
	script(t, "plan", func(t *testing.T, input []string) string {
		b := newBoth()
		for _, line := range input {
			b.apply(t, line)
		}
		var out strings.Builder
		for _, i := range Plan("east", b.attachments, b.held, b.nodeUIDs) {
			fmt.Fprintf(&out, "%s: %s", i.Name, i.Result)
			if i.Mode != "" {
				fmt.Fprintf(&out, " %s", i.Mode)
			}
			if i.NodeUID != "" {
				fmt.Fprintf(&out, " of node %s", i.NodeUID)
			}
			if i.Detail != "" {
				fmt.Fprintf(&out, ": %s", i.Detail)
			}
			for _, h := range i.Holders {
				fmt.Fprintf(&out, " [%s]", h.place())
			}
			out.WriteString("\n")
		}
		return out.String()
	})
}
