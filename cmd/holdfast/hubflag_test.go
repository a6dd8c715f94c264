package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// controllerLine parses the command line and the environment of a controller,
// and checks the clusters in them.
func controllerLine(t *testing.T, args ...string) (*controllerFlags, error) {
	t.Helper()
	var flags controllerFlags
	cmd := &cobra.Command{Use: "controller"}
	flags.addTo(cmd)
	program.Finish(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		return nil, cmd.FlagErrorFunc()(cmd, err)
	}
	if err := cmd.PersistentPreRunE(cmd, nil); err != nil {
		return nil, err
	}
	return &flags, flags.checkClusters(cmd.Flags().Changed)
}

func TestClusterFlag(t *testing.T) {
	eks := "arn:aws:eks:eu-west-1:123456789012:cluster/east"
	for name, c := range map[string]struct {
		values []string
		env    string
		want   []clusterSpec
		err    string
	}{
		"one":                      {values: []string{"east"}, want: []clusterSpec{{name: "east"}}},
		"a hub of one":             {values: []string{"east=/kc"}, want: []clusterSpec{{"east", "/kc", ""}}},
		"a context":                {values: []string{"east=/kc:admin"}, want: []clusterSpec{{"east", "/kc", "admin"}}},
		"a context of many colons": {values: []string{"east=/kc:" + eks}, want: []clusterSpec{{"east", "/kc", eks}}},
		"an = in the context":      {values: []string{"east=/kc:a=b"}, want: []clusterSpec{{"east", "/kc", "a=b"}}},
		"an = in the path":         {values: []string{"east=/a=b/kc"}, want: []clusterSpec{{"east", "/a=b/kc", ""}}},
		"several":                  {values: []string{"east=/kc", "west=/kc:w"}, want: []clusterSpec{{"east", "/kc", ""}, {"west", "/kc", "w"}}},
		"the environment":          {env: "east=/kc, west=/kc:w,\nnorth=n", want: []clusterSpec{{"east", "/kc", ""}, {"west", "/kc", "w"}, {"north", "n", ""}}},
		"a flag wins":              {values: []string{"east"}, env: "west=/kc", want: []clusterSpec{{name: "east"}}},

		"none":                  {err: "--cluster is missing"},
		"an empty one":          {values: []string{""}, err: `invalid --cluster "": expected NAME, or NAME=KUBECONFIG[:CONTEXT]`},
		"no name":               {values: []string{"=/kc"}, err: "expected NAME"},
		"no kubeconfig":         {values: []string{"east="}, err: `expected a kubeconfig file after "east="`},
		"no kubeconfig again":   {values: []string{"east=:admin"}, err: `expected a kubeconfig file after "east="`},
		"no context":            {values: []string{"east=/kc:"}, err: `expected a context after "east=/kc:"`},
		"a home":                {values: []string{"east=~/kc"}, err: "expected the whole path"},
		"a comma too many":      {env: "east=/kc,", err: `invalid HOLDFAST_CLUSTER "east=/kc," in the environment: expected NAME`},
		"no label":              {values: []string{"East=/kc"}, err: "RFC 1123"},
		"twice":                 {values: []string{"east=/kc:a", "east=/kc:b"}, err: "--cluster east is given twice"},
		"twice without":         {values: []string{"east", "east"}, err: "--cluster east is given twice"},
		"two without":           {values: []string{"east", "west"}, err: "--cluster east has no kubeconfig"},
		"one with, one without": {values: []string{"east=/kc", "west"}, err: "--cluster west has no kubeconfig"},
		"one cluster, two names": {values: []string{"east=/kc:a", "west=/kc:a"},
			err: `--cluster east and west have the same context "a" of kubeconfig "/kc"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOLDFAST_CLUSTER", c.env)
			var args []string
			for _, v := range c.values {
				args = append(args, "--cluster", v)
			}
			got, err := controllerLine(t, args...)
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n")):
				t.Errorf("%v, want one line with %q", err, c.err)
			case c.err == "" && err != nil:
				t.Error(err)
			case c.err == "" && !slices.Equal(got.clusters, c.want):
				t.Errorf("%+v, want %+v", got.clusters, c.want)
			}
		})
	}
}

// What says of one cluster where it is, a hub has no use for.
func TestClusterFlag_ExcludesThoseOfOneCluster(t *testing.T) {
	for _, flag := range []string{"--kubeconfig", "--context", "--nodes", "--cluster-uid"} {
		if _, err := controllerLine(t, "--cluster", "east=/kc", flag, "x"); err == nil || !strings.Contains(err.Error(), flag+" and --cluster NAME=KUBECONFIG exclude each other") {
			t.Errorf("%s: %v, want that it is refused in a hub", flag, err)
		}
		if _, err := controllerLine(t, "--cluster", "east", flag, "x"); err != nil {
			t.Errorf("%s: %v, want none without a hub", flag, err)
		}
	}
}
