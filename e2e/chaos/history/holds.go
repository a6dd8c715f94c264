package history

import (
	"fmt"
	"time"
)

// What a new hold must find, and leave.

// held checks a hold that is put, against what stood before.
func (ch *change) held(h *Record) {
	c := ch.checker
	v := c.at.volume(h.Volume)
	window := ch.puts(Key{Kind: Migrations, Volume: h.Volume})

	before := c.at.keys[h.KV.Key]
	ch.expect(before == nil, HoldRewritten, h.Key, "it is put again", h, before)
	if before != nil {
		return
	}
	if others := v.exclusive(); h.Mode == "x" && len(others) > 0 {
		ch.expect(window != nil && window.KV.Version == 1 && window.value.Target == h.place() && window.value.Source == others[0].place(),
			TwoExclusive, h.Key, "it stands beside another, and no window from that one to it was opened with it", append(others, h, window)...)
	} else {
		c.count(TwoExclusive)
	}
	if window == nil {
		ch.graceKept(h, v)
	}
	ch.thawed(h, "a hold is put")
	ch.grown(h)
	if c.checks.AttachesTold {
		ch.asked(h, v, window)
	}
}

// asked: a call may have put the hold, one that was not over when the node's
// own hold of before had ended: what is late must not bring that back.
func (ch *change) asked(h *Record, v *volume, window *Record) {
	c := ch.checker
	call := Call{Kind: CallAttach, Volume: h.Volume, Cluster: h.Cluster, Node: h.Node}
	if window != nil {
		call.Kind = CallMigrate
	}
	since := time.Duration(0)
	end := v.detachments[ch.raw(Key{Kind: Detachments, Volume: h.Volume, Mode: h.Mode, Cluster: h.Cluster, Node: h.Node})]
	if end != nil {
		since = c.lower(end)
	}
	ch.expect(c.told.explains(call, ch.when, since), UnaskedHold, h.Key, "it is put, and nobody asked for it, or only before its node's last hold ended", h, end)
}

// graceKept: no hold in another cluster's grace, unless by force, which leaves
// nothing of the grace and says so.
func (ch *change) graceKept(h *Record, v *volume) {
	for _, d := range v.detachments {
		if d.Mode != "x" || d.Cluster == h.Cluster {
			continue
		}
		forced := ch.deletes(d.Key) != nil && ch.entry("forced", h.Key) != nil
		ch.expect(forced, GraceBroken, h.Key, "it is attached within another cluster's grace, and not by force", h, d)
	}
	ch.checker.count(GraceBroken)
}

// grown: the token is above all that the volume has had, in this life and
// those before, and its epoch is the ledger's.
func (ch *change) grown(h *Record) {
	c := ch.checker
	ch.expect(h.token() > c.tokens[h.Volume], TokenNotGrown, h.Key,
		fmt.Sprintf("its token is %d, and the volume has had %d", h.token(), c.tokens[h.Volume]), h)
	if c.at.record != nil {
		ch.expect(h.value.Epoch == c.at.record.value.Epoch, TokenNotGrown, h.Key,
			fmt.Sprintf("its epoch is %d, and the ledger's %d", h.value.Epoch, c.at.record.value.Epoch), h, c.at.record)
	}
}

// thawed: nothing is frozen, and a restore has been accepted.
func (ch *change) thawed(r *Record, what string) {
	c := ch.checker
	freezes := c.at.freezes()
	ch.expect(len(freezes) == 0, FrozenWrite, r.Key, what+" under a freeze", append(freezes, r)...)
	ch.expect(!c.restored, WrittenWhileRestored, r.Key, what+" after a restore which nobody has accepted yet", r, c.at.record)
}

// epochRaised: the epoch never falls, and a restore is accepted once it is
// above all that there was.
func (ch *change) epochRaised(r *Record) {
	c := ch.checker
	if was := c.at.record; was != nil {
		ch.expect(r.value.Epoch >= was.value.Epoch, TokenNotGrown, r.Key, "the epoch falls", was, r)
	}
	if r.value.Epoch > c.epoch {
		c.restored = false
	}
}

// lifted checks the end of a restore's freeze.
func (ch *change) lifted(freeze *Record) {
	c := ch.checker
	record := ch.puts(Key{Kind: Ledger})
	ok := record != nil && c.at.record != nil && record.value.Epoch > c.at.record.value.Epoch &&
		record.value.Epoch > freeze.epoch() && !record.frozen()
	ch.expect(ok, FreezeLifted, freeze.Key, "it goes, and the ledger's epoch is not raised above it", freeze, c.at.record, record)
}

// modes checks what holds a volume has after a new one.
func (ch *change) modes(k Key, v *volume) {
	exclusive := v.exclusive()
	holds := pick(v.holds, func(*Record) bool { return true })
	ch.expect(len(exclusive) == 0 || len(holds) == len(exclusive), MixedModes, k, "its volume has exclusive and shared holds", holds...)
	ch.expect(len(exclusive) < 3, ThirdHold, k, fmt.Sprintf("its volume has %d exclusive holds", len(exclusive)), exclusive...)
}

// together checks that what only exists together does so.
func (ch *change) together(name string, v *volume) {
	for _, a := range v.attachments {
		h := v.holds[ch.raw(Key{Kind: Holds, Volume: name, Mode: a.letter(), Cluster: a.Cluster, Node: a.Node})]
		ch.expect(a.letter() != "" && h != nil && h.token() == a.token(), OrphanKeys, a.Key,
			"it stands for a hold that is not there, or is another", a, h)
	}
	if w := v.window; w != nil {
		source := v.holds[ch.raw(Key{Kind: Holds, Volume: name, Mode: "x", Cluster: w.value.Source.Cluster, Node: w.value.Source.Node})]
		target := v.holds[ch.raw(Key{Kind: Holds, Volume: name, Mode: "x", Cluster: w.value.Target.Cluster, Node: w.value.Target.Node})]
		ch.expect(source != nil && target != nil && source.token() == w.value.SourceToken && target.token() == w.token(), OrphanKeys, w.Key,
			"its source or its target does not hold the volume, or anew", w, source, target)
	}
}

// waiting: a quarantine is its departure's.
func (ch *change) waiting(c *cluster) {
	for node, q := range c.quarantines {
		ch.expect(c.departures[node] != nil, OrphanKeys, q.Key, "it is a wait for no departure", q)
	}
}

// leased says which kinds are under a lease always, and which never. A pause
// may be either: with an end it is.
var leased = map[Kind]bool{
	Ledger: false, Clusters: false, Holds: false, Departures: false, Freezes: false, Witnesses: false,
	Attachments: true, Detachments: true, Migrations: true, Quarantines: true, Journal: true, Elections: true,
}

func (ch *change) shape(r *Record) {
	want, always := leased[r.Kind]
	if r.Kind == Pauses {
		want, always = !r.value.Until.IsZero(), true
	}
	if always {
		ch.expect(want == (r.KV.Lease != 0), LeaseShape, r.Key, fmt.Sprintf("it is under lease %x; expected one: %v", r.KV.Lease, want), r)
	}
}
