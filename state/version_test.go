package state

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/coreos/go-semver/semver"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

func TestSafeFrom(t *testing.T) {
	for version, want := range map[string]struct {
		first string
		safe  bool
	}{
		"3.4.37":      {"3.5.33", false}, // none of 3.4 is safe
		"2.3.8":       {"3.5.33", false},
		"3.5.0":       {"3.5.33", false},
		"3.5.32":      {"3.5.33", false},
		"3.5.33-rc.0": {"3.5.33", false},
		"3.5.33":      {"3.5.33", true},
		"3.5.40":      {"3.5.33", true},
		"3.6.13":      {"3.6.14", false}, // newer than 3.5.33, and has what that has not
		"3.6.14":      {"3.6.14", true},
		"3.7.0":       {"3.7.1", false},
		"3.7.1":       {"3.7.1", true},
		"3.8.0":       {"3.5.33", true},
		"4.0.0":       {"3.5.33", true},
	} {
		first, safe := safeFrom(*semver.New(version))
		if safe != want.safe || !safe && first.String() != want.first {
			t.Errorf("%s: safe %v, from %s; want %v, from %s", version, safe, first, want.safe, want.first)
		}
	}
}

// An etcd that is too old is refused, by its name and by that of the one to
// take; and it is opened, with a warning, by whoever says so.
func TestOpen_UnsafeEtcd(t *testing.T) {
	for name, tc := range map[string]struct {
		etcd  func(t *testing.T) []string
		names []string // what the refusal, or the warning, says
	}{
		"3.5":                {one("3.5.32"), []string{"3.5.32", "3.5.33"}},
		"3.6":                {one("3.6.13"), []string{"3.6.13", "3.6.14"}},
		"3.7":                {one("3.7.0"), []string{"3.7.0", "3.7.1"}},
		"before all of them": {one("3.4.37"), []string{"3.4.37", "3.5.33"}},
		"the oldest of three decides": {func(t *testing.T) []string {
			return statetest.StartCluster(t, 3, statetest.WithVersions("3.7.0", "3.6.2", "3.6.14")).Endpoints()
		}, []string{"3.6.2", "3.6.14"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoints := tc.etcd(t)
			for _, readOnly := range []bool{false, true} {
				l, err := Open(t.Context(), Config{Endpoints: endpoints, ReadOnly: readOnly, Logger: slog.New(slog.DiscardHandler)})
				if err == nil {
					l.Close()
				}
				mustBe(t, err, ErrUnsafeEtcd)
				for _, part := range append(tc.names, "--allow-unsafe-etcd") {
					if !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "\n") {
						t.Errorf("the error does not say %s on one line: %v", part, err)
					}
				}
			}
			l := openAt(t, endpoints, "/holdfast/", func(c *Config) { c.AllowUnsafeEtcd = true })
			warnings := strings.Join(l.Warnings(), "\n")
			for _, part := range tc.names {
				if !strings.Contains(warnings, part) {
					t.Errorf("the warnings do not say %s: %s", part, warnings)
				}
			}
			attached(t, asCluster(t, l, "a"), "pvc-1", "node-1")
		})
	}
}

// What cannot be judged is warned of; what is newer than we know is let be.
func TestOpen_VersionsThatAreNotKnown(t *testing.T) {
	for version, warned := range map[string]bool{"ours": true, "3.8.0": false} {
		l := openAt(t, one(version)(t), "/holdfast/")
		if got := len(l.Warnings()) > 0; got != warned {
			t.Errorf("etcd %s: warnings %q, want some: %v", version, l.Warnings(), warned)
		}
	}
}

// A member that is down cannot be judged, and the others' word counts.
func TestOpen_UnsafeEtcdBesideOneThatIsDown(t *testing.T) {
	endpoints := append([]string{"http://127.0.0.1:1"}, one("3.6.13")(t)...)
	_, err := Open(t.Context(), Config{Endpoints: endpoints, Logger: slog.New(slog.DiscardHandler)})
	mustBe(t, err, ErrUnsafeEtcd)
	if errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

func one(version string) func(t *testing.T) []string {
	return func(t *testing.T) []string {
		t.Helper()
		return statetest.Start(t, statetest.WithVersions(version)).Endpoints()
	}
}
