package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
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
		Args:    takes(),
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

// buildVersion takes the version from the linker where it was told, else from
// the module, as `go install` leaves it.
func buildVersion(info *debug.BuildInfo, ok bool) versionView {
	v := versionView{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if ok {
		if v.Version == "" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	return v
}
