package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/adopt"
	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

// keepAuditing audits until the command's context ends, which is no error.
func (f *auditFlags) keepAuditing(cmd *cobra.Command, kube *reader, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(buildInfo(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s := &auditStream{flags: f, cmd: cmd, kube: kube, log: log, w: cmd.OutOrStdout()}
	s.ready.waitFor("the first audit")
	auditor, err := s.auditor(registry)
	if err != nil {
		return err
	}
	parts := []part{func(ctx context.Context) error {
		cmd.SetContext(ctx) // each audit opens the ledger in it
		return auditor.Run(ctx)
	}}
	ctx := cmd.Context()
	if f.listen != "" {
		listener, err := listen(f.listen)
		if err != nil {
			return err
		}
		log.Info("serving /metrics, /healthz and /readyz", "address", listener.Addr().String())
		parts = append(parts, func(ctx context.Context) error {
			return serve(ctx, listener, monitoring(registry, &s.ready, log), log)
		})
	}
	s.header()
	return together(ctx, parts...)
}

// auditStream prints what a watching audit finds.
type auditStream struct {
	flags *auditFlags
	cmd   *cobra.Command
	kube  *reader
	log   *slog.Logger
	ready readiness
	w     io.Writer

	failing bool
}

func (s *auditStream) auditor(registry prometheus.Registerer) (*adopt.Auditor, error) {
	return adopt.NewAuditor(adopt.AuditorConfig{
		Cluster: s.flags.clusterFlags.name,
		Every:   s.flags.every,
		// Each opens the ledger anew, so that a restored etcd, a certificate that
		// was renewed or a role that was given needs no restart.
		Audit:      func(context.Context) (*adopt.Report, error) { return s.flags.audit(s.cmd, s.kube) },
		ForGood:    hopeless,
		Changed:    s.print,
		Audited:    s.audited,
		Registerer: registry,
	})
}

// hopeless is what no waiting puts right: wrong flags, and a name that is
// another cluster's. That the ledger or the cluster's record is not there yet, a
// controller that starts puts right.
func hopeless(err error) bool {
	var wrong *cli.UsageError
	switch {
	case errors.As(err, &wrong), errors.Is(err, state.ErrInvalid), errors.Is(err, state.ErrClusterMismatch):
		return true
	case errors.Is(err, state.ErrBeyondRole):
		return false
	}
	return errors.Is(err, state.ErrPermission)
}

func (s *auditStream) audited(r *adopt.Report, err error, next time.Duration) {
	cluster := slog.String("cluster", s.flags.clusterFlags.name)
	if err != nil {
		why := advised(err)
		s.log.Warn("the audit failed, and is made again", cluster, "error", why, "again_in", next)
		s.ready.waitFor("an audit that succeeds: " + why)
		s.failing = true
		return
	}
	s.ready.follow(func() []string { return nil })
	level := slog.LevelDebug
	if s.failing {
		s.failing, level = false, slog.LevelWarn // the end of what was warned of
	}
	s.log.Log(s.cmd.Context(), level, "audited", cluster, "differences", len(r.Differences), "unsettled", r.Unsettled,
		"notes", len(r.Notes), "volume_attachments", r.VolumeAttachments, "holds", r.Holds)
}

const auditColumns = "%-10s  %-7s  %-9s  %-24s  %-24s  %s\n"

func (s *auditStream) header() {
	if s.flags.out.form == formTable {
		fmt.Fprintf(s.w, auditColumns, "TIME", "EVENT", "KIND", "VOLUME", "KUBERNETES", "LEDGER")
	}
}

// print prints changes as a watch does: lines of one width, or an object each.
func (s *auditStream) print(changes []adopt.Change) error {
	for _, c := range changes {
		if err := s.printOne(auditChange{At: time.Now().UTC().Truncate(time.Second), Change: c}); err != nil {
			return err
		}
	}
	return nil
}

// auditChange is one line of a watching audit.
type auditChange struct {
	At time.Time `json:"at"`
	adopt.Change
}

func (s *auditStream) printOne(c auditChange) error {
	switch s.flags.out.form {
	case formJSON:
		return printJSON(s.w, c, "")
	case formYAML:
		fmt.Fprintln(s.w, "---")
		return printYAML(s.w, c)
	}
	f := c.Finding
	if f == nil {
		all := fmt.Sprintf("%s, %s", several(c.Report.VolumeAttachments, "VolumeAttachment"), several(c.Report.Holds, "hold"))
		_, err := fmt.Fprintf(s.w, auditColumns, clock(c.At), c.Type, "-", "-", "-", all)
		return err
	}
	_, err := fmt.Fprintf(s.w, auditColumns, clock(c.At), c.Type, string(f.Kind), cell(f.Volume), cell(attachedTo(*f)), cell(heldBy(*f)))
	return err
}
