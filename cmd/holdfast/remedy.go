package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

// afterRestore is what an operator has to do once a restored etcd was noticed.
const afterRestore = "Holds may be missing and tokens may repeat: compare with 'holdfast audit' in every cluster; then 'holdfast unfreeze --restored' goes on (docs/backup.md)"

// wayOut says what an operator can do about an error; empty if there is nothing
// to add to what it says itself.
func wayOut(err error) string {
	if grace, ok := errors.AsType[*state.GraceError](err); ok {
		return "it ends by itself. " + clearing(grace.Volume, grace.Detachments)
	}
	if conflict, ok := errors.AsType[*state.ConflictError](err); ok {
		if ways := freeing(conflict.Volume, conflict.Holders, errors.Is(err, state.ErrLapsed)); len(ways) > 0 {
			return "to free it: " + strings.Join(ways, ", and ")
		}
	}
	if mismatch, ok := errors.AsType[*state.MismatchError](err); ok && mismatch.Given != "" {
		return "is it the kubeconfig, or the --cluster-uid, of the right cluster? 'holdfast clusters' lists whose UID it is. Only if the cluster was built anew on purpose: " +
			command("clusters", nil, "rebind", mismatch.Cluster, "--uid", mismatch.Given, "--reason", "…")
	}
	switch {
	case errors.Is(err, state.ErrUnknownOutcome):
		return "run the same command again: it then finds what was done, or does it"
	case errors.Is(err, state.ErrRestoreNoticed):
		return "detaches go on. " + afterRestore
	case errors.Is(err, state.ErrFrozen):
		return "detaches go on; 'holdfast unfreeze' ends the freeze"
	case errors.Is(err, state.ErrStaleToken):
		return "the token's own hold has ended already; without --token the present one would end"
	case errors.Is(err, state.ErrNoLedger): // says it itself
	case errors.Is(err, state.ErrBeyondRole):
		return "'holdfast etcd-role' prints the roles: a cluster's own reaches what is named after it, and an operator's every cluster's"
	case errors.Is(err, state.ErrNoSpace):
		return "compact and defragment etcd, then disarm its alarm (etcdctl alarm disarm); nothing is lost meanwhile"
	}
	return ""
}

// freeing lists the commands that end holds, one a hold, or one a cluster where
// they are many.
func freeing(volume string, holds []state.Hold, lapsed bool) []string {
	var ways []string
	clusters := map[string]int{}
	for _, h := range holds {
		clusters[h.Cluster]++
	}
	for _, h := range holds {
		switch n := clusters[h.Cluster]; {
		case n == 0: // said already
		case lapsed:
			ways = append(ways, command("evict", nil, h.Cluster, "--volume", volume)+
				" (if cluster "+h.Cluster+" is lost for good; else its controllers stand by it again when they are back)")
			clusters[h.Cluster] = 0
		case n > 2:
			ways = append(ways, command("detach", nil, "--all-of-volume", volume, "--cluster", h.Cluster))
			clusters[h.Cluster] = 0
		default:
			ways = append(ways, command("detach", []string{volume, h.Node}, "--cluster", h.Cluster))
		}
	}
	return ways
}

// clearing is how graces are ended before their time.
func clearing(volume string, detachments []state.Detachment) string {
	var ways []string
	seen := map[string]bool{}
	for _, d := range detachments {
		if !seen[d.Cluster] {
			ways = append(ways, command("clear", []string{volume}, "--cluster", d.Cluster))
			seen[d.Cluster] = true
		}
	}
	return "Once node and storage are done with it, " + strings.Join(ways, " and ") + " ends it now"
}

// remedies says what would free a volume, a sentence each. left is what remains
// of its grace, or of its migration's window.
func remedies(v *state.Volume, left time.Duration) []string {
	switch v.State {
	case state.StateFree:
		return []string{"It is free: any node may attach it."}
	case state.StateGrace:
		return graceRemedies(v, left)
	case state.StateMigrating:
		return []string{
			fmt.Sprintf("The window ends in %s; both still hold the volume then, and one has to be detached.", span(left)),
			fmt.Sprintf("%s lets %s alone hold it.", command("migrate", []string{v.Name}, "--commit", "--cluster", v.Migration.Source.Cluster), v.Migration.Target),
			fmt.Sprintf("%s lets %s alone hold it, as before.", command("migrate", []string{v.Name}, "--abort", "--cluster", v.Migration.Source.Cluster), v.Migration.Source),
		}
	case state.StateOverdue:
		return append([]string{"Two nodes hold it and the migration's window is over: detach the one that no longer uses it."},
			sentences(freeing(v.Name, v.Holds, false))...)
	case state.StateLapsed:
		return append([]string{"No controller stands by it: its cluster has been away for longer than --attachment-ttl. It is still held."},
			sentences(freeing(v.Name, v.Holds, true))...)
	}
	if len(v.Holds) == 0 {
		return []string{"It counts as held: below its holds is a key that this version of Holdfast does not know."}
	}
	return sentences(freeing(v.Name, v.Holds, false))
}

func graceRemedies(v *state.Volume, left time.Duration) []string {
	exclusive := v.Detachments[:0:0]
	for _, d := range v.Detachments {
		if d.Mode == state.Exclusive {
			exclusive = append(exclusive, d)
		}
	}
	if len(exclusive) == 0 {
		return []string{"It was shared, which reserves nothing: any node may attach it."}
	}
	return []string{
		fmt.Sprintf("Cluster %s may attach it now, any other in %s.", exclusive[len(exclusive)-1].Cluster, span(left)),
		clearing(v.Name, exclusive) + ".",
	}
}

func sentences(commands []string) []string {
	out := make([]string, len(commands))
	for i, c := range commands {
		out[i] = "To free it: " + c + "."
	}
	return out
}

// command is a command line that can be copied into a shell, whatever the names
// in it are. A name that looks like a flag goes behind a "--".
func command(verb string, names []string, flags ...string) string {
	words := slices.Concat([]string{"holdfast", verb}, names, flags)
	if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "-") }) {
		words = slices.Concat([]string{"holdfast", verb}, flags, []string{"--"}, names)
	}
	for i, w := range words {
		words[i] = quoted(w)
	}
	return strings.Join(words, " ")
}

var plain = regexp.MustCompile(`^[A-Za-z0-9._/:@%+=,…-]+$`)

// quoted is s as one word of a shell. What does not print takes bash's and
// zsh's $'…', byte by byte, which no locale changes.
func quoted(s string) string {
	switch {
	case plain.MatchString(s):
		return s
	case cli.Harmless(s) == s:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case strings.ContainsRune(`'\`, r):
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '!' || !unicode.IsPrint(r) || r == utf8.RuneError && size == 1: // an interactive bash takes '!' for its history
			for i := range size {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			}
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return "$'" + b.String() + "'"
}
