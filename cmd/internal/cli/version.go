package cli

import "runtime/debug"

// Version is what the linker was told, else the module's, as `go install` leaves
// it. info may be nil.
func Version(linked string, info *debug.BuildInfo) string {
	switch {
	case linked != "":
		return linked
	case info != nil && info.Main.Version != "":
		return info.Main.Version
	}
	return "(devel)"
}
