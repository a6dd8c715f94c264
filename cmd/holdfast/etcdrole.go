package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newEtcdRole() *cobra.Command {
	var f etcdRoleFlags
	var out output
	cmd := &cobra.Command{
		Use:   "etcd-role (--cluster NAME | --operator | --read-only) [--user NAME]",
		Short: "Print the etcdctl commands for the least role that works",
		Long: `Prints the etcdctl commands that make an etcd role with the least permissions
that work, each with what it is for, and a user who has it. It needs no etcd.

  --cluster     the controllers and drivers of a cluster, and the verbs in its
                name. All that is named after the cluster, and what is ordered by
                volume, with which clusters on one ledger trust each other
  --operator    whoever looks after the ledger: makes it (holdfast init), freezes
                it, evicts a lost cluster's holds, migrates a volume from one
                cluster into another, and acts as any cluster
  --read-only   whoever looks, at everything

Run what it prints with etcd's root role, in bash. A controller of several
clusters has the role of each: give --cluster again.`,
		Example: `  # A user with a password, which etcdctl asks for
  holdfast etcd-role --cluster east --user east

  # Mutual TLS: the user is the client certificate's common name
  holdfast etcd-role --cluster east --user east --no-password | bash

  # An operator
  holdfast etcd-role --operator --user alice`,
		Args: cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			roles, err := f.roles()
			if err != nil {
				return err
			}
			result := etcdRoles{itemsOf(roles), f.user}
			return out.print(cmd, result, func(w io.Writer) { f.print(w, roles) })
		},
	}
	f.addTo(cmd)
	out.add(cmd)
	return cmd
}

type etcdRoleFlags struct {
	clusters           []string
	operator, readOnly bool
	name, prefix       string
	user, passwordFile string
	noPassword         bool
}

func (f *etcdRoleFlags) addTo(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringArrayVar(&f.clusters, "cluster", nil, "a role of the cluster of this `name`; may be given again")
	fs.BoolVar(&f.operator, "operator", false, "a role of an operator")
	fs.BoolVar(&f.readOnly, "read-only", false, "a role that changes nothing")
	fs.StringVar(&f.name, "role", "", "the role's `name` (default holdfast-cluster-NAME, holdfast-operator or holdfast-reader)")
	fs.StringVar(&f.user, "user", "", "make an etcd user of this `name` too, and grant it the role")
	fs.StringVar(&f.passwordFile, "password-file", "", "etcdctl reads the user's password, a word, from this `file` (default it asks for it)")
	fs.BoolVar(&f.noPassword, "no-password", false, "the user has no password, but a client certificate with its name as the common name")
	fs.StringVar(&f.prefix, "prefix", state.DefaultPrefix, "what the ledger's keys begin with")
	// Whom a role is for is no setting that lies about in an environment.
	cli.OnlyTyped(fs, "cluster", "operator", "read-only", "role", "user", "password-file", "no-password")
}

// etcdRoles is what etcd-role prints.
type etcdRoles struct {
	items[etcdRole]
	User string `json:"user,omitempty"`
}

// etcdRole is one role.
type etcdRole struct {
	Role        string             `json:"role"`
	For         string             `json:"for"`
	Permissions []state.Permission `json:"permissions"`
}

func (f *etcdRoleFlags) check() error {
	kinds := 0
	for _, given := range []bool{len(f.clusters) > 0, f.operator, f.readOnly} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return cli.Usagef("expected one of --cluster NAME, --operator and --read-only: whom the role is for")
	case f.name != "" && len(f.clusters) > 1:
		return cli.Usagef("--role and several --cluster exclude each other: expected one name for one role")
	case f.noPassword && f.passwordFile != "":
		return cli.Usagef("--no-password and --password-file exclude each other: expected one way to know the user by")
	case f.user == "" && (f.noPassword || f.passwordFile != ""):
		return cli.Usagef("--no-password and --password-file need --user: whom etcd is to know that way")
	case strings.Contains(f.user, ":") && !f.noPassword:
		return cli.Usagef("invalid --user %q: expected no colon, behind which etcdctl would take a password", f.user)
	}
	return nil
}

// roles are those that the flags ask for.
func (f *etcdRoleFlags) roles() ([]etcdRole, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	var roles []etcdRole
	var errs []error
	add := func(name, whom string, permissions []state.Permission, err error) {
		if f.name != "" {
			name = f.name
		}
		roles, errs = append(roles, etcdRole{name, whom, permissions}), append(errs, err)
	}
	for _, c := range f.clusters {
		permissions, err := state.ClusterPermissions(f.prefix, c)
		add("holdfast-cluster-"+c, "the controllers and drivers of cluster "+c+", and the verbs in its name", permissions, err)
	}
	if f.operator {
		permissions, err := state.OperatorPermissions(f.prefix)
		add("holdfast-operator", "whoever looks after the ledger, of all clusters", permissions, err)
	}
	if f.readOnly {
		permissions, err := state.ReaderPermissions(f.prefix)
		add("holdfast-reader", "whoever only looks", permissions, err)
	}
	return roles, errors.Join(errs...)
}

// print writes the commands, each with a comment before it. Nothing in a comment
// can end its line: a cluster's name is validated, and no other stands in one.
func (f *etcdRoleFlags) print(w io.Writer, roles []etcdRole) {
	fmt.Fprintln(w, "# Run with etcd's root role: ETCDCTL_ENDPOINTS, ETCDCTL_USER, ETCDCTL_CACERT and so on say where and as whom.")
	for _, r := range roles {
		fmt.Fprintf(w, "\n# The role of %s.\n", r.For)
		etcdctl(w, unless("role", r.Role)+"role add", r.Role)
		for _, p := range r.Permissions {
			fmt.Fprintf(w, "# %s\n", p.Why)
			if p.RangeEnd == "" {
				etcdctl(w, "role grant-permission", r.Role, string(p.Access), p.Key)
			} else {
				etcdctl(w, "role grant-permission", r.Role, string(p.Access), p.Key, p.RangeEnd)
			}
		}
	}
	if f.user == "" {
		return
	}
	switch {
	case f.noPassword:
		fmt.Fprintln(w, "\n# The user: the common name of a client certificate.")
		etcdctl(w, unless("user", f.user)+"user add --no-password", f.user)
	case f.passwordFile != "":
		fmt.Fprintln(w, "\n# The user, with the password in the file.")
		etcdctl(w, unless("user", f.user)+"user add --interactive=false <"+quoted(f.passwordFile), f.user)
	default:
		fmt.Fprintln(w, "\n# The user, whose password etcdctl asks for: of the terminal, for its input may be this script.")
		etcdctl(w, unless("user", f.user)+"user add </dev/tty", f.user)
	}
	for _, r := range roles {
		etcdctl(w, "user grant-role", f.user, r.Role)
	}
}

// etcdctl writes one command, so that bash takes each name as it is, and etcdctl
// takes none for a flag.
func etcdctl(w io.Writer, command string, names ...string) {
	if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "-") }) {
		command += " --"
	}
	for _, n := range names {
		command += " " + quoted(n)
	}
	fmt.Fprintln(w, "etcdctl "+command)
}

// unless begins a command that makes what is not there yet: the commands can be
// run again, under another version's permissions or for one more role.
func unless(kind, name string) string {
	var get strings.Builder
	etcdctl(&get, kind+" get", name)
	return strings.TrimPrefix(strings.TrimSpace(get.String()), "etcdctl ") + " >/dev/null 2>&1 || etcdctl "
}
