package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

// The groups of commands, in the order of the help.
const (
	groupStart    = "start"
	groupVolumes  = "volumes"
	groupLook     = "look"
	groupOperator = "operator"
	groupOther    = "other"
)

const rootLong = `Holdfast is the ledger of which node of which Kubernetes cluster holds which
storage volume. Its records live in etcd.

  hold         a node may use the volume, until somebody says otherwise
  attachment   the hold's cluster is alive and stands by it
  grace        just after a detach: only the same cluster may attach
  lapsed       held, and its cluster has been away for a while. Still held
  token        a number that is greater for every later hold of a volume

Every flag can also be given in the environment, as the help of each command
names it: --grace-period as HOLDFAST_GRACE_PERIOD. A flag wins. Only what agrees
to one single act (--yes, --commit, --restored and the like) has to be typed.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 conflict, 4 not found.`

const rootExample = `  # See the whole of it on this machine, in under a minute
  holdfast demo

  # Run the controller of a cluster, with an etcd of its own
  holdfast controller --cluster east --embedded-etcd ./holdfast.etcd --nodes nodes.json

  # Attach, look, detach
  holdfast attach vol-1 node-1 --cluster east
  holdfast get vol-1
  holdfast detach vol-1 node-1 --cluster east`

// program is what all commands have in common.
var program = cli.Program{
	Variables: "HOLDFAST_",
	Sections:  []string{sectionWaits, sectionEtcd, sectionLog},
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:     "holdfast",
		Short:   "The ledger of which node holds which storage volume",
		Long:    rootLong,
		Example: rootExample,
	}
	root.AddGroup(
		&cobra.Group{ID: groupStart, Title: "Start here:"},
		&cobra.Group{ID: groupVolumes, Title: "Volumes:"},
		&cobra.Group{ID: groupLook, Title: "Look:"},
		&cobra.Group{ID: groupOperator, Title: "Operate:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupStart, newController(), newDemo())
	add(groupVolumes, newAttach(), newDetach(), newMigrate(), newClear())
	add(groupLook, newGet(), newList(), newWatch(), newPlan(), newJournal(), newClusters(), newAudit())
	add(groupOperator, newPause(), newResume(), newFreeze(), newUnfreeze(), newEvict(), newImport(), newInit(), newEtcdRole())
	add(groupOther, newVersion())
	root.SetHelpCommand(newHelp())
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	program.Finish(root)
	return root
}

// newHelp is cobra's own help command, but that an unknown topic is wrong usage.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || about == nil || len(rest) > 0 && about == cmd.Root() {
				return cli.Usagef("no command %q; see 'holdfast help'", strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}
