package cli

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	installed := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}
	for _, test := range []struct {
		linked string
		info   *debug.BuildInfo
		want   string
	}{
		{"v2.0.0", installed, "v2.0.0"},
		{"", installed, "v1.2.3"},
		{"", &debug.BuildInfo{}, "(devel)"},
		{"", nil, "(devel)"},
	} {
		if got := Version(test.linked, test.info); got != test.want {
			t.Errorf("Version(%q, %+v) = %s, want %s", test.linked, test.info, got, test.want)
		}
	}
}
