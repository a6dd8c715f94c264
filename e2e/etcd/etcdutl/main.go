// Command etcdutl works on etcd's files, at the version that this module
// requires.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
)

// etcd keeps etcdutl's root command in a main package, which no one can
// import: so the root is made here, over etcd's own subcommands and variables.
func main() {
	root := &cobra.Command{
		Use:          "etcdutl",
		Short:        "Work on the files of an etcd that is not running.",
		SilenceUsage: true,
	}
	flags := root.PersistentFlags()
	flags.DurationVar(&etcdutl.FlockTimeout, "timeout", 10*time.Second,
		"how long to wait for the database file's lock, 0 for ever")
	flags.StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple",
		"output format: fields, json, protobuf, simple or table")
	root.AddCommand(
		etcdutl.NewDefragCommand(),
		etcdutl.NewHashKVCommand(),
		etcdutl.NewMigrateCommand(),
		etcdutl.NewSnapshotCommand(),
		etcdutl.NewVersionCommand(),
	)
	root.SilenceErrors = true
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "etcdutl:", err)
		os.Exit(1)
	}
}
