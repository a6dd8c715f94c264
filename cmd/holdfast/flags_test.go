package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-storage/holdfast/state"
)

// config parses a command line of ledger flags.
func configOf(t *testing.T, args ...string) (state.Config, error) {
	t.Helper()
	var f ledgerFlags
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.add(fs, allWaits()...)
	f.addBy(fs)
	f.log.add(fs, "info")
	if err := fs.Parse(args); err != nil {
		return state.Config{}, err
	}
	return f.config(io.Discard)
}

// Every flag of the ledger arrives in its configuration, and nowhere else.
func TestLedgerFlags_EachHasAnEffect(t *testing.T) {
	t.Setenv("HOLDFAST_PASSWORD", "secret")
	dir := t.TempDir()
	writeCertificates(t, dir)
	one, oneKey := filepath.Join(dir, "one.pem"), filepath.Join(dir, "one-key.pem")
	for name, test := range map[string]struct {
		args []string
		want func(*state.Config)
	}{
		"none":              {nil, func(*state.Config) {}},
		"endpoints":         {[]string{"--endpoints=http://a:1,http://b:2"}, func(c *state.Config) { c.Endpoints = []string{"http://a:1", "http://b:2"} }},
		"endpoints twice":   {[]string{"--endpoints=http://a:1", "--endpoints=http://b:2"}, func(c *state.Config) { c.Endpoints = []string{"http://a:1", "http://b:2"} }},
		"user":              {[]string{"--user=alice"}, func(c *state.Config) { c.Username, c.Password = "alice", "secret" }},
		"prefix":            {[]string{"--prefix=/p/"}, func(c *state.Config) { c.Prefix = "/p/" }},
		"driver":            {[]string{"--driver=csi.example"}, func(c *state.Config) { c.Driver = "csi.example" }},
		"by":                {[]string{"--by=bob"}, func(c *state.Config) { c.By = "bob" }},
		"dial timeout":      {[]string{"--dial-timeout=7s"}, func(c *state.Config) { c.DialTimeout = 7 * time.Second }},
		"request timeout":   {[]string{"--request-timeout=7s"}, func(c *state.Config) { c.RequestTimeout = 7 * time.Second }},
		"grace period":      {[]string{"--grace-period=7s"}, func(c *state.Config) { c.GracePeriod = 7 * time.Second }},
		"quarantine":        {[]string{"--quarantine=7s"}, func(c *state.Config) { c.Quarantine = 7 * time.Second }},
		"no quarantine":     {[]string{"--quarantine=0"}, func(c *state.Config) { c.Quarantine = state.NoQuarantine }},
		"attachment TTL":    {[]string{"--attachment-ttl=7s"}, func(c *state.Config) { c.AttachmentTTL = 7 * time.Second }},
		"migration window":  {[]string{"--migration-window=7s"}, func(c *state.Config) { c.MigrationWindow = 7 * time.Second }},
		"journal retention": {[]string{"--journal-retention=7s"}, func(c *state.Config) { c.JournalRetention = 7 * time.Second }},
		"election TTL":      {[]string{"--election-ttl=7s"}, func(c *state.Config) { c.ElectionTTL = 7 * time.Second }},
		"TLS": {[]string{"--endpoints=https://a:1", "--cacert", one, "--cert", one, "--key", oneKey}, func(c *state.Config) {
			c.Endpoints, c.CACertFile, c.CertFile, c.KeyFile = []string{"https://a:1"}, one, one, oneKey
		}},
	} {
		t.Run(name, func(t *testing.T) {
			want := state.Config{
				Endpoints: []string{"http://127.0.0.1:2379"}, Prefix: state.DefaultPrefix,
				GracePeriod: state.DefaultGracePeriod, Quarantine: state.DefaultQuarantine, AttachmentTTL: state.DefaultAttachmentTTL,
				MigrationWindow: state.DefaultMigrationWindow, JournalRetention: state.DefaultJournalRetention,
				ElectionTTL: state.DefaultElectionTTL, DialTimeout: state.DefaultDialTimeout, RequestTimeout: state.DefaultRequestTimeout,
			}
			test.want(&want)
			got, err := configOf(t, test.args...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(state.Config{}, "Logger", "Registerer")); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

// Those that are not of the configuration.
func TestWaits_OfTheController(t *testing.T) {
	var f ledgerFlags
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.add(fs, waitResync, waitStaleAfter)
	if err := fs.Parse([]string{"--resync=7s", "--stale-after=8s"}); err != nil {
		t.Fatal(err)
	}
	if f.waits.resync != 7*time.Second || f.waits.staleAfter != 8*time.Second {
		t.Errorf("resync %s, stale after %s; want 7s and 8s", f.waits.resync, f.waits.staleAfter)
	}
	if fs.Lookup("grace-period") != nil {
		t.Error("a wait that was not asked for has a flag")
	}
}

func TestPassword_FromAFile(t *testing.T) {
	t.Setenv("HOLDFAST_PASSWORD", "of the environment")
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(" with spaces \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := configOf(t, "--user=alice", "--password-file", path)
	if err != nil {
		t.Fatal(err)
	}
	// Whoever logs in reads it, each time anew.
	if cfg.Password != "" || cfg.PasswordFile != path {
		t.Errorf("password %q and file %q, want the file's name alone", cfg.Password, cfg.PasswordFile)
	}
}

func TestLogFlags(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string // of one debug and one warning
	}{
		{nil, "level=WARN msg=two after=40s"},
		{[]string{"--log-level=debug"}, "level=DEBUG msg=one|level=WARN msg=two"},
		{[]string{"--log-level=error"}, ""},
		{[]string{"--log-format=json"}, `"level":"WARN","msg":"two","after":"40s"`},
	} {
		var f logFlags
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		f.add(fs, "info")
		if err := fs.Parse(test.args); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		log := f.logger(&out)
		log.Debug("one")
		log.Warn("two", "after", 40*time.Second)
		lines := strings.FieldsFunc(out.String(), func(r rune) bool { return r == '\n' })
		var wants []string
		if test.want != "" {
			wants = strings.Split(test.want, "|")
		}
		if len(lines) != len(wants) {
			t.Errorf("%q logs %q, want %d lines", test.args, lines, len(wants))
			continue
		}
		for i := range wants {
			if !strings.Contains(lines[i], wants[i]) {
				t.Errorf("%q logs %q, want %q in it", test.args, lines[i], wants[i])
			}
		}
	}
}

// Every flag of every command can be given as a variable, which its help names,
// but for those that agree to one act.
func TestEnvironment_EveryFlagOfEveryCommand(t *testing.T) {
	seen := 0
	eachCommand(newRoot(), func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			name := program.VariableOf(f)
			if name == "" {
				if strings.Contains(f.Usage, "[HOLDFAST_") {
					t.Errorf("%s --%s has to be typed, and its help names a variable", cmd.CommandPath(), f.Name)
				}
				return
			}
			if !strings.Contains(f.Usage, "["+name+"]") {
				t.Errorf("%s --%s: its help does not name %s: %q", cmd.CommandPath(), f.Name, name, f.Usage)
			}
			seen++
		})
	})
	if seen < 100 {
		t.Errorf("saw %d flags; want those of all commands", seen)
	}
}

func TestDuration(t *testing.T) {
	for _, test := range []struct {
		in   string
		zero bool
		want time.Duration // 0: refused
	}{
		{"30s", false, 30 * time.Second},
		{"1h30m", false, 90 * time.Minute},
		{"0", false, 0},
		{"-1s", false, 0},
		{"30", false, 0},
		{"", false, 0},
		{"0", true, state.NoQuarantine},
		{"0s", true, state.NoQuarantine},
		{"-1s", true, 0},
		{"-1ns", true, 0}, // NoQuarantine itself
	} {
		var got time.Duration
		d := &duration{value: &got, zero: test.zero}
		if err := d.Set(test.in); (err == nil) != (test.want != 0) || got != test.want {
			t.Errorf("%q (zero allowed: %t) is %d, error %v; want %d", test.in, test.zero, got, err, test.want)
		}
	}
}
