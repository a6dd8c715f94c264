package model

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// volume is what is certain of one volume at one moment of a linearization. It
// has every hold that was seen and was not seen to end: an end that nobody has
// noticed yet is found when an answer needs it.
type volume struct {
	// known is false after a cut, until the first whole read.
	known bool
	// rev is the least revision that etcd can have; token the greatest so far.
	rev         int64
	token       state.Token
	holds       []hold
	detachments []detachment
	window      *window

	// The order that led here; it tells no volumes apart.
	last     *volume
	by       *step
	depth    int
	expiries int
}

type hold struct {
	place state.Place
	mode  state.Mode
	token state.Token
	// after: it was not made before. stands: its attachment does not lapse before.
	after, stands time.Duration
}

type detachment struct {
	place state.Place
	mode  state.Mode
	token state.Token
	at    int64
	rev   int64
	// after: it was not put before. until: it does not expire before.
	after, until time.Duration
}

type window struct {
	source, target           state.Place
	sourceToken, targetToken state.Token
	until                    time.Duration
}

func (v *volume) clone() *volume {
	w := *v
	w.holds, w.detachments = slices.Clone(v.holds), slices.Clone(v.detachments)
	return &w
}

func (v *volume) hold(p state.Place, m state.Mode) *hold {
	for i := range v.holds {
		if v.holds[i].place == p && v.holds[i].mode == m {
			return &v.holds[i]
		}
	}
	return nil
}

func (v *volume) detachment(p state.Place, m state.Mode) *detachment {
	for i := range v.detachments {
		if v.detachments[i].place == p && v.detachments[i].mode == m {
			return &v.detachments[i]
		}
	}
	return nil
}

func (v *volume) add(h hold) {
	v.holds = append(v.holds, h)
	v.token = max(v.token, h.token)
	slices.SortFunc(v.holds, func(a, b hold) int { return cmp.Compare(a.token, b.token) })
}

func (v *volume) dropHold(p state.Place, m state.Mode) {
	v.holds = slices.DeleteFunc(v.holds, func(h hold) bool { return h.place == p && h.mode == m })
}

func (v *volume) dropDetachment(p state.Place, m state.Mode) {
	v.detachments = slices.DeleteFunc(v.detachments, func(d detachment) bool { return d.place == p && d.mode == m })
}

// end is what every end of a hold does.
func (v *volume) end(h hold, d detachment) {
	v.dropHold(h.place, h.mode)
	v.window = nil
	v.put(d)
}

func (v *volume) put(d detachment) {
	v.dropDetachment(d.place, d.mode)
	v.detachments = append(v.detachments, d)
	slices.SortFunc(v.detachments, func(a, b detachment) int {
		return cmp.Or(cmp.Compare(a.place.Cluster, b.place.Cluster), cmp.Compare(a.place.Node, b.place.Node), cmp.Compare(a.mode, b.mode))
	})
}

func equal(a, b any) bool {
	v, w := a.(*volume), b.(*volume)
	return v == w || v.known == w.known && v.rev == w.rev && v.token == w.token &&
		slices.Equal(v.holds, w.holds) && slices.Equal(v.detachments, w.detachments) &&
		(v.window == w.window || v.window != nil && w.window != nil && *v.window == *w.window)
}

// hash need not know all that equal does: the revision and the newest tokens
// tell most volumes apart.
func hash(a any) uint64 {
	v := a.(*volume)
	h := fnv.New64a()
	fmt.Fprint(h, v.rev, v.token, len(v.holds), len(v.detachments), v.window != nil)
	return h.Sum64()
}

// String is for the visualisation.
func (v *volume) String() string {
	if !v.known {
		return "not read yet"
	}
	var parts []string
	for _, h := range v.holds {
		parts = append(parts, fmt.Sprintf("%s %s %s", h.mode.Letter(), h.place, short(h.token)))
	}
	for _, d := range v.detachments {
		parts = append(parts, fmt.Sprintf("(%s %s %s detached, until %s)", d.mode.Letter(), d.place, short(d.token), d.until.Round(time.Millisecond)))
	}
	if v.window != nil {
		parts = append(parts, fmt.Sprintf("window %s to %s until %s", v.window.source, v.window.target, v.window.until.Round(time.Millisecond)))
	}
	if len(parts) == 0 {
		parts = []string{"free"}
	}
	return fmt.Sprintf("%s @%d", strings.Join(parts, ", "), v.rev)
}

// short is a token for people: its revision, and its epoch unless that is 0.
func short(t state.Token) string {
	if t.Epoch() == 0 {
		return fmt.Sprintf("T%d", t.Revision())
	}
	return fmt.Sprintf("T%d/%d", t.Epoch(), t.Revision())
}
