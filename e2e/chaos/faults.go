package chaos

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
	"github.com/holdfast-storage/holdfast/failpoint"
)

// lasting bounds how long faults of a kind of package cluster last, and says
// how often they come beside the others of their track.
type lasting struct {
	weight      int
	least, most time.Duration
}

var etcdFaults = map[string]lasting{
	"kill":          {3, 500 * time.Millisecond, 4 * time.Second},
	"kill-leader":   {4, 500 * time.Millisecond, 4 * time.Second},
	"kill-all":      {2, 300 * time.Millisecond, 1500 * time.Millisecond},
	"freeze":        {3, 500 * time.Millisecond, 5 * time.Second},
	"freeze-leader": {4, 500 * time.Millisecond, 5 * time.Second},
	"replace":       {1, time.Second, 2 * time.Second},
	"isolate":       {4, time.Second, 5 * time.Second},
	"deafen":        {3, time.Second, 5 * time.Second},
	"mute":          {3, time.Second, 5 * time.Second},
	"slow-member":   {2, time.Second, 5 * time.Second},
	"reset-member":  {2, 0, 0},
	"defragment":    {2, 0, 0},
	"no-space":      {2, 500 * time.Millisecond, 3 * time.Second},
	"auth":          {2, 2 * time.Second, 6 * time.Second},
	"slow-disk":     {3, time.Second, 5 * time.Second},
}

var clientFaults = map[string]lasting{
	"cut-clients":   {2, 300 * time.Millisecond, 3 * time.Second},
	"stall-clients": {2, 300 * time.Millisecond, 4 * time.Second},
	"stall-answers": {3, 300 * time.Millisecond, 4 * time.Second},
	"reset-clients": {3, 0, 0},
	"slow-clients":  {2, time.Second, 3 * time.Second},
	"lose-answers":  {6, 500 * time.Millisecond, 2 * time.Second},
}

// nodesAtOnce is how many nodes may be away at a time.
const nodesAtOnce = 3

// tracks are all faults of a run, by what they are about.
func (r *run) tracks() []track {
	all := []track{
		{name: "etcd", gap: 2500 * time.Millisecond, kinds: r.ofEtcd(etcdFaults)},
		{name: "clients", gap: 1500 * time.Millisecond, kinds: r.ofEtcd(clientFaults)},
		{name: "history", gap: 3 * time.Second, kinds: []kind{{name: "compact", weight: 1, apply: r.compact}}},
		{name: "controllers", gap: 3 * time.Second, kinds: []kind{
			{name: "kill-controller", weight: 4, apply: r.killController},
			{name: "freeze-controller", weight: 4, least: 500 * time.Millisecond, most: 5 * time.Second, apply: r.freezeController},
			{name: "cluster-away", weight: 1, least: attachmentTTL + 3*time.Second, most: attachmentTTL + 6*time.Second, apply: r.clusterAway},
		}},
		{name: "lists", gap: 8 * time.Second, kinds: []kind{
			{name: "empty-list", weight: 1, least: 5 * time.Second, most: 8 * time.Second, apply: r.emptyList},
			{name: "half-a-list", weight: 1, least: time.Second, most: 3 * time.Second, apply: r.halfList},
		}},
		{name: "operator", gap: 6 * time.Second, kinds: []kind{
			{name: "freeze-ledger", weight: 3, least: 500 * time.Millisecond, most: 3 * time.Second, apply: r.freezeLedger},
			{name: "pause-removals", weight: 2, least: time.Second, most: 4 * time.Second, apply: r.pauseRemovals},
			{name: "evict", weight: 3, apply: r.evictLapsed},
		}},
		{name: "clock", gap: 8 * time.Second, kinds: []kind{{name: "clock-jump", weight: 1, apply: r.clockJump}}},
	}
	for i := range nodesAtOnce {
		all = append(all, track{name: fmt.Sprintf("nodes %d", i+1), gap: 1500 * time.Millisecond, kinds: []kind{
			{name: "remove-node", weight: 3, least: r.cfg.Away, most: 3 * r.cfg.Away, apply: r.removeNode},
			{name: "taint-node", weight: 1, least: time.Second, most: 5 * time.Second, apply: r.taintNode},
		}})
	}
	if r.cfg.Revoke {
		all = append(all, track{name: "leases", gap: 4 * time.Second, kinds: []kind{{name: "revoke-leases", weight: 1, apply: r.revoke}}})
	}
	all = append(all, track{name: "outages", gap: 8 * time.Second, kinds: []kind{
		{name: "outlast-history", weight: 1, least: 500 * time.Millisecond, most: 2 * time.Second, apply: r.outlastHistory},
	}})
	return r.picked(all)
}

// picked keeps the kinds that the configuration names.
func (r *run) picked(all []track) []track {
	if len(r.cfg.Faults) == 0 {
		return all
	}
	var out []track
	for _, t := range all {
		t.gap = cmp.Or(r.cfg.Gap, t.gap)
		t.kinds = slices.DeleteFunc(t.kinds, func(k kind) bool { return !slices.Contains(r.cfg.Faults, k.name) })
		if len(t.kinds) > 0 {
			out = append(out, t)
		}
	}
	return out
}

// ofEtcd makes kinds of those of package cluster.
func (r *run) ofEtcd(which map[string]lasting) []kind {
	var out []kind
	for _, k := range r.etcd.Kinds() {
		l, ok := which[k.Name]
		if !ok {
			continue
		}
		out = append(out, kind{name: k.Name, weight: l.weight, least: l.least, most: l.most,
			apply: func(ctx context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
				done := r.alone.enter(k.Alone)
				f := k.New(rand.New(rand.NewPCG(pick, 0)), r.etcd)
				err := f.Apply(ctx, r.etcd)
				r.cfg.Log.Info("fault", "fault", f.String(), "error", err)
				return func(ctx context.Context) error {
					defer done()
					return f.Heal(ctx, r.etcd)
				}, err
			}})
	}
	return out
}

// compact compacts up to what the observer has seen, under every watch.
func (r *run) compact(ctx context.Context, _ uint64, _ time.Duration) (func(context.Context) error, error) {
	at := r.observer.Revision()
	if at < 2 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	if _, err := r.raw.Compact(ctx, at); err != nil {
		r.count("compactions that failed", 1) // etcd may be away
	}
	return nil, nil
}

// outlastHistory cuts one side's clients off, and compacts what they miss.
func (r *run) outlastHistory(ctx context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
	done := r.alone.enter(false)
	cut := &cluster.Clients{Side: int(pick % uint64(r.etcd.Sides())), Way: cluster.Cut}
	err := cut.Apply(ctx, r.etcd)
	return func(ctx context.Context) error {
		defer done()
		_, _ = r.compact(ctx, 0, 0)
		return cut.Heal(ctx, r.etcd)
	}, err
}

// revoke takes the leases of some records away, as no operator should.
func (r *run) revoke(ctx context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWithin)
	defer cancel()
	kinds := []string{"attachments/", "detachments/", "migrations/", "quarantines/", "elections/"}
	resp, err := r.raw.Get(ctx, prefix+kinds[pick%uint64(len(kinds))], clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) == 0 {
		return nil, nil
	}
	lease := resp.Kvs[pick/7%uint64(len(resp.Kvs))].Lease
	r.facts.Revoked(lease)
	_, _ = r.raw.Revoke(ctx, clientv3.LeaseID(lease))
	return nil, nil
}

func (r *run) anyController(pick uint64) *controller {
	return r.controllers[pick%uint64(len(r.controllers))]
}

func (r *run) killController(_ context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
	r.anyController(pick).kill()
	return nil, nil
}

func (r *run) freezeController(ctx context.Context, pick uint64, lasts time.Duration) (func(context.Context) error, error) {
	r.anyController(pick).hold(ctx, lasts)
	return nil, nil
}

// clusterAway keeps all controllers of a cluster away until its holds lapse.
func (r *run) clusterAway(_ context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
	name := clusterNames[pick%uint64(len(clusterNames))]
	for _, c := range r.of(name) {
		c.stayAway()
	}
	return func(context.Context) error {
		for _, c := range r.of(name) {
			c.comeBack()
		}
		return nil
	}, nil
}

func (r *run) anyNode(pick uint64) (*nodeList, string) {
	l := r.lists[clusterNames[pick%uint64(len(clusterNames))]]
	return l, l.names[pick/7%uint64(len(l.names))]
}

// The end of a time in which a node may lose what it holds: what was judged
// before it came back may still be sent while its live check is good, and
// arrive for as long as etcd may take.
const judgedStill = 15 * time.Second

func (r *run) removeNode(_ context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
	l, name := r.anyNode(pick)
	return r.nodeAway(l, name, l.remove)
}

func (r *run) taintNode(_ context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
	l, name := r.anyNode(pick)
	return r.nodeAway(l, name, l.taint)
}

func (r *run) nodeAway(l *nodeList, name string, leave func(string) error) (func(context.Context) error, error) {
	back := r.recorder.Away(placeOf(l.cluster, name), r.wait(grace))
	err := leave(name)
	return func(context.Context) error {
		err := l.give(name)
		r.later(judgedStill, back)
		return err
	}, err
}

// returnAll gives a cluster the nodes back that are away.
func (r *run) returnAll(l *nodeList) {
	for _, name := range l.names {
		if r.lost(name) {
			continue
		}
		if err := l.give(name); err != nil {
			r.problem(err)
		}
	}
}

func (r *run) emptyList(_ context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
	l, _ := r.anyNode(pick)
	err := l.say([]byte(`{"apiVersion":"v1","kind":"List","items":[]}`))
	return func(context.Context) error { return l.say(nil) }, err
}

func (r *run) halfList(_ context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
	l, _ := r.anyNode(pick)
	err := l.sayHalf()
	return func(context.Context) error { return l.say(nil) }, err
}

// clockJump makes the wall clock of the drivers' process wrong by up to three
// hours either way. A controller gets one of its own at each start.
func (r *run) clockJump(_ context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
	failpoint.SetOffset(wrong(pick))
	return nil, nil
}

func wrong(pick uint64) time.Duration {
	return time.Duration(int64(pick%uint64(6*time.Hour))) - 3*time.Hour
}

// environment is that of a controller's nth start: each has a clock of its own.
func (r *run) environment(start int) []string {
	return []string{
		"HOLDFAST_PASSWORD=" + password,
		failpoint.PlantedVar + "=" + string(r.cfg.Planted),
		fmt.Sprintf("%s=%s", failpoint.ClockVar, wrong(r.cfg.Seed*31+uint64(start)*7919*uint64(time.Minute))),
	}
}
