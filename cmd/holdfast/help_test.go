package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

// eachCommand visits a command and all below it, but for cobra's own completion.
func eachCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		eachCommand(sub, visit)
	}
}

// helpOf is what `holdfast … --help` prints.
func helpOf(t *testing.T, path string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args := append(strings.Fields(path)[1:], "--help")
	if code := run(context.Background(), args, &stdout, &stderr); code != exitDone || stderr.Len() > 0 {
		t.Fatalf("%s --help: exit code %d, %s", path, code, stderr.String())
	}
	return stdout.String()
}

// golden compares with a file, or with -rewrite puts what was got into it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got); after a change run the test with -rewrite and read the diff:\n%s", path, diff)
	}
}

// What a user reads does not change without somebody seeing it.
func TestHelp(t *testing.T) {
	var all strings.Builder
	eachCommand(newRoot(), func(cmd *cobra.Command) {
		if cmd.Name() == "help" {
			return
		}
		fmt.Fprintf(&all, "$ %s --help\n%s\n", cmd.CommandPath(), helpOf(t, cmd.CommandPath()))
	})
	golden(t, filepath.Join("testdata", "help.golden"), all.String())
}

func TestHelp_IsForNewcomers(t *testing.T) {
	eachCommand(newRoot(), func(cmd *cobra.Command) {
		if cmd.Name() == "help" {
			return
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q; want a phrase without a full stop", cmd.CommandPath(), cmd.Short)
		}
		if !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s has no example of itself", cmd.CommandPath())
		}
		for _, line := range strings.Split(helpOf(t, cmd.CommandPath()), "\n") {
			if len([]rune(line)) > 120 {
				t.Errorf("%s: a line of the help is too long for a terminal: %q", cmd.CommandPath(), line)
			}
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no help", cmd.CommandPath(), f.Name)
			}
		})
	})
}

// docs/cli.md is cobra's own help, page by page.
func TestDocs(t *testing.T) {
	golden(t, filepath.Join("..", "..", "docs", "cli.md"), page(newRoot()))
}

const pageTop = `# The command line

` + "`holdfast`" + ` is one binary: the controller, and the verbs of an operator. ` + "`holdfast help COMMAND`" + ` prints what stands here. This page is made from it, by
` + "`go test ./cmd/holdfast -run TestDocs -rewrite`" + `.

- **Exit codes**: 0 done, 1 failed, 2 wrong usage, 3 conflict, 4 not found. What fails says so in one line on standard error; a conflict says who holds the volume, since when, and what would free it.
- **Output**: ` + "`-o table`" + ` is for people and may change. ` + "`-o json` and `-o yaml`" + ` are for scripts: fields are added, never renamed. Lists are an object with ` + "`items`" + `. Times are RFC 3339, what ends in
  ` + "`Seconds`" + ` is in seconds, tokens are whole numbers. Tables write what does not print as Go does (` + "`\\n`, `\\x1b`" + `), with backslashes doubled.
- **Environment**: every flag can be given as the variable that its help names in brackets; a flag wins, and an empty variable is none. Only what agrees to one single act (` + "`--yes`, `--commit`, `--restored`" + ` …) has to be
  typed. The etcd user's password comes from ` + "`HOLDFAST_PASSWORD`" + ` or ` + "`--password-file`" + `, never from a flag.
- **Completion**: ` + "`source <(holdfast completion bash)`" + `, or zsh, fish, powershell.
`

func page(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(pageTop)
	for _, group := range root.Groups() {
		for _, cmd := range root.Commands() {
			if cmd.GroupID != group.ID || cmd.Name() == "help" {
				continue
			}
			eachCommand(cmd, func(cmd *cobra.Command) { section(&b, cmd) })
		}
	}
	b.WriteString("\n## Flags of every command that opens the ledger\n")
	get, _, _ := root.Find([]string{"get"})
	for _, title := range []string{sectionEtcd, sectionLog} {
		fmt.Fprintf(&b, "\n%s\n\n```\n%s```\n", title, usages(get, title))
	}
	return b.String()
}

func section(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n```\n%s\n```\n", cmd.CommandPath(), cmd.Short, cmd.UseLine())
	if cmd.Long != "" {
		fmt.Fprintf(b, "\n%s\n", fenced(cmd.Long))
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n\n```\n%s\n```\n", cmd.Example)
	}
	if flags := usages(cmd, "") + usages(cmd, sectionWaits); flags != "" {
		fmt.Fprintf(b, "\nFlags:\n\n```\n%s```\n", flags)
	}
}

// fenced puts the indented lines of a text into code blocks.
func fenced(text string) string {
	var lines []string
	code := false
	for _, line := range strings.Split(text, "\n") {
		if indented := strings.HasPrefix(line, "  "); indented != code {
			lines = append(lines, "```")
			code = indented
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// usages are a command's flags of one section of its help.
func usages(cmd *cobra.Command, title string) string {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.SortFlags = false
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			flags.AddFlag(f)
		}
	})
	return cli.Usages(flags, title)
}
