package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

// ranInto is what comes of a command that was used as it should be, and failed so.
func ranInto(t *testing.T, err error) error {
	t.Helper()
	cmd := &cobra.Command{Use: "fails", Args: cli.Takes(), RunE: func(*cobra.Command, []string) error { return err }}
	program.Finish(cmd)
	cmd.SetArgs([]string{}) // and not the test's
	return cmd.Execute()
}

func TestExitCode(t *testing.T) {
	ran := func(err error) error { return ranInto(t, fmt.Errorf("doing it: %w", err)) }
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, exitDone},
		{errors.New("unknown flag"), exitUsage}, // it did not come to run
		{ran(errors.New("anything else")), exitFailed},
		{ran(cli.Usagef("a flag that does not go with another")), exitUsage},
		{ran(state.ErrInvalid), exitUsage},
		{ran(state.ErrConflict), exitConflict},
		{ran(&state.ConflictError{}), exitConflict},
		{ran(state.ErrInGrace), exitConflict},
		{ran(&state.GraceError{}), exitConflict},
		{ran(state.ErrStaleToken), exitConflict},
		{ran(state.ErrLapsed), exitConflict},
		{ran(state.ErrFrozen), exitConflict},
		{ran(state.ErrPaused), exitConflict},
		{ran(state.ErrClusterMismatch), exitConflict},
		{ran(&state.MismatchError{}), exitConflict},
		{ran(state.ErrNotFound), exitNotFound},
		{ran(state.ErrNoSpace), exitFailed},
		{ran(state.ErrUnavailable), exitFailed},
		{ran(state.ErrPermission), exitFailed},
		{ran(state.ErrRestored), exitFailed},
		{ran(state.ErrReadOnly), exitFailed},
		// What is not known to be a conflict is not reported as one.
		{ran(fmt.Errorf("%w: %w", state.ErrUnknownOutcome, state.ErrConflict)), exitFailed},
		{ran(context.Canceled), exitFailed},
	} {
		if got := exitCode(test.err); got != test.want {
			t.Errorf("exit code of %v is %d, want %d", test.err, got, test.want)
		}
	}
}

func TestReport_IsOneLine(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("a \x1b[31mred\x07\nname"), `a \x1b[31mred\a; name`},
		{ranInto(t, context.Canceled), "interrupted"},
		{ranInto(t, fmt.Errorf("%w: %w", state.ErrUnknownOutcome, context.Canceled)),
			"outcome unknown: context canceled; run the same command again: it then finds what was done, or does it"},
	} {
		var out bytes.Buffer
		report(&out, test.err)
		if want := "holdfast: " + test.want + "\n"; out.String() != want {
			t.Errorf("reported %q, want %q", out.String(), want)
		}
	}
}

// A conflict says what would free the volume.
func TestWayOut(t *testing.T) {
	hold := func(node string, lapsed bool) state.Hold {
		return state.Hold{Volume: "vol-1", Cluster: "east", Node: node, Mode: state.Shared, Lapsed: lapsed}
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{&state.ConflictError{Volume: "vol-1", Holders: []state.Hold{hold("node-1", false)}}, "holdfast detach vol-1 node-1 --cluster east"},
		{&state.ConflictError{Volume: "vol-1", Holders: []state.Hold{hold("a", false), hold("b", false), hold("c", false)}},
			"holdfast detach --all-of-volume vol-1 --cluster east"},
		{&state.ConflictError{Volume: "vol-1", Holders: []state.Hold{hold("node-1", true)}}, "holdfast evict east --volume vol-1"},
		{&state.GraceError{Volume: "vol-1", Detachments: []state.Detachment{{Cluster: "east"}}}, "holdfast clear vol-1 --cluster east"},
		{&state.MismatchError{Cluster: "east", Given: "uid"}, "holdfast clusters rebind east --uid uid"},
		{state.ErrFrozen, "holdfast unfreeze"},
		{state.ErrNoSpace, "alarm disarm"},
		{state.ErrBeyondRole, "holdfast etcd-role"},
		{state.ErrStaleToken, "without --token"},
	} {
		if got := wayOut(fmt.Errorf("wrapped: %w", test.err)); !strings.Contains(got, test.want) {
			t.Errorf("way out of %T %v is %q, want %q in it", test.err, test.err, got, test.want)
		}
	}
	if got := wayOut(errors.New("anything")); got != "" {
		t.Errorf("way out of anything is %q, want none", got)
	}
}

func TestQuoted(t *testing.T) {
	for in, want := range map[string]string{
		"vol-1":         "vol-1",
		"a/b:c@d":       "a/b:c@d",
		"":              "''",
		"two words":     "'two words'",
		"it's":          `'it'\''s'`,
		"$HOME `x` !":   "'$HOME `x` !'",
		"a\nb'c":        `$'a\nb\'c'`,
		"naïve":         "'naïve'",
		"é!\u200b\xff1": `$'é\x21\xe2\x80\x8b\xff1'`,
	} {
		if got := quoted(in); got != want {
			t.Errorf("quoted(%q) = %s, want %s", in, got, want)
		}
	}
}
