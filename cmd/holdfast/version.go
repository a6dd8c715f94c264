package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

// versionView is what the build says of itself.
type versionView struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersion() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show the version",
		Example: `  holdfast version -o json`,
		Args:    cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := buildVersion(debug.ReadBuildInfo())
			return out.print(cmd, v, func(w io.Writer) {
				fmt.Fprintf(w, "holdfast %s", v.Version)
				if v.Revision != "" {
					fmt.Fprintf(w, ", revision %s", v.Revision)
				}
				if v.Modified {
					fmt.Fprint(w, " (modified)")
				}
				fmt.Fprintf(w, ", %s, %s\n", v.Go, v.Platform)
			})
		},
	}
	out.add(cmd)
	return cmd
}

// buildVersion is the version, and what the build knows beside it.
func buildVersion(info *debug.BuildInfo, ok bool) versionView {
	v := versionView{Version: cli.Version(version, info), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	return v
}
