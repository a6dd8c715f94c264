package history

// ledger is what stands at a revision, by what it is about.
type ledger struct {
	keys     map[string]*Record // by raw key
	leases   map[int64]map[string]bool
	record   *Record // the ledger's own
	volumes  map[string]*volume
	clusters map[string]*cluster
}

// volume is what stands of one volume, by raw key.
type volume struct {
	holds, attachments, detachments map[string]*Record
	window                          *Record
}

// cluster is what stands of one cluster: of its nodes by name, the rest by raw key.
type cluster struct {
	elections, departures, quarantines map[string]*Record
	pause, freeze                      *Record
}

func newLedger() *ledger {
	return &ledger{
		keys: map[string]*Record{}, leases: map[int64]map[string]bool{},
		volumes: map[string]*volume{}, clusters: map[string]*cluster{},
	}
}

// nothing is the volume, or cluster, of which nothing stands: for reading.
var (
	noVolume  = &volume{}
	noCluster = &cluster{}
)

func (l *ledger) volume(name string) *volume {
	if v := l.volumes[name]; v != nil {
		return v
	}
	return noVolume
}

func (l *ledger) cluster(name string) *cluster {
	if c := l.clusters[name]; c != nil {
		return c
	}
	return noCluster
}

func (l *ledger) put(r *Record) {
	l.remove(r.KV.Key)
	l.keys[r.KV.Key] = r
	if r.KV.Lease != 0 {
		if l.leases[r.KV.Lease] == nil {
			l.leases[r.KV.Lease] = map[string]bool{}
		}
		l.leases[r.KV.Lease][r.KV.Key] = true
	}
	if r.Volume != "" && l.volumes[r.Volume] == nil {
		l.volumes[r.Volume] = &volume{holds: map[string]*Record{}, attachments: map[string]*Record{}, detachments: map[string]*Record{}}
	}
	if r.Cluster != "" && l.clusters[r.Cluster] == nil {
		l.clusters[r.Cluster] = &cluster{elections: map[string]*Record{}, departures: map[string]*Record{}, quarantines: map[string]*Record{}}
	}
	l.set(r, r)
}

func (l *ledger) remove(raw string) {
	r := l.keys[raw]
	if r == nil {
		return
	}
	delete(l.keys, raw)
	delete(l.leases[r.KV.Lease], raw)
	if len(l.leases[r.KV.Lease]) == 0 {
		delete(l.leases, r.KV.Lease)
	}
	l.set(r, nil)
	if v := l.volumes[r.Volume]; v != nil && v.window == nil && len(v.holds)+len(v.attachments)+len(v.detachments) == 0 {
		delete(l.volumes, r.Volume)
	}
}

// set puts or, with nil, takes away what r is found by.
func (l *ledger) set(r, to *Record) {
	byKey := func(m map[string]*Record, k string) {
		if to == nil {
			delete(m, k)
		} else {
			m[k] = to
		}
	}
	v, c := l.volumes[r.Volume], l.clusters[r.Cluster]
	switch r.Kind {
	case Ledger:
		l.record = to
	case Holds:
		byKey(v.holds, r.KV.Key)
	case Attachments:
		byKey(v.attachments, r.KV.Key)
	case Detachments:
		byKey(v.detachments, r.KV.Key)
	case Migrations:
		v.window = to
	case Elections:
		byKey(c.elections, r.KV.Key)
	case Departures:
		byKey(c.departures, r.Node)
	case Quarantines:
		byKey(c.quarantines, r.Node)
	case Pauses:
		c.pause = to
	case Freezes:
		c.freeze = to
	}
}

// exclusive holds of the volume.
func (v *volume) exclusive() []*Record {
	return pick(v.holds, func(r *Record) bool { return r.Mode == "x" })
}

func pick(m map[string]*Record, want func(*Record) bool) []*Record {
	var out []*Record
	for _, r := range m {
		if want(r) {
			out = append(out, r)
		}
	}
	return out
}

// freezes that stand, the ledger's own record among them if it is frozen.
func (l *ledger) freezes() []*Record {
	var out []*Record
	if l.record != nil && l.record.frozen() {
		out = append(out, l.record)
	}
	for _, c := range l.clusters {
		if c.freeze != nil {
			out = append(out, c.freeze)
		}
	}
	return out
}

// leader is the oldest election key of a cluster; nil if there is none.
func (c *cluster) leader() *Record {
	var oldest *Record
	for _, r := range c.elections {
		if oldest == nil || r.KV.Create < oldest.KV.Create {
			oldest = r
		}
	}
	return oldest
}
