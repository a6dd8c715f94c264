package chaos

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// Stop says what becomes of the arrivals at a fail point, each in percent of
// them; the rest goes on at once.
type Stop struct {
	// Wait lets it go on after up to half a second. Freeze stops the process for
	// longer than its election lasts. Kill kills it. Return gives the cluster its
	// nodes back, and lets it go on a little later.
	Wait, Freeze, Kill, Return int
}

var defaultStops = map[failpoint.Point]Stop{
	failpoint.BeforeDepart:    {Wait: 10, Freeze: 4, Kill: 4, Return: 10},
	failpoint.Judged:          {Wait: 10, Freeze: 3, Kill: 3, Return: 6},
	failpoint.BeforeLiveCheck: {Wait: 10, Freeze: 3, Kill: 3, Return: 6},
	failpoint.BeforeRemove:    {Wait: 10, Freeze: 4, Kill: 4, Return: 8},
	failpoint.Sending:         {Wait: 10, Freeze: 6, Kill: 4, Return: 8},
	failpoint.Removed:         {Wait: 5, Freeze: 2, Kill: 6, Return: 4},
}

// pastElection is longer than a leader lasts that does nothing, and shorter
// than a live check and the request that it allows.
const pastElection = electionTTL + 1200*time.Millisecond

// points decides what happens to one controller at its fail points. What it
// decides follows from the seed, the controller's name and the arrival's number.
type points struct {
	run   *run
	c     *controller
	nodes *nodeList
	stops map[failpoint.Point]Stop

	mu     sync.Mutex
	random *rand.Rand
}

func newPoints(r *run, c *controller, nodes *nodeList) *points {
	h := fnv.New64a()
	h.Write([]byte(c.name))
	stops := r.cfg.Stops
	if stops == nil {
		stops = defaultStops
	}
	return &points{run: r, c: c, nodes: nodes, stops: stops, random: rand.New(rand.NewPCG(r.cfg.Seed, h.Sum64()))}
}

// at is called for each arrival. The process goes on when it returns.
func (p *points) at(ctx context.Context, point failpoint.Point) {
	p.mu.Lock()
	n, wait := p.random.IntN(100), time.Duration(p.random.Int64N(int64(500*time.Millisecond)))
	p.mu.Unlock()
	p.run.count("point "+string(point), 1)
	s := p.stops[point]
	switch {
	case ctx.Err() != nil:
	case n < s.Wait:
		sleep(ctx, wait)
	case n < s.Wait+s.Freeze:
		p.run.count("fault controller frozen at "+string(point), 1)
		p.c.hold(ctx, pastElection)
	case n < s.Wait+s.Freeze+s.Kill:
		p.run.count("fault controller killed at "+string(point), 1)
		p.c.kill()
	case n < s.Wait+s.Freeze+s.Kill+s.Return:
		p.run.count("fault nodes returned at "+string(point), 1)
		p.run.returnAll(p.nodes)
		sleep(ctx, time.Second+wait) // for the other replica to see it
	}
}
