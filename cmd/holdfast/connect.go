package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

// config is the ledger's configuration as the flags say it. Logs go to w.
func (f *ledgerFlags) config(w io.Writer) (state.Config, error) {
	password, err := f.password()
	if err != nil {
		return state.Config{}, err
	}
	if err := f.checkTLS(); err != nil {
		return state.Config{}, err
	}
	return state.Config{
		Endpoints:        f.endpoints,
		CACertFile:       f.caCert,
		CertFile:         f.cert,
		KeyFile:          f.key,
		Username:         f.user,
		Password:         password,
		PasswordFile:     f.passwordFile,
		Prefix:           f.prefix,
		Driver:           f.driver,
		GracePeriod:      f.waits.gracePeriod,
		Quarantine:       f.waits.quarantine,
		AttachmentTTL:    f.waits.attachmentTTL,
		MigrationWindow:  f.waits.migrationWindow,
		JournalRetention: f.waits.journalRetention,
		ElectionTTL:      f.waits.electionTTL,
		DialTimeout:      f.dialTimeout,
		RequestTimeout:   f.requestTimeout,
		AllowUnsafeEtcd:  f.allowUnsafe,
		By:               f.by,
		Logger:           f.log.logger(w),
	}, nil
}

// password comes from the environment or a file: a flag would show it to
// everybody who can list processes.
func (f *ledgerFlags) password() (string, error) {
	name, _, inFlag := strings.Cut(f.user, ":")
	switch {
	case inFlag:
		return "", cli.Usagef("invalid --user: expected a name only, %q; the password comes from HOLDFAST_PASSWORD or --password-file", name)
	case f.user == "" && f.passwordFile != "":
		return "", cli.Usagef("--password-file needs --user: whose password it is")
	case f.user == "":
		return "", nil
	case f.passwordFile != "":
		if _, err := state.ReadPassword(f.passwordFile); err != nil {
			return "", cli.Usagef("invalid --password-file: %w", err)
		}
		return "", nil // whoever logs in reads it
	}
	password := os.Getenv("HOLDFAST_PASSWORD")
	if password == "" {
		return "", cli.Usagef("--user %s needs a password: in HOLDFAST_PASSWORD, or in a file that --password-file names", f.user)
	}
	return password, nil
}

// checkTLS refuses files that can't be used, by the flag that names them, and
// what would look encrypted and not be: etcd's client takes an http URL at its
// word, whatever certificates it is given.
func (f *ledgerFlags) checkTLS() error {
	if (f.cert == "") != (f.key == "") {
		return cli.Usagef("--cert and --key go together: expected both or neither")
	}
	if f.caCert != "" {
		data, err := os.ReadFile(f.caCert)
		if err != nil {
			return cli.Usagef("invalid --cacert: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(data) {
			return cli.Usagef("invalid --cacert %q: expected certificates in PEM, and there is none in it", f.caCert)
		}
	}
	if f.cert != "" {
		if _, err := tls.LoadX509KeyPair(f.cert, f.key); err != nil {
			return cli.Usagef("invalid --cert %q, --key %q: %w", f.cert, f.key, err)
		}
	}
	if f.caCert == "" && f.cert == "" {
		return nil
	}
	for _, e := range f.endpoints {
		if strings.HasPrefix(e, "http://") {
			return cli.Usagef("invalid --endpoints %q: expected https://, since --cacert or --cert is given", e)
		}
	}
	return nil
}

// verb is how a verb that runs once reaches the ledger.
type verb struct {
	ledgerFlags
	clusterFlags
}

// addVerb registers the connection, the named waits and the logs. What a verb
// that runs once has to say it prints, so it logs errors only.
func (v *verb) addVerb(cmd *cobra.Command, waits ...string) {
	v.ledgerFlags.add(cmd.Flags(), waits...)
	v.log.add(cmd.Flags(), "error")
}

// read opens the ledger so that nothing can be changed through it.
func (v *verb) read(cmd *cobra.Command, act func(context.Context, *state.Ledger) error) error {
	return v.open(cmd, func(c *state.Config) { c.ReadOnly = true }, act)
}

// write opens a ledger that is there. A wrong --prefix must not make a new one,
// freeze that, and report that it was done.
func (v *verb) write(cmd *cobra.Command, act func(context.Context, *state.Ledger) error) error {
	nothing := func(context.Context, *state.Ledger) error { return nil }
	if err := v.read(cmd, nothing); err != nil {
		return err
	}
	return v.open(cmd, func(*state.Config) {}, act)
}

func (v *verb) open(cmd *cobra.Command, tune func(*state.Config), act func(context.Context, *state.Ledger) error) (err error) {
	cfg, err := v.config(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if cfg.By == "" {
		cfg.By = operator()
	}
	// No verb stands for election or puts a node in quarantine. An etcd whose
	// smallest lease is longer than those defaults is no reason to refuse it.
	cfg.ElectionTTL, cfg.Quarantine = time.Hour, state.NoQuarantine
	tune(&cfg)
	ledger, err := state.Open(cmd.Context(), cfg)
	if errors.Is(err, state.ErrUnavailable) {
		if why := handshake(cmd.Context(), cfg); why != nil {
			return why
		}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	return act(cmd.Context(), ledger)
}

// as opens the ledger as the cluster of --cluster. Both have to be there: what
// ends something has no reason to make them.
func (v *verb) as(cmd *cobra.Command, act func(context.Context, *state.Cluster) error) error {
	if err := v.named(); err != nil {
		return err
	}
	return v.write(cmd, func(ctx context.Context, l *state.Ledger) error {
		if err := knownCluster(ctx, l, v.clusterFlags.name); err != nil {
			return err
		}
		return v.identify(ctx, l, act)
	})
}

// join is as, for what may begin something: with --cluster-uid the cluster, and
// the ledger too, may be new.
func (v *verb) join(cmd *cobra.Command, act func(context.Context, *state.Cluster) error) error {
	if err := v.named(); err != nil {
		return err
	}
	open := v.write
	if v.clusterFlags.uid != "" {
		open = func(cmd *cobra.Command, act func(context.Context, *state.Ledger) error) error {
			return v.open(cmd, func(*state.Config) {}, act)
		}
	}
	return open(cmd, func(ctx context.Context, l *state.Ledger) error {
		err := v.identify(ctx, l, act)
		if errors.Is(err, state.ErrNotFound) {
			err = fmt.Errorf("%w, and so does --cluster-uid", err)
		}
		return err
	})
}

func (v *verb) named() error {
	if v.clusterFlags.name == "" {
		return cli.Usagef("--cluster is missing: expected the name of the cluster to act as")
	}
	return nil
}

func (v *verb) identify(ctx context.Context, l *state.Ledger, act func(context.Context, *state.Cluster) error) error {
	c, err := l.Cluster(ctx, state.Identity{Name: v.clusterFlags.name, UID: v.clusterFlags.uid})
	if err != nil {
		return err
	}
	return act(ctx, c)
}

// knownCluster keeps an operator's slip of the pen from being carried out, and
// reported as done, for a cluster that is not there.
func knownCluster(ctx context.Context, l *state.Ledger, name string) error {
	_, err := l.Cluster(ctx, state.Identity{Name: name})
	return err
}

// operator is who runs the command: user@host, as far as the system says.
func operator() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return fmt.Sprintf("%s@%s", name, host)
}
