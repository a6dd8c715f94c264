package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newWatch() *cobra.Command {
	var v verb
	var out output
	var f watchFlags
	cmd := &cobra.Command{
		Use:   "watch [VOLUME]",
		Short: "Follow the ledger's changes as they happen, until Ctrl-C",
		Long: `Prints what is in the ledger, and then every change of it as etcd reports it,
until Ctrl-C. Where the connection breaks it goes on from what was missed. With
-o json it prints an object a line.`,
		Example: `  holdfast watch
  holdfast watch vol-1
  holdfast watch --kind journal,departure --changes-only`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if err := state.ValidateVolume(args[0]); err != nil {
					return err
				}
				f.volume = args[0]
			}
			if err := f.check(); err != nil {
				return err
			}
			return v.read(cmd, func(ctx context.Context, l *state.Ledger) error {
				printed := newBacklog(cmd.OutOrStdout(), maxBacklog)
				s := &stream{flags: f, out: out, w: printed, at: map[string]int64{}}
				s.header()
				err := l.Watch(ctx, state.ScopeAll(), func(b state.Batch) error {
					printed.follow(s.synced && s.listed == nil && !b.Reset)
					return s.take(b)
				})
				if errors.Is(err, context.Canceled) {
					err = nil // Ctrl-C is how it ends
				}
				if last := printed.close(); err == nil {
					err = last
				}
				return err
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.cluster, "cluster", "", "only what is about this cluster, by `name`")
	fs.StringSliceVar(&f.kinds, "kind", nil, "only these `kinds`: "+strings.Join(watchKinds, ", ")+". Witnesses, which each leader renews every few seconds, only if asked for")
	fs.BoolVar(&f.changesOnly, "changes-only", false, "leave out what is there already")
	out.add(cmd)
	v.ledgerFlags.add(fs)
	v.log.add(fs, "warn") // that it was cut off, and goes on
	return cmd
}

var watchKinds = []string{
	"hold", "attachment", "detachment", "migration", "departure", "quarantine", "pause", "cluster", "ledger", "journal", "freeze", "witness",
}

type watchFlags struct {
	volume, cluster string
	kinds           []string
	changesOnly     bool
}

func (f *watchFlags) check() error {
	if f.cluster != "" {
		if err := state.ValidateCluster(f.cluster); err != nil {
			return cli.Usagef("--cluster: %w", err)
		}
	}
	for _, k := range f.kinds {
		if !slices.Contains(watchKinds, k) {
			return cli.Usagef("invalid --kind %q: expected some of %s", k, strings.Join(watchKinds, ", "))
		}
	}
	return nil
}

func (f *watchFlags) match(s subject) bool {
	return (f.volume == "" || f.volume == s.volume) &&
		(f.cluster == "" || slices.Contains(s.clusters, f.cluster)) &&
		(len(f.kinds) == 0 && s.kind != "witness" || slices.Contains(f.kinds, s.kind))
}

// stream prints the batches of one watch. After a relist it prints only what
// has changed since: at remembers which revision of a key was printed last.
type stream struct {
	flags watchFlags
	out   output
	w     io.Writer

	at     map[string]int64
	last   map[string]subject
	listed map[string]bool // the keys of the list under way
	synced bool
}

// change is one line of a watch.
type change struct {
	// Type is "present" for what was there at the start, "put" or "deleted".
	Type     string `json:"type"`
	Kind     string `json:"kind"`
	Key      string `json:"key"`
	Revision int64  `json:"revision"`
	Record   any    `json:"record,omitempty"`
	Broken   string `json:"broken,omitempty"`
}

func (s *stream) take(b state.Batch) error {
	if b.Reset {
		s.listed = map[string]bool{}
	}
	for _, e := range b.Events {
		about := subjectOf(e.Record)
		if about.kind == "" {
			continue // an election's key
		}
		if err := s.event(e, about); err != nil {
			return err
		}
	}
	if !b.Synced {
		return nil
	}
	// What was printed and is not in the new list was deleted unseen.
	for _, key := range missing(s.at, s.listed) {
		about := s.last[key]
		delete(s.at, key)
		delete(s.last, key)
		if err := s.print(change{Type: "deleted", Kind: about.kind, Key: key, Revision: b.Revision}, about); err != nil {
			return err
		}
	}
	s.listed, s.synced = nil, true
	return nil
}

func (s *stream) event(e state.Event, about subject) error {
	c := change{Type: "put", Kind: about.kind, Key: e.Key, Revision: e.Revision, Record: about.record, Broken: text(e.Broken)}
	switch {
	case e.Type == state.Delete:
		c.Type = "deleted"
		delete(s.at, e.Key)
		delete(s.last, e.Key)
	case s.listed != nil:
		s.listed[e.Key] = true
		if s.at[e.Key] == e.Revision {
			return nil
		}
		if !s.synced {
			c.Type = "present"
		}
		fallthrough
	default:
		s.remember(e, about)
	}
	if c.Type == "present" && s.flags.changesOnly {
		return nil
	}
	return s.print(c, about)
}

func (s *stream) remember(e state.Event, about subject) {
	if s.last == nil {
		s.last = map[string]subject{}
	}
	about.record = nil
	s.at[e.Key], s.last[e.Key] = e.Revision, about
}

func missing(at map[string]int64, listed map[string]bool) []string {
	var keys []string
	for key := range at {
		if !listed[key] {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

const watchColumns = "%-9s  %-8s  %-11s  %-24s  %-30s  %s\n"

func (s *stream) header() {
	if s.out.form == formTable {
		fmt.Fprintf(s.w, watchColumns, "REVISION", "EVENT", "KIND", "VOLUME", "PLACE", "DETAIL")
	}
}

func (s *stream) print(c change, about subject) error {
	if !s.flags.match(about) {
		return nil
	}
	switch s.out.form {
	case formJSON:
		return printJSON(s.w, c, "")
	case formYAML:
		fmt.Fprintln(s.w, "---")
		return printYAML(s.w, c)
	}
	detail := about.detail
	if c.Broken != "" {
		detail = c.Broken
	}
	_, err := fmt.Fprintf(s.w, watchColumns, fmt.Sprint(c.Revision), c.Type, c.Kind, cell(about.volume), cell(about.place), cli.Harmless(detail))
	return err
}

func cell(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}
