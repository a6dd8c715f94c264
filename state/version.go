package state

import (
	"fmt"

	"github.com/coreos/go-semver/semver"
)

// oldest are the first releases, of each minor version, without the faults that
// section 9 of docs/design.md names. Ascending.
var oldest = []semver.Version{
	{Major: 3, Minor: 5, Patch: 33},
	{Major: 3, Minor: 6, Patch: 14},
	{Major: 3, Minor: 7, Patch: 1},
}

// safeFrom returns the oldest safe release of v's minor version, and whether v
// is at least that. Of one that came before all of these none is safe, and the
// nearest to it is the first of them; one that came after is taken to be safe.
func safeFrom(v semver.Version) (semver.Version, bool) {
	for _, first := range oldest {
		if v.Major == first.Major && v.Minor == first.Minor {
			return first, !v.LessThan(first)
		}
	}
	return oldest[0], !v.LessThan(oldest[0])
}

// judgeVersions refuses an etcd whose oldest member is unsafe: each of them
// serves reads and watches. A member whose version is not known is empty here,
// and has been warned of.
func (l *Ledger) judgeVersions(endpoints, versions []string) error {
	var worst semver.Version
	var at string
	for i, text := range versions {
		if text == "" {
			continue
		}
		v, err := semver.NewVersion(text)
		if err != nil {
			l.warn("etcd member %s is version %q: whether that is safe cannot be told", endpoints[i], text)
			continue
		}
		if _, safe := safeFrom(*v); !safe && (at == "" || v.LessThan(worst)) {
			worst, at = *v, endpoints[i]
		}
	}
	if at == "" {
		return nil
	}
	first, _ := safeFrom(worst)
	what := fmt.Sprintf("etcd member %s is version %s, with known faults that matter here: the oldest safe version to upgrade it to is %s", at, worst, first)
	if l.cfg.AllowUnsafeEtcd {
		l.warn("%s; going on, since unsafe versions are allowed", what)
		return nil
	}
	return fmt.Errorf("%w: %s; to go on all the same, give --allow-unsafe-etcd (Config.AllowUnsafeEtcd)", ErrUnsafeEtcd, what)
}
