package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func TestHelp(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--help"}, `Do things

Usage:
  tool COMMAND

Commands:
  do          Do it
  fail        Fail
  refuse      Refuse

Flags:
  -h, --help[=true|false]   help for tool

Use "tool COMMAND --help" for more about a command.
`},
		{[]string{"do", "--help"}, `Do it

Usage:
  tool do THING [flags]

Flags:
      --some-name name      the name [TOOL_SOME_NAME] (default "fallback")
      --listen string       an address, or empty for none [TOOL_LISTEN] (default ":1")
      --yes[=true|false]    agree
      --count int           how many [TOOL_COUNT]
      --list strings        some [TOOL_LIST]
      --mode fast|slow      how [TOOL_MODE] (default fast)
  -h, --help[=true|false]   help for do

Whom:
      --user string   who [OTHER_USER]
`},
	} {
		p, root := program(new(flagsOf))
		got, err := execute(p, root, test.args...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.args, diff)
		}
	}
}

// Commands in groups stand below the groups' titles, cobra's help command too.
func TestHelp_Groups(t *testing.T) {
	p, root := program(new(flagsOf))
	root.Example = "  tool do it"
	root.AddGroup(&cobra.Group{ID: "one", Title: "One:"}, &cobra.Group{ID: "two", Title: "Two:"})
	for i, cmd := range root.Commands() {
		cmd.GroupID = []string{"two", "one", "one"}[i]
	}
	root.SetHelpCommandGroupID("two")
	got, err := execute(p, root, "--help")
	if err != nil {
		t.Fatal(err)
	}
	want := `Do things

Usage:
  tool COMMAND

Examples:
  tool do it

One:
  fail        Fail
  refuse      Refuse

Two:
  do          Do it
  help        Help about any command

Flags:
  -h, --help[=true|false]   help for tool

Use "tool COMMAND --help" for more about a command.
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
