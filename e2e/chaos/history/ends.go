package history

// Who may end a hold, and on what evidence.

// ended checks the end of a hold: it leaves a detachment, and somebody ended it.
func (ch *change) ended(h *Record) {
	c := ch.checker
	left := ch.puts(Key{Kind: Detachments, Volume: h.Volume, Mode: h.Mode, Cluster: h.Cluster, Node: h.Node})
	ch.expect(left != nil, UnexplainedEnd, h.Key, "it ends and leaves no detachment", h)
	if left != nil {
		ch.expect(left.value.Token == 0 || left.value.Token == h.token(), UnexplainedEnd, h.Key, "the detachment it leaves names another token", h, left)
	}
	call := Call{Kind: CallEnd, Volume: h.Volume, Cluster: h.Cluster, Node: h.Node, Token: h.token()}
	if ch.entry("removed", h.Key) != nil {
		return // judged by its entry
	}
	entry := ch.entry("evicted", h.Key)
	if entry != nil {
		call.Kind = CallEvict
		attachment := c.at.keys[ch.raw(Key{Kind: Attachments, Cluster: h.Cluster, Node: h.Node, Volume: h.Volume})]
		ch.expect(attachment == nil, UnexplainedEnd, h.Key, "it is evicted while its cluster stands by it", h, attachment, entry)
	}
	ch.expect(c.told.explains(call, ch.when, c.lower(h)), UnexplainedEnd, h.Key, "it ends, and nobody was asked to end it, or only before it was there", h, left, entry)
}

// journaled checks the entries that tell of an end.
func (ch *change) journaled(entry *Record) {
	switch entry.value.Action {
	case "removed", "evicted":
	default:
		return
	}
	v := entry.value
	ch.thawed(entry, "it is "+v.Action)
	for _, o := range entry.tells() {
		hold := Key{Kind: Holds, Volume: o.Volume, Mode: letterOf(o.Mode), Cluster: entry.Cluster, Node: v.Node}
		h := ch.deletes(hold)
		ch.expect(h != nil && h.token() == o.Token, UnexplainedEnd, hold, "the journal tells of its end, and it or its token is another", entry, h)
		if v.Action == "removed" {
			ch.removed(entry, hold, o.Attachment)
		}
	}
}

// removed checks a removal: the evidence is true at its revision, nothing stood
// in its way, and the node was not there all the while.
func (ch *change) removed(entry *Record, hold Key, judged int64) {
	at, c := ch.checker.at, ch.checker
	c.report.Removed++
	cl, v, e := at.cluster(hold.Cluster), at.volume(hold.Volume), entry.value.Evidence
	node := hold.place()

	leader := cl.leader()
	ch.expect(leader != nil && leader.KV.Create == e.Leader, WrongRemoval, hold, "who removes it does not lead", entry, leader)
	attachment := v.attachments[ch.raw(Key{Kind: Attachments, Cluster: node.Cluster, Node: node.Node, Volume: hold.Volume})]
	ch.expect(attachment != nil && attachment.KV.Mod == judged, WrongRemoval, hold, "the attachment is not the one that was judged", entry, attachment)
	if attachment != nil && judged > c.begin {
		put := c.bounds(judged, c.last.Upper).Upper
		ch.expect(!c.told.stoodBy(hold.Volume, node, put, ch.when.Lower), WrongRemoval, hold,
			"an attach has stood by it since it was judged, and left no trace", entry, attachment)
	}
	departure := cl.departures[node.Node]
	ch.expect(departure != nil && departure.KV.Mod == e.Departure, WrongRemoval, hold, "the departure is not the one that was judged", entry, departure)
	if departure != nil && departure.owed > 0 && departure.KV.Mod > c.begin {
		ch.expect(ch.when.Upper-c.lower(departure) >= departure.owed, WrongRemoval, hold, "its node was not waited for", entry, departure)
	}
	ch.expect(cl.quarantines[node.Node] == nil, WrongRemoval, hold, "its node is in quarantine", entry, cl.quarantines[node.Node])
	ch.expect(cl.pause == nil, WrongRemoval, hold, "removal is paused", entry, cl.pause)
	own := pick(v.detachments, func(d *Record) bool { return d.place() == node })
	ch.expect(len(own) == 0, WrongRemoval, hold, "its node has a grace period of the volume", append(own, entry)...)
	ch.expect(!c.told.wasPresent(node, ch.when.Lower-c.checks.LiveCheck, ch.when.Upper), WrongRemoval, hold,
		"its node was there all the while, from a live check's length before", entry, departure)
}
