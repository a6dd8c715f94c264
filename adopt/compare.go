package adopt

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-storage/holdfast/state"
)

// Kind says what was found of a volume. The set is closed, and its names are
// printed, and are labels of a metric.
type Kind string

// The kinds of differences.
const (
	// Missing: attached in Kubernetes, and nobody holds it there.
	Missing Kind = "missing"
	// Extra: held, and nothing attached in Kubernetes.
	Extra Kind = "extra"
	// Elsewhere: attached to one node in Kubernetes, and held by another, of
	// this cluster or of another one, that excludes it.
	Elsewhere Kind = "elsewhere"
	// Twice: attached to several nodes in Kubernetes, although its access modes
	// are those of a single node.
	Twice Kind = "twice"
	// WrongMode: its access modes are those of a single node, and the node's
	// hold is shared. The other way round is the driver's own choice.
	WrongMode Kind = "mode"
)

// Kinds lists the kinds of differences.
func Kinds() []Kind { return []Kind{Missing, Extra, Elsewhere, Twice, WrongMode} }

// The kinds of notes: what is told and is no difference.
const (
	// InMotion: it is being attached or detached in Kubernetes.
	InMotion Kind = "in-motion"
	// Migrating: a migration's window is open.
	Migrating Kind = "migrating"
	// Skipped: which volume of the ledger the VolumeAttachment is about is not known.
	Skipped Kind = "skipped"
	// Unclear: held, and nothing is known to be attached; but the node has a
	// VolumeAttachment that was skipped, which may be the volume's.
	Unclear Kind = "unclear"
)

// Finding is what was found of one volume: what Kubernetes says of it, and what
// the ledger says.
type Finding struct {
	Kind       Kind               `json:"kind"`
	Volume     string             `json:"volume,omitempty"`
	Kubernetes []VolumeAttachment `json:"kubernetes,omitempty"`
	Ledger     []Holder           `json:"ledger,omitempty"`
	Detail     string             `json:"detail,omitempty"`

	must  fact   // what has to be seen twice
	tells []fact // all that it has seen
}

// fact is what a look has seen of certain objects. The id holds the UID of a
// VolumeAttachment or the create revision of a hold, so that a later one of the
// same name is another fact.
type fact struct{ says, volume, node, id string }

// key tells one finding from another, for whoever follows them.
func (f Finding) key() string {
	parts := []string{string(f.Kind), f.Volume}
	for _, a := range f.Kubernetes {
		parts = append(parts, a.Name, a.Node)
	}
	for _, h := range f.Ledger {
		parts = append(parts, h.place().String())
	}
	return strings.Join(parts, "\x00")
}

// Look is what one look has seen, first in Kubernetes and then in the ledger.
type Look struct {
	Cluster     string
	Attachments []VolumeAttachment
	Held        *Held
}

// Compare finds where a look's two sides differ, and what else is to be told,
// both by volume. It is pure. What it calls a difference may be of two moments;
// see Confirm.
func Compare(look Look) (differences, notes []Finding) {
	c := comparison{look: look, volumes: map[string]*comparing{}, skipped: map[string]bool{}}
	c.gather()
	for _, name := range slices.Sorted(maps.Keys(c.volumes)) {
		c.volume(name, c.volumes[name])
	}
	slices.SortStableFunc(c.notes, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Kind, b.Kind))
	})
	return c.differences, c.notes
}

// Confirm returns those of the second look's differences that the first one has
// seen too, of the same objects.
func Confirm(first, second []Finding) []Finding {
	seen := map[fact]bool{}
	for _, d := range first {
		for _, f := range d.tells {
			seen[f] = true
		}
	}
	var out []Finding
	for _, d := range second {
		if seen[d.must] {
			out = append(out, d)
		}
	}
	return out
}

type comparison struct {
	look    Look
	volumes map[string]*comparing
	skipped map[string]bool // nodes with a VolumeAttachment of an unknown volume

	differences, notes []Finding
}

// comparing is one volume's: what of it is attached and in motion, and who of
// the cluster holds it.
type comparing struct {
	attached, moving []VolumeAttachment
	holds            []Holder
}

func (c *comparison) gather() {
	at := func(name string) *comparing {
		if c.volumes[name] == nil {
			c.volumes[name] = &comparing{}
		}
		return c.volumes[name]
	}
	for _, a := range c.look.Attachments {
		switch {
		case a.Unknown != "":
			c.skipped[a.Node] = true
			c.note(Finding{Kind: Skipped, Kubernetes: []VolumeAttachment{a}, Detail: a.Unknown})
		case a.Phase == Attached:
			v := at(a.Volume)
			v.attached = append(v.attached, a)
		default:
			v := at(a.Volume)
			v.moving = append(v.moving, a)
			c.note(Finding{Kind: InMotion, Volume: a.Volume, Kubernetes: []VolumeAttachment{a}, Detail: string(a.Phase)})
		}
	}
	for volume, holders := range c.look.Held.Holders {
		for _, h := range holders {
			if h.Cluster == c.look.Cluster {
				v := at(volume)
				v.holds = append(v.holds, h)
			}
		}
	}
}

func (c *comparison) note(f Finding) { c.notes = append(c.notes, f) }

func (c *comparison) volume(name string, v *comparing) {
	if m, ok := c.look.Held.Migrations[name]; ok {
		// Two holds are meant to be there, and either node may be attached.
		c.note(Finding{Kind: Migrating, Volume: name, Kubernetes: v.attached, Ledger: c.look.Held.Holders[name],
			Detail: fmt.Sprintf("from %s to %s", m.Source, m.Target)})
		return
	}
	missing, extra := v.unmatched()
	if v.twice() {
		f := Finding{Kind: Twice, Volume: name, Kubernetes: v.attached, Ledger: c.look.Held.Holders[name]}
		f.must = fact{says: "twice", volume: name, id: uids(v.attached)}
		f.tells = slices.Concat([]fact{f.must}, withoutHold(missing), withoutAttachment(name, extra))
		c.differences = append(c.differences, f)
		return
	}
	for _, a := range missing {
		f := Finding{Kind: Missing, Volume: name, Kubernetes: []VolumeAttachment{a}, tells: withoutHold([]VolumeAttachment{a})}
		f.must = f.tells[0]
		if others := c.look.Held.blocking(name, a.place(c.look.Cluster), a.Mode); len(others) > 0 {
			f.Kind, f.Ledger = Elsewhere, others
			explained := func(h Holder) bool { return slices.Contains(others, h) }
			f.tells = append(f.tells, withoutAttachment(name, extra)...)
			extra = slices.DeleteFunc(extra, explained)
		}
		c.differences = append(c.differences, f)
	}
	for _, h := range extra {
		f := Finding{Kind: Extra, Volume: name, Ledger: []Holder{h}, tells: withoutAttachment(name, []Holder{h})}
		f.must = f.tells[0]
		if c.skipped[h.Node] {
			f.Kind, f.Detail = Unclear, "a VolumeAttachment of the node that was skipped may be its"
			c.note(f)
			continue
		}
		c.differences = append(c.differences, f)
	}
	c.differences = append(c.differences, v.tooOpen(name)...)
}

// unmatched are the attached without a hold of their node, and the holds of
// nodes where nothing is attached, or about to be, or still.
func (v *comparing) unmatched() (missing []VolumeAttachment, extra []Holder) {
	for _, a := range v.attached {
		held := slices.ContainsFunc(v.holds, func(h Holder) bool { return h.Node == a.Node })
		again := slices.ContainsFunc(missing, func(m VolumeAttachment) bool { return m.Node == a.Node })
		if !held && !again {
			missing = append(missing, a)
		}
	}
	for _, h := range v.holds {
		on := func(a VolumeAttachment) bool { return a.Node == h.Node }
		if !slices.ContainsFunc(v.attached, on) && !slices.ContainsFunc(v.moving, on) {
			extra = append(extra, h)
		}
	}
	return missing, extra
}

// twice: one node may use it, and several have it attached.
func (v *comparing) twice() bool { return alone(v.attached) && len(nodes(v.attached)) > 1 }

// tooOpen are the shared holds of a volume that one node alone may use: they
// let other clusters' nodes in.
func (v *comparing) tooOpen(name string) []Finding {
	var out []Finding
	for _, h := range v.holds {
		i := slices.IndexFunc(v.attached, func(a VolumeAttachment) bool { return a.Node == h.Node && !h.suffices(a.Mode) })
		if i < 0 {
			continue
		}
		a := v.attached[i]
		f := Finding{Kind: WrongMode, Volume: name, Kubernetes: []VolumeAttachment{a}, Ledger: []Holder{h}}
		f.must = fact{says: "too open", volume: name, node: h.Node, id: fmt.Sprintf("%s %d", a.UID, h.revision)}
		f.tells = []fact{f.must}
		out = append(out, f)
	}
	return out
}

func withoutHold(attached []VolumeAttachment) []fact {
	var out []fact
	for _, a := range attached {
		out = append(out, fact{"attached without a hold", a.Volume, a.Node, a.UID})
	}
	return out
}

func withoutAttachment(volume string, holds []Holder) []fact {
	var out []fact
	for _, h := range holds {
		out = append(out, fact{"held without a VolumeAttachment", volume, h.Node, fmt.Sprint(h.revision)})
	}
	return out
}

// alone: the access modes of one of the PersistentVolumes let one node use the
// volume.
func alone(attached []VolumeAttachment) bool {
	return slices.ContainsFunc(attached, func(a VolumeAttachment) bool { return a.Mode == state.Exclusive })
}

func nodes(attached []VolumeAttachment) []string {
	var out []string
	for _, a := range attached {
		out = append(out, a.Node)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func uids(attached []VolumeAttachment) string {
	var out []string
	for _, a := range attached {
		out = append(out, a.UID)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
