package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/holdfast-storage/holdfast/adopt"
	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

func several(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// auditView is what audit prints.
type auditView struct {
	*adopt.Report
	bring string // the command that brings in what is missing
}

func (v auditView) print(w io.Writer) {
	if len(v.Differences) > 0 {
		printFindings(w, v.Differences)
		fmt.Fprintln(w)
		v.printRemedies(w)
	}
	if len(v.Notes) > 0 {
		fmt.Fprintln(w, "No differences, but to be known:")
		printFindings(w, v.Notes)
		fmt.Fprintln(w)
	}
	if v.VolumeAttachments == 0 {
		fmt.Fprintln(w, cli.OneLine(nothingOf(v.Attacher, v.Others)))
	}
	if v.Unsettled > 0 {
		fmt.Fprintf(w, "%s only in the second of two looks: audit again\n", several(v.Unsettled, "more difference"))
	}
	fmt.Fprintf(w, "cluster %s: %s, of %s and %s\n", v.Cluster, several(len(v.Differences), "difference"),
		several(v.VolumeAttachments, "VolumeAttachment"), several(v.Holds, "hold"))
}

func printFindings(w io.Writer, findings []adopt.Finding) {
	t := newTable(w, "KIND", "VOLUME", "KUBERNETES", "LEDGER", "DETAIL")
	for _, f := range findings {
		volume := f.Volume
		if volume == "" && len(f.Kubernetes) > 0 {
			volume = "(VolumeAttachment " + f.Kubernetes[0].Name + ")"
		}
		t.row(string(f.Kind), volume, attachedTo(f), heldBy(f), cmp.Or(f.Detail, "-"))
	}
	t.flush()
}

func attachedTo(f adopt.Finding) string {
	var out []string
	for _, a := range f.Kubernetes {
		out = append(out, a.Node)
	}
	return strings.Join(out, ",")
}

func heldBy(f adopt.Finding) string {
	var out []string
	for _, h := range f.Ledger {
		out = append(out, fmt.Sprintf("%s/%s (%s)", h.Cluster, h.Node, h.Mode))
	}
	return strings.Join(out, ",")
}

// printRemedies says what to do about each kind that was found.
func (v auditView) printRemedies(w io.Writer) {
	for _, kind := range adopt.Kinds() {
		if !slices.ContainsFunc(v.Differences, func(f adopt.Finding) bool { return f.Kind == kind }) {
			continue
		}
		remedy := ""
		switch kind {
		case adopt.Missing:
			remedy = "'" + v.bring + "' shows what would bring them into the ledger"
		case adopt.Extra:
			remedy = "'holdfast detach VOLUME NODE --cluster " + v.Cluster + "' ends them, once you are sure that the node is done with the volume"
		case adopt.Elsewhere:
			remedy = "'holdfast get VOLUME' says since when it is held, and by whom; both nodes may be writing, so find out which one does"
		case adopt.Twice:
			remedy = "several nodes may be writing: stop the pods on all but one of them"
		case adopt.WrongMode:
			remedy = "other nodes are let in: detach and attach it again with --mode exclusive while nobody uses it"
		}
		fmt.Fprintf(w, "%s: %s\n", kind, remedy)
	}
	fmt.Fprintln(w)
}
