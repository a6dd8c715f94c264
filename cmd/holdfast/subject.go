package main

import (
	"fmt"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// subject is what a record of the ledger is about, for a watch to print.
type subject struct {
	kind, volume, place, detail string
	clusters                    []string
	record                      any
}

// subjectOf takes any record that a watch hands over. What it does not know has
// no kind.
func subjectOf(record any) subject {
	switch r := record.(type) {
	case state.Hold:
		return subject{"hold", r.Volume, r.Place().String(), fmt.Sprintf("%s, token %s%s", r.Mode, r.Token, byWhom(r.By)), []string{r.Cluster}, watchedHold{Hold: r}}
	case state.Attachment:
		return subject{"attachment", r.Volume, r.Place().String(), "lease " + r.Lease.String(), []string{r.Cluster}, viewAttachment(r)}
	case state.Detachment:
		p := state.Place{Cluster: r.Cluster, Node: r.Node}
		detail := fmt.Sprintf("%s, grace %s%s", r.Reason, shortDuration(r.Grace), byWhom(r.By))
		return subject{"detachment", r.Volume, p.String(), detail, []string{r.Cluster}, viewDetachment(r)}
	case state.Migration:
		return subject{"migration", r.Volume, r.Source.String(), fmt.Sprintf("to %s until %s%s", r.Target, clock(r.Deadline), byWhom(r.By)),
			[]string{r.Source.Cluster, r.Target.Cluster}, viewMigration(r)}
	case state.Departure:
		p := state.Place{Cluster: r.Cluster, Node: r.Node}
		return subject{"departure", "", p.String(), string(r.Reason) + byWhom(r.By), []string{r.Cluster}, r}
	case state.Quarantine:
		p := state.Place{Cluster: r.Cluster, Node: r.Node}
		return subject{"quarantine", "", p.String(), "until " + clock(r.Until), []string{r.Cluster}, r}
	case state.Pause:
		return subject{"pause", "", r.Cluster, r.Why + byWhom(r.By), []string{r.Cluster}, r}
	case state.RestoreFreeze:
		return subject{"freeze", "", r.Cluster, r.Why + byWhom(r.By), []string{r.Cluster}, r}
	case state.Witness:
		return subject{"witness", "", r.Cluster, "renewed" + byWhom(r.By), []string{r.Cluster}, r}
	case state.ClusterRecord:
		return subject{"cluster", "", r.Cluster, "UID " + r.UID, []string{r.Cluster}, r}
	case state.LedgerRecord:
		detail := fmt.Sprintf("epoch %d", r.Epoch)
		if r.Frozen != nil {
			detail += ", frozen: " + r.Frozen.Why + byWhom(r.Frozen.By)
		}
		return subject{"ledger", "", "", detail, nil, r}
	case state.Entry:
		detail := string(r.Action)
		for _, more := range []string{r.Reason, r.Why} {
			if more != "" {
				detail += ": " + more
			}
		}
		return subject{"journal", r.Volume, placeOf(r.Cluster, r.Node), detail + byWhom(r.By), []string{r.Cluster}, viewEntry(r)}
	}
	return subject{}
}

// watchedHold is a hold as a watch sees it: without its attachment, and so
// without knowing whether it has lapsed.
type watchedHold struct {
	state.Hold
	Lapsed any `json:"lapsed,omitempty"`
}

func byWhom(by string) string {
	if by == "" {
		return ""
	}
	return ", by " + by
}

func placeOf(cluster, node string) string {
	if node == "" {
		return cluster
	}
	return state.Place{Cluster: cluster, Node: node}.String()
}

func clock(t time.Time) string { return t.Local().Format(time.TimeOnly) }
