package main

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

// The sections of a command's help. A flag without one is the command's own.
const (
	sectionEtcd  = "Connection to etcd:"
	sectionWaits = "Waits:"
	sectionLog   = "Output and logs:"
)

// ledgerFlags are the flags of every command that opens the ledger.
type ledgerFlags struct {
	endpoints                   []string
	caCert, cert, key           string
	user, passwordFile          string
	prefix, driver, by          string
	dialTimeout, requestTimeout time.Duration
	allowUnsafe                 bool
	waits                       waits
	log                         logFlags
}

// waits are the durations of section 5 of docs/design.md. Zero is one whose
// flag the command has not got, and stands for its default; a quarantine of
// zero that was given is state.NoQuarantine.
type waits struct {
	gracePeriod, quarantine, attachmentTTL, migrationWindow time.Duration
	journalRetention, resync, electionTTL, staleAfter       time.Duration
}

// The names of the waits, for ledgerFlags.add.
const (
	waitGracePeriod      = "grace-period"
	waitQuarantine       = "quarantine"
	waitAttachmentTTL    = "attachment-ttl"
	waitMigrationWindow  = "migration-window"
	waitJournalRetention = "journal-retention"
	waitResync           = "resync"
	waitElectionTTL      = "election-ttl"
	waitStaleAfter       = "stale-after"
)

const (
	defaultResync     = 5 * time.Minute
	defaultStaleAfter = 2 * time.Minute
)

// allWaits is what a controller takes.
func allWaits() []string {
	return []string{waitGracePeriod, waitQuarantine, waitAttachmentTTL, waitMigrationWindow,
		waitJournalRetention, waitResync, waitElectionTTL, waitStaleAfter}
}

// add registers the flags, with those of the named waits: a command has only
// the ones that it needs, so that each flag in its help does something.
func (f *ledgerFlags) add(fs *pflag.FlagSet, names ...string) {
	f.addConnection(fs)
	f.addWaits(fs, names...)
}

func (f *ledgerFlags) addConnection(fs *pflag.FlagSet) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	own.StringSliceVar(&f.endpoints, "endpoints", []string{"http://127.0.0.1:2379"}, "etcd's client `URLs`, separated by commas")
	own.StringVar(&f.caCert, "cacert", "", "verify etcd's certificate by this CA `file` (PEM)")
	own.StringVar(&f.cert, "cert", "", "show etcd this client certificate `file` (PEM)")
	own.StringVar(&f.key, "key", "", "the client certificate's key `file` (PEM)")
	own.StringVar(&f.user, "user", "", "etcd user `name`; the password comes from HOLDFAST_PASSWORD or --password-file")
	own.StringVar(&f.passwordFile, "password-file", "", "read the etcd user's password from this `file`, anew for each login")
	own.StringVar(&f.prefix, "prefix", state.DefaultPrefix, "what the ledger's keys begin with")
	own.StringVar(&f.driver, "driver", "", "CSI driver `name` that the ledger must be of (default whatever is on record)")
	own.Var(newDuration(&f.dialTimeout, state.DefaultDialTimeout), "dial-timeout", "how long to try to reach etcd")
	own.Var(newDuration(&f.requestTimeout, state.DefaultRequestTimeout), "request-timeout", "how long to wait for one answer of etcd")
	own.BoolVar(&f.allowUnsafe, "allow-unsafe-etcd", false, "go on, with a warning, on an etcd older than 3.5.33, 3.6.14 or 3.7.1")
	cli.AddSection(fs, own, sectionEtcd)
}

func (f *ledgerFlags) addWaits(fs *pflag.FlagSet, names ...string) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	w := &f.waits
	for _, wait := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
		usage    string
	}{
		{waitGracePeriod, &w.gracePeriod, state.DefaultGracePeriod, "how long after a detach only the same cluster may attach"},
		{waitQuarantine, &w.quarantine, state.DefaultQuarantine, "how long a missing node is waited for; 0 for not at all"},
		{waitAttachmentTTL, &w.attachmentTTL, state.DefaultAttachmentTTL, "how long a cluster's controllers may be away before its holds lapse"},
		{waitMigrationWindow, &w.migrationWindow, state.DefaultMigrationWindow, "how long a volume may have two exclusive holds"},
		{waitJournalRetention, &w.journalRetention, state.DefaultJournalRetention, "how long journal entries are kept"},
		{waitResync, &w.resync, defaultResync, "how often everything is joined anew, as a backstop"},
		{waitElectionTTL, &w.electionTTL, state.DefaultElectionTTL, "how long a leader that is dead keeps the others waiting"},
		{waitStaleAfter, &w.staleAfter, defaultStaleAfter, "a source not heard of for this long is not trusted"},
	} {
		if !slices.Contains(names, wait.name) {
			continue
		}
		value := newDuration(wait.value, wait.fallback)
		value.zero = wait.name == waitQuarantine
		own.Var(value, wait.name, wait.usage)
	}
	cli.AddSection(fs, own, sectionWaits)
}

// addBy registers who writes; for the verbs that do.
func (f *ledgerFlags) addBy(fs *pflag.FlagSet) {
	fs.StringVar(&f.by, "by", "", "who does it, for the records (default `user@host`)")
}

// clusterFlags say as which cluster a verb acts.
type clusterFlags struct{ name, uid string }

func (f *clusterFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.name, "cluster", "", "the cluster's `name` (required)")
	fs.StringVar(&f.uid, "cluster-uid", "", "`UID` of the cluster's kube-system namespace (default whatever is on record)")
}

// duration is a flag of a length of time.
type duration struct {
	value *time.Duration
	zero  bool // 0 may be given, and means none at all
}

func newDuration(value *time.Duration, fallback time.Duration) *duration {
	*value = fallback
	return &duration{value: value}
}

func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return fmt.Errorf("expected a duration, such as 30s, 5m or 2h")
	case v == 0 && d.zero:
		v = state.NoQuarantine
	case v <= 0 && d.zero:
		return fmt.Errorf("expected a duration of zero or more, such as 30s, 5m or 2h")
	case v <= 0:
		return fmt.Errorf("expected a duration above zero, such as 30s, 5m or 2h")
	}
	*d.value = v
	return nil
}

func (d *duration) Type() string { return "duration" }

func (d *duration) String() string {
	if d.value == nil || *d.value <= 0 {
		return ""
	}
	return shortDuration(*d.value)
}

// logFlags say what is logged, to standard error.
type logFlags struct{ level, format string }

// add registers the flags. A verb that runs once logs errors only: what it has
// to say it prints.
func (f *logFlags) add(fs *pflag.FlagSet, level string) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	own.Var(cli.NewChoice(&f.level, level, "debug", "info", "warn", "error"), "log-level", "log this and what is worse, to standard error")
	own.Var(cli.NewChoice(&f.format, "text", "text", "json"), "log-format", "how to log")
	cli.AddSection(fs, own, sectionLog)
}

func (f *logFlags) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.level)) // the flag takes only what this knows
	options := &slog.HandlerOptions{Level: level}
	if f.format == "json" {
		options.ReplaceAttr = readableDuration
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// readableDuration makes 40s of a duration in JSON, as text logs do, and not
// 40000000000.
func readableDuration(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
