package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// Way is how a side's clients lose etcd.
type Way string

// The ways.
const (
	Cut          Way = "connections reset and refused"
	Stall        Way = "nothing comes through"
	StallAnswers Way = "requests arrive, answers do not"
	Resets       Way = "connections reset"
	Late         Way = "a delay" // Clients.Delay, each way
	LoseAnswers  Way = "the next answers are lost"
)

// Ways lists every way.
var Ways = []Way{Cut, Stall, StallAnswers, Resets, Late, LoseAnswers}

// Clients takes members away from one side's clients, and from nobody else.
type Clients struct {
	Side int
	// Members are their indices. None: all of them.
	Members []int
	Way     Way
	// Delay is for Late.
	Delay time.Duration
	// Answers is how many LoseAnswers loses at each member.
	Answers int
}

func (f *Clients) String() string {
	members := "all members"
	if len(f.Members) > 0 {
		members = fmt.Sprintf("members %v", f.Members)
	}
	text := fmt.Sprintf("between clients of side %d and %s: %s", f.Side, members, f.Way)
	if f.Way == Late {
		text += " of " + f.Delay.String()
	}
	return text
}

// Apply makes the fault on connections that are open, and on new ones.
func (f *Clients) Apply(_ context.Context, c *Cluster) error {
	for _, proxy := range f.proxies(c) {
		switch f.Way {
		case Cut:
			proxy.Cut()
		case Stall:
			proxy.Pause()
		case StallAnswers:
			proxy.PauseResponses()
		case Resets:
			proxy.DropConnections()
		case Late:
			proxy.Delay(f.Delay)
		case LoseAnswers:
			proxy.LoseResponses(f.Answers)
		default:
			return fmt.Errorf("cluster: clients cannot lose etcd this way: %q", f.Way)
		}
	}
	return nil
}

// Heal takes it back; what was held back comes through.
func (f *Clients) Heal(_ context.Context, c *Cluster) error {
	for _, proxy := range f.proxies(c) {
		proxy.Delay(0)
		proxy.LoseResponses(0)
		proxy.Resume()
	}
	return nil
}

func (f *Clients) proxies(c *Cluster) []*statetest.Proxy {
	if len(f.Members) == 0 {
		return c.front[f.Side]
	}
	var some []*statetest.Proxy
	for _, i := range f.Members {
		some = append(some, c.front[f.Side][i])
	}
	return some
}
