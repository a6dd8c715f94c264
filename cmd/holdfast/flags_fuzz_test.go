package main

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

// mustBeOneLine wants what is printed of an error to be a line of bounded length
// that does nothing to a terminal.
func mustBeOneLine(t *testing.T, given int, err error) {
	t.Helper()
	text := cli.OneLine(explain(err))
	if most := 1000 + 10*given; len(text) > most {
		t.Errorf("an error of %d bytes of a value of %d", len(text), given)
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			t.Errorf("an error with %q in it: %q", r, text)
		}
	}
}

// A cluster of --cluster is what was given: name, kubeconfig and context put
// together again are the value.
func FuzzClusterFlag(f *testing.F) {
	for _, s := range []string{"east", "east=/kc", "east=/kc:admin", "east=/kc:arn:aws:eks:x:1:cluster/e", "a=/1, b=/2:c", "=", "a=", "a=:", "a=~", ",", "a=/\x1b[31m", "../../x", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var specs clusterSpecs
		if err := specs.Set(value); err != nil {
			mustBeOneLine(t, len(value), err)
			if len(specs) > 0 {
				t.Errorf("%v, and %d clusters too", err, len(specs))
			}
			return
		}
		parts := strings.Split(value, ",")
		if len(specs) != len(parts) {
			t.Fatalf("%q is %d clusters", value, len(specs))
		}
		for i, s := range specs {
			again := s.name
			if s.kubeconfig != "" {
				again += "=" + s.kubeconfig
			}
			if s.context != "" {
				again += ":" + s.context
			}
			if again != strings.TrimSpace(parts[i]) {
				t.Errorf("%q is taken for %q", parts[i], again)
			}
		}
		checked := controllerFlags{clusters: specs}
		if err := checked.checkClusters(func(string) bool { return false }); err != nil {
			mustBeOneLine(t, len(value), err)
			return
		}
		for _, s := range specs {
			if state.ValidateCluster(s.name) != nil {
				t.Errorf("a cluster is named %q", s.name)
			}
		}
	})
}

// A duration is above zero, or zero where that means something, and comes back
// from how it is printed.
func FuzzDurationFlag(f *testing.F) {
	for _, s := range []string{"30s", "5m", "168h", "0", "-1s", "1.5s", "1e9h", "9223372036854775807ns", "1h1", "s", "\x1b[31m", "١s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var d, orZero time.Duration
		if err := newDuration(&d, time.Second).Set(value); err != nil {
			mustBeOneLine(t, 0, err)
		} else {
			again := newDuration(new(time.Duration), time.Second)
			if d <= 0 || again.Set(shortDuration(d)) != nil || *again.value != d {
				t.Errorf("%q is %s, printed as %s", value, d, shortDuration(d))
			}
		}
		if err := (&duration{value: &orZero, zero: true}).Set(value); err == nil && orZero <= 0 && orZero != state.NoQuarantine {
			t.Errorf("%q is %s", value, orZero)
		}
	})
}

// Every flag of a controller, given anything: it is refused in one line, or its
// value is one that its check allows.
func FuzzControllerFlags(f *testing.F) {
	flags := []string{"endpoints", "brake-fraction", "brake-min", "brake-window", "brake-release", "removal-rate", "fence-command", "fence-timeout",
		"quarantine", "stale-after", "log-level", "node-identity", "listen", "prefix", "driver", "user", "events", "pprof", "cluster", "kubeconfig", "nodes"}
	for i := range flags {
		for _, value := range []string{"", "1", "0.2", "NaN", "-1", "1e400", "http://127.0.0.1:2379,https://[::1]:2379", "http://u:p@h:1", "\"a,b\"", "a\nb", "x\x1b[31m", "true", "uid"} {
			f.Add(uint8(i), value)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, value string) {
		name := flags[int(which)%len(flags)]
		var c controllerFlags
		cmd := &cobra.Command{Use: "controller"}
		c.addTo(cmd)
		program.Finish(cmd)
		args := []string{"--" + name + "=" + value}
		if name != "cluster" {
			args = append(args, "--cluster=east")
		}
		err := cmd.ParseFlags(args)
		if err != nil {
			mustBeOneLine(t, len(value), cmd.FlagErrorFunc()(cmd, err))
			return
		}
		err = errors.Join(cmd.PersistentPreRunE(cmd, nil), c.check(cmd.Flags().Changed))
		if err == nil {
			_, err = c.config(io.Discard)
		}
		if err != nil {
			mustBeOneLine(t, 2*len(value), err)
			return
		}
		if b := c.braking(); !(b.Fraction > 0 && b.Fraction <= 1) || b.Window <= 0 || b.Release < 0 || c.brake.Min < 0 || !(c.removalRate > 0) {
			t.Errorf("%s: a brake of %+v, %v removals a second", strconv.Quote(args[0]), b, c.removalRate)
		}
	})
}
