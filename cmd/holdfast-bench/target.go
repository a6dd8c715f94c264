package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/holdfast-storage/holdfast/bench"
	"github.com/holdfast-storage/holdfast/bench/local"
	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

// targetFlags say on which etcd is measured.
type targetFlags struct {
	endpoints          []string
	members            int
	prefix, dir        string
	caCert, cert, key  string
	user, passwordFile string
	auth               bool
}

func (f *targetFlags) add(fs *pflag.FlagSet) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	own.StringSliceVar(&f.endpoints, "endpoints", nil, "measure on the etcd with these client `URLs` (default one that is started for the run)")
	own.IntVar(&f.members, "members", 1, "how many `members` the etcd has that is started: 1 or 3")
	own.StringVar(&f.dir, "dir", "", "`folder` for that etcd's data; what is on its disk is measured (default a temporary one)")
	own.BoolVar(&f.auth, "auth", false, "that etcd wants to know who comes: ledgers are opened with the role of 'holdfast etcd-role'")
	own.StringVar(&f.prefix, "prefix", "/holdfast-bench/", "what all keys of the run begin with; must be empty, and is emptied again")
	own.StringVar(&f.caCert, "cacert", "", "verify etcd's certificate by this CA `file` (PEM)")
	own.StringVar(&f.cert, "cert", "", "show etcd this client certificate `file` (PEM)")
	own.StringVar(&f.key, "key", "", "the client certificate's key `file` (PEM)")
	own.StringVar(&f.user, "user", "", "etcd user `name`; the password comes from HOLDFAST_PASSWORD or --password-file")
	own.StringVar(&f.passwordFile, "password-file", "", "read the etcd user's password from this `file`")
	// How to reach an etcd is as for holdfast; which one is not.
	for _, name := range credentials {
		cli.Variable(own.Lookup(name), "HOLDFAST_")
	}
	cli.AddSection(fs, own, sectionTarget)
}

// credentials are the flags that are about an etcd of somebody's own.
var credentials = []string{"cacert", "cert", "key", "user", "password-file"}

func (f *targetFlags) check(fs *pflag.FlagSet) error {
	switch {
	case strings.Trim(f.prefix, "/") == "":
		return cli.Usagef("invalid --prefix %q: expected one that is the benchmark's own, such as /holdfast-bench/", f.prefix)
	case len(f.endpoints) == 0 && f.members != 1 && f.members != 3:
		return cli.Usagef("invalid --members %d: expected 1 or 3", f.members)
	case len(f.endpoints) == 0:
		for _, name := range credentials {
			if cli.WasTyped(fs, name) {
				return cli.Usagef("--%s is of an etcd of your own: expected --endpoints with it", name)
			}
		}
		return nil
	}
	for _, name := range []string{"members", "dir", "auth"} {
		if cli.WasTyped(fs, name) {
			return cli.Usagef("--%s is of an etcd that is started for the run: expected no --endpoints with it", name)
		}
	}
	switch {
	case (f.cert == "") != (f.key == ""):
		return cli.Usagef("--cert and --key go together: expected both or neither")
	case f.user == "" && f.passwordFile != "":
		return cli.Usagef("--password-file needs --user: whose password it is")
	case f.user != "" && f.passwordFile == "" && os.Getenv("HOLDFAST_PASSWORD") == "":
		return cli.Usagef("--user %s needs a password: in HOLDFAST_PASSWORD, or in a file that --password-file names", f.user)
	}
	for _, e := range f.endpoints {
		if (f.caCert != "" || f.cert != "") && strings.HasPrefix(e, "http://") {
			return cli.Usagef("invalid --endpoints %q: expected https://, since --cacert or --cert is given", e)
		}
	}
	return nil
}

// target is the etcd that is measured, and what it takes to be done with it.
type target struct {
	etcd     state.Config
	auth     *local.Auth // nil without
	embedded bool
	close    func() error
}

// configure tells a run of it.
func (t target) configure(cfg *bench.Config) {
	cfg.Etcd, cfg.Own = t.etcd, t.embedded
	if t.auth != nil {
		cfg.LedgerUser = t.auth.LedgerUser
	}
}

// open finds the etcd, or starts one. temp is a folder of the run's own.
func (f *targetFlags) open(ctx context.Context, temp string, log io.Writer) (target, error) {
	cfg := state.Config{Endpoints: f.endpoints, Prefix: strings.TrimRight(f.prefix, "/") + "/"}
	if len(f.endpoints) > 0 {
		cfg.CACertFile, cfg.CertFile, cfg.KeyFile = f.caCert, f.cert, f.key
		cfg.Username, cfg.PasswordFile = f.user, f.passwordFile
		if f.user != "" && f.passwordFile == "" {
			cfg.Password = os.Getenv("HOLDFAST_PASSWORD")
		}
		return target{etcd: cfg, close: func() error { return nil }}, nil
	}
	return f.start(ctx, cfg, temp, log)
}

// start starts an etcd.
func (f *targetFlags) start(ctx context.Context, cfg state.Config, temp string, log io.Writer) (target, error) {
	dir := temp // which goes as a whole
	tidy := func() error { return nil }
	if f.dir != "" {
		if err := os.MkdirAll(f.dir, 0o700); err != nil {
			return target{}, err
		}
		own, err := os.MkdirTemp(f.dir, "holdfast-bench-etcd-")
		if err != nil {
			return target{}, err
		}
		dir, tidy = own, func() error { return os.RemoveAll(own) }
	}
	etcd, err := local.Start(ctx, f.members, dir, log)
	if err != nil {
		return target{}, errors.Join(err, tidy())
	}
	t := target{embedded: true, close: func() error { return errors.Join(etcd.Close(), tidy()) }}
	cfg.Endpoints = etcd.Endpoints
	if f.auth {
		if t.auth, err = etcd.EnableAuth(ctx, bench.ClusterName); err != nil {
			return target{}, errors.Join(err, t.close())
		}
		cfg.Username, cfg.Password = t.auth.User, t.auth.Password
	}
	t.etcd = cfg
	return t, nil
}

// fsync is what is known of the etcd's.
func (t target) fsync() string {
	if t.embedded {
		return "on"
	}
	return "unknown"
}

// complete adds to the header what the target knows.
func (t target) complete(h *bench.Header) {
	h.Version, h.Embedded, h.Fsync = buildVersion(), t.embedded, t.fsync()
}

func sizesNamed(name string) (bench.Sizes, error) {
	for _, s := range []bench.Sizes{bench.Smoke, bench.Normal, bench.Full} {
		if s.Name == name {
			return s, nil
		}
	}
	return bench.Sizes{}, fmt.Errorf("no size %q", name)
}
