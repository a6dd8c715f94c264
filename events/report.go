package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-storage/holdfast/state"
)

// report is what there is to tell, before it is known to whom.
type report struct {
	reason Reason
	kind   string // Normal or Warning
	action string // what was done or tried, a word
	volume string // empty: it is about the cluster
	holder string // whose hold it is about, as a part of the object
	note   string
}

const (
	normal  = corev1.EventTypeNormal
	warning = corev1.EventTypeWarning
)

// Conflict reports a volume that could not be attached: for a driver whose
// attach or migration has failed with a *state.ConflictError or a
// *state.GraceError, wrapped or not. With any other error it does nothing.
func (r *Recorder) Conflict(err error) {
	if rep, ok := conflictReport(err); ok {
		r.take(rep)
	}
}

// IsConflict says whether Conflict reports such an error.
func IsConflict(err error) bool {
	_, is := conflictReport(err)
	return is
}

func conflictReport(err error) (report, bool) {
	rep := report{reason: AttachConflict, kind: warning, action: "Attach"}
	if grace, ok := errors.AsType[*state.GraceError](err); ok {
		rep.volume, rep.holder, rep.note = grace.Volume, graceHolders(grace), graceNote(grace)
		return rep, true
	}
	conflict, ok := errors.AsType[*state.ConflictError](err)
	if !ok {
		return rep, false
	}
	rep.volume, rep.holder, rep.note = conflict.Volume, holders(conflict.Holders), conflictNote(conflict)
	return rep, true
}

// OrphanRemoved reports that the hold of a node that is gone was removed.
func (r *Recorder) OrphanRemoved(a state.Attachment, d state.Departure) {
	why := map[state.DepartureReason]string{
		state.NodeGone:     "its Node object is gone",
		state.NodeReplaced: "another machine has its name",
		state.OutOfService: "an operator has declared it out of service",
	}[d.Reason]
	r.take(report{
		reason: OrphanRemoved, kind: normal, action: "Remove", volume: a.Volume, holder: part(a.Cluster, a.Node),
		note: fmt.Sprintf("volume %q was detached from node %s of cluster %s: %s. Another node of the cluster may attach it now, another cluster after its grace period",
			a.Volume, a.Node, a.Cluster, why),
	})
}

// Brake reports that the brake of the cluster was engaged or released; verdict
// says how many nodes are missing.
func (r *Recorder) Brake(engaged bool, verdict string) {
	// Another verdict is another Event: how many nodes are missing matters.
	part := "brake{" + line(verdict, 80) + "}"
	rep := report{reason: BrakeReleased, kind: normal, action: "Release", holder: part,
		note: fmt.Sprintf("removals go on in cluster %s; brake %s", r.cfg.Cluster, verdict)}
	if engaged {
		rep = report{reason: BrakeEngaged, kind: warning, action: "Brake", holder: part,
			note: fmt.Sprintf("nothing is removed any more in cluster %s, since too many nodes are missing at once; brake %s. "+
				"It goes on when they are back; if they are gone on purpose: holdfast plan --cluster %s shows what will be removed, holdfast resume %s --brake --reason TEXT lets it", r.cfg.Cluster, verdict, r.cfg.Cluster, r.cfg.Cluster)}
	}
	r.take(rep)
}

// HoldLapsed reports a hold that the cluster's controllers had not stood by for
// longer than an attachment lasts. armed: they do again; else they cannot.
func (r *Recorder) HoldLapsed(h state.Hold, armed bool) {
	action, what := "Rearm", "it is stood by again, and nothing needs to be done"
	if !armed {
		action, what = "FailedRearm", "it could not be armed again, and stays as it is; the log of the controller says why"
	}
	r.take(report{
		reason: HoldLapsed, kind: warning, action: action, volume: h.Volume, holder: part(h.Cluster, h.Node),
		note: fmt.Sprintf("the hold of node %s of cluster %s on volume %q had lapsed, since no controller of the cluster ran or reached etcd: %s",
			h.Node, h.Cluster, h.Volume, what),
	})
}

// HoldsLapsed reports how many more holds had lapsed than HoldLapsed was told of.
func (r *Recorder) HoldsLapsed(armed, stuck int) {
	note := fmt.Sprintf("%d more holds of cluster %s had lapsed, since no controller of the cluster ran or reached etcd; they are stood by again", armed, r.cfg.Cluster)
	if stuck > 0 {
		note += fmt.Sprintf(", but for %d that could not be armed again: holdfast list --cluster %s --state lapsed", stuck, r.cfg.Cluster)
	}
	r.take(report{reason: HoldLapsed, kind: warning, action: "Rearm", holder: fmt.Sprintf("holds{%d}", armed+stuck), note: note})
}

// MigrationOverdue reports a volume whose migration was neither committed nor
// aborted in its window, so that two nodes hold it.
func (r *Recorder) MigrationOverdue(v *state.Volume) {
	r.take(report{
		reason: MigrationOverdue, kind: warning, action: "Migrate", volume: v.Name, holder: holders(v.Holds),
		note: fmt.Sprintf("the migration of volume %q is overdue: its window is over, and %s. Detach the one that no longer uses it (holdfast detach)",
			v.Name, heldBy(v.Holds)),
	})
}

func conflictNote(e *state.ConflictError) string {
	var b strings.Builder
	fmt.Fprintf(&b, "volume %q cannot be attached", e.Volume)
	if len(e.Holders) > 0 {
		b.WriteString(": " + heldBy(e.Holders))
	}
	if e.Detail != "" {
		b.WriteString("; " + e.Detail)
	}
	if errors.Is(e, state.ErrLapsed) {
		fmt.Fprintf(&b, ". The controllers of cluster %s have long been away, and it is held all the same until they are back, or an operator gives the cluster up (holdfast evict)",
			e.Holders[0].Cluster)
	} else {
		b.WriteString(". It can be attached once it is detached there; if nothing uses it there any more, holdfast detach ends the hold")
	}
	return b.String()
}

func graceNote(e *state.GraceError) string {
	var by []string
	for _, d := range e.Detachments {
		by = append(by, fmt.Sprintf("node %s of cluster %s at %s", d.Node, d.Cluster, d.At.UTC().Format(time.RFC3339)))
	}
	return fmt.Sprintf("volume %q cannot be attached yet: it was detached by %s, and for another %s only that cluster may attach it. It ends by itself",
		e.Volume, several(by), e.Left.Round(time.Second))
}

// named is how many holders a note names: of shared volumes there may be hundreds.
const named = 3

func heldBy(holds []state.Hold) string {
	var by []string
	for _, h := range holds {
		text := fmt.Sprintf("node %s of cluster %s (%s", h.Node, h.Cluster, h.Mode)
		if !h.Since.IsZero() {
			text += ", since " + h.Since.UTC().Format(time.RFC3339)
		}
		if h.Token != 0 {
			text += ", token " + h.Token.String()
		}
		by = append(by, text+")")
	}
	return several(by) + " " + map[bool]string{true: "holds it", false: "hold it"}[len(holds) == 1]
}

func several(all []string) string {
	if len(all) > named {
		all = append(all[:named:named], fmt.Sprintf("%d more", len(all)-named))
	}
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

// part names a hold as a part of the object that an Event is about. kubectl
// shows it as the SUBOBJECT; and client-go counts as one only Events about the
// same part, so that one about another holder is not lost in the count of this one's.
func part(cluster, node string) string { return "hold{" + cluster + "/" + node + "}" }

func holders(holds []state.Hold) string {
	var parts []string
	for _, h := range holds {
		parts = append(parts, part(h.Cluster, h.Node))
	}
	return strings.Join(parts[:min(len(parts), named)], ",")
}

func graceHolders(e *state.GraceError) string {
	var parts []string
	for _, d := range e.Detachments {
		parts = append(parts, fmt.Sprintf("detachment{%s/%s}", d.Cluster, d.Node))
	}
	return strings.Join(parts[:min(len(parts), named)], ",")
}

// regarding is the object that a report is about: the volume's claim, or else
// the controller's own Pod, or else the namespace whose UID is the cluster's.
func (r *Recorder) regarding(ctx context.Context, rep report) *corev1.ObjectReference {
	if rep.volume != "" && r.cfg.Claims != nil {
		driver := ""
		if r.cfg.Driver != nil {
			driver = r.cfg.Driver()
		}
		if c, ok := r.cfg.Claims.Claim(ctx, driver, rep.volume); ok {
			return &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: c.Namespace, Name: c.Name, UID: types.UID(c.UID), FieldPath: rep.holder,
			}
		}
	}
	path := rep.holder
	if rep.volume != "" {
		path = strings.Trim("volume{"+line(rep.volume, maxNote)+"}."+rep.holder, ".")
	}
	if p := r.cfg.Pod; p != nil {
		return &corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: types.UID(p.UID), FieldPath: path,
		}
	}
	return &corev1.ObjectReference{
		APIVersion: "v1", Kind: "Namespace", Name: metav1.NamespaceSystem, UID: types.UID(r.cfg.ClusterUID), FieldPath: path,
	}
}

// maxNote is the most bytes that the API server takes for a note.
const maxNote = 1024

// line makes a text one line of at most so many bytes.
func line(text string, most int) string {
	text = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, text)
	if len(text) <= most {
		return text
	}
	const more = "…"
	cut := most - len(more)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + more
}
