package adopt

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// DefaultSettle is how long an Audit waits between its two looks.
const DefaultSettle = 5 * time.Second

// Config says what an Audit compares.
type Config struct {
	Kubernetes *Kubernetes
	// Ledger may be opened read-only. An Audit writes nothing.
	Ledger *state.Ledger
	// Cluster is whose holds and VolumeAttachments they are. That Kubernetes is
	// that cluster's, the caller has made sure of.
	Cluster string
	// Attacher is the CSI driver whose VolumeAttachments are compared.
	Attacher string
	// Mode is that of all volumes; empty is by their access modes.
	Mode state.Mode
	// Settle is how long to wait before what looks different is looked at
	// again; default 5 s.
	Settle time.Duration
}

// Report is what an Audit has found.
type Report struct {
	Cluster  string `json:"cluster"`
	Attacher string `json:"attacher"`
	// Differences are those that were seen twice, by volume.
	Differences []Finding `json:"items"`
	// Notes are what is to be told and is no difference, by volume.
	Notes []Finding `json:"notes"`
	// VolumeAttachments of the attacher, and Holds of the cluster.
	VolumeAttachments int `json:"volumeAttachments"`
	Holds             int `json:"holds"`
	// Unsettled are differences that the second look has seen alone. They are
	// of changes under way, or new; the next Audit tells.
	Unsettled int `json:"unsettled,omitempty"`
	// Others are the other attachers, with how many VolumeAttachments they have.
	Others map[string]int `json:"otherAttachers,omitempty"`
}

// Audit compares what a cluster says is attached with what the ledger says it
// holds. Where a first look finds differences it looks once more, Settle later,
// and reports those that are still there.
func Audit(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Settle == 0 {
		cfg.Settle = DefaultSettle
	}
	report, err := cfg.look(ctx)
	if err != nil || len(report.Differences) == 0 {
		return report, err
	}
	first := report.Differences
	settled := time.NewTimer(cfg.Settle)
	defer settled.Stop()
	select {
	case <-settled.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if report, err = cfg.look(ctx); err != nil {
		return nil, err
	}
	second := report.Differences
	report.Differences = listOf(Confirm(first, second))
	report.Unsettled = len(second) - len(report.Differences)
	return report, nil
}

// look reads the VolumeAttachments, and then the holds.
func (cfg Config) look(ctx context.Context) (*Report, error) {
	r, err := cfg.Kubernetes.Read(ctx, cfg.Attacher, cfg.Mode)
	if err != nil {
		return nil, err
	}
	held, err := ReadHeld(ctx, cfg.Ledger, cfg.Cluster, r)
	if err != nil {
		return nil, fmt.Errorf("reading the holds of cluster %s: %w", cfg.Cluster, err)
	}
	report := &Report{
		Cluster: cfg.Cluster, Attacher: cfg.Attacher, Others: r.Others,
		VolumeAttachments: len(r.Attachments), Holds: held.own,
	}
	differences, notes := Compare(Look{Cluster: cfg.Cluster, Attachments: r.Attachments, Held: held})
	report.Differences, report.Notes = listOf(differences), listOf(notes)
	return report, nil
}

// listOf is never nil, which JSON would call null.
func listOf(findings []Finding) []Finding { return append([]Finding{}, findings...) }
