package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagsOf are those of the program that is made by program.
type flagsOf struct {
	name, listen, user string
	mode               string
	list               []string
	count              int
	yes                bool
}

// program is one with a command for each kind of error, and flags of each kind.
func program(f *flagsOf) (Program, *cobra.Command) {
	root := &cobra.Command{Use: "tool", Short: "Do things"}
	act := func(name, short string, err error) *cobra.Command {
		return &cobra.Command{Use: name + " THING", Short: short, Args: Takes("THING"), RunE: func(*cobra.Command, []string) error { return err }}
	}
	do := act("do", "Do it", nil)
	do.Flags().StringVar(&f.name, "some-name", "fallback", "the `name`")
	do.Flags().StringVar(&f.listen, "listen", ":1", "an address, or empty for none")
	do.Flags().BoolVar(&f.yes, "yes", false, "agree")
	do.Flags().IntVar(&f.count, "count", 0, "how many")
	do.Flags().StringSliceVar(&f.list, "list", nil, "some")
	do.Flags().Var(NewChoice(&f.mode, "fast", "fast", "slow"), "mode", "how")
	AllowEmpty(do.Flags().Lookup("listen"))
	OnlyTyped(do.Flags(), "yes")
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	own.StringVar(&f.user, "user", "", "who")
	Variable(own.Lookup("user"), "OTHER_")
	AddSection(do.Flags(), own, "Whom:")
	root.AddCommand(do, act("fail", "Fail", errors.New("it failed")), act("refuse", "Refuse", Usagef("not %s", "that")))
	root.CompletionOptions.DisableDefaultCmd = true
	p := Program{Variables: "TOOL_", Sections: []string{"Whom:"}}
	return p, root
}

// execute carries out one command line.
func execute(p Program, root *cobra.Command, args ...string) (string, error) {
	var out bytes.Buffer
	p.Finish(root)
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.Execute()
	return out.String(), err
}

func TestProgram_Errors(t *testing.T) {
	for line, want := range map[string]struct {
		says  string
		usage bool
	}{
		"do a":                   {},
		"fail a":                 {"it failed", false},
		"refuse a":               {"not that", true},
		"fial a":                 {`unknown command "fial" for "tool"; did you mean fail`, true},
		"do":                     {"tool do takes THING, and was given 0: []; see 'tool do --help'", true},
		"do a b":                 {`tool do takes THING, and was given 2: ["a" "b"]; see 'tool do --help'`, true},
		"do a --nosuch":          {"unknown flag: --nosuch; see 'tool do --help'", true},
		"do a --yes=maybe":       {`invalid --yes "maybe": expected true or false`, true},
		"do a --count=x":         {`invalid --count "x": expected a number`, true},
		"do a --mode=loud":       {`invalid --mode "loud": expected one of fast, slow`, true},
		"do a --some-name=":      {"--some-name is empty: expected a value; where it has a default, leave it out for that", true},
		"do a --listen= --list=": {},
	} {
		p, root := program(new(flagsOf))
		out, err := execute(p, root, strings.Fields(line)...)
		if out != "" {
			t.Errorf("%q prints %q; what fails is printed by who executes", line, out)
		}
		if err == nil && want.says != "" || err != nil && OneLine(err.Error()) != want.says {
			t.Errorf("%q: error %v, want %q", line, err, want.says)
		}
		if err != nil && IsUsage(err) != want.usage {
			t.Errorf("%q: wrong usage is %t, want %t", line, !want.usage, want.usage)
		}
	}
}

func TestProgram_RefuseEmptyLists(t *testing.T) {
	p, root := program(new(flagsOf))
	p.RefuseEmptyLists = true
	if _, err := execute(p, root, "do", "a", "--list="); err == nil || !IsUsage(err) {
		t.Errorf("an empty list: error %v, want that it is wrong usage", err)
	}
}

func TestTakes_None(t *testing.T) {
	cmd := &cobra.Command{Use: "tool"}
	if err := Takes()(cmd, nil); err != nil {
		t.Error(err)
	}
	want := `tool takes no argument, and was given ["a"]; see 'tool --help'`
	if err := Takes()(cmd, []string{"a"}); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
