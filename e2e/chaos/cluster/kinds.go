package cluster

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is a kind of fault that a seeded run draws from.
type Kind struct {
	Name string
	// Alone: no other fault may stand from its Apply to its Heal, and the
	// cluster must be healthy before.
	Alone bool
	// Once: it lasts no time: Heal may follow Apply at once.
	Once bool
	// New makes a fault of the kind, the same for the same random numbers.
	New func(*rand.Rand, *Cluster) Fault
}

// Kinds lists every kind of fault. SlowDisk is among them where the etcd has
// failpoints; RevokeLeases takes a prefix, and is the caller's to add.
func (c *Cluster) Kinds() []Kind {
	kinds := slices.Concat(processKinds(), memberKinds(), clientKinds(), storeKinds())
	if c.failpoints {
		kinds = append(kinds, Kind{Name: "slow-disk", New: func(r *rand.Rand, _ *Cluster) Fault {
			return &SlowDisk{Who: anyone(r), Delay: delay(r)}
		}})
	}
	return kinds
}

func processKinds() []Kind {
	return []Kind{
		{Name: "kill", New: func(r *rand.Rand, _ *Cluster) Fault { return &Kill{Who: anyone(r)} }},
		{Name: "kill-leader", New: func(*rand.Rand, *Cluster) Fault { return &Kill{Who: Leader} }},
		{Name: "kill-all", Alone: true, New: func(*rand.Rand, *Cluster) Fault { return KillAll{} }},
		{Name: "freeze", New: func(r *rand.Rand, _ *Cluster) Fault { return &Freeze{Who: anyone(r)} }},
		{Name: "freeze-leader", New: func(*rand.Rand, *Cluster) Fault { return &Freeze{Who: Leader} }},
		{Name: "replace", Alone: true, New: func(r *rand.Rand, _ *Cluster) Fault { return &Replace{Who: anyone(r)} }},
	}
}

func memberKinds() []Kind {
	return []Kind{
		{Name: "isolate", New: func(r *rand.Rand, _ *Cluster) Fault { return &Isolate{Who: anyone(r)} }},
		{Name: "deafen", New: func(r *rand.Rand, _ *Cluster) Fault { return &Deafen{Who: anyone(r)} }},
		{Name: "mute", New: func(r *rand.Rand, _ *Cluster) Fault { return &Mute{Who: anyone(r)} }},
		{Name: "slow-member", New: func(r *rand.Rand, _ *Cluster) Fault { return &SlowMember{Who: anyone(r), Delay: delay(r)} }},
		{Name: "reset-member", Once: true, New: func(r *rand.Rand, _ *Cluster) Fault { return &ResetMember{Who: anyone(r)} }},
	}
}

func clientKinds() []Kind {
	var kinds []Kind
	for _, way := range []struct {
		name string
		way  Way
	}{
		{"cut-clients", Cut}, {"stall-clients", Stall}, {"stall-answers", StallAnswers},
		{"reset-clients", Resets}, {"slow-clients", Late}, {"lose-answers", LoseAnswers},
	} {
		kinds = append(kinds, Kind{Name: way.name, Once: way.way == Resets, New: func(r *rand.Rand, c *Cluster) Fault {
			f := &Clients{Side: r.IntN(c.Sides()), Way: way.way, Delay: delay(r), Answers: 1 + r.IntN(3)}
			if r.IntN(2) == 0 {
				f.Members = []int{r.IntN(Size)}
			}
			return f
		}})
	}
	return kinds
}

func storeKinds() []Kind {
	return []Kind{
		{Name: "compact", Once: true, New: func(*rand.Rand, *Cluster) Fault { return Compact{} }},
		{Name: "defragment", Once: true, New: func(*rand.Rand, *Cluster) Fault { return Defragment{} }},
		{Name: "no-space", New: func(*rand.Rand, *Cluster) Fault { return NoSpace{} }},
		{Name: "auth", New: func(*rand.Rand, *Cluster) Fault { return Auth{} }},
		{Name: "snapshot", Once: true, New: func(*rand.Rand, *Cluster) Fault { return TakeSnapshot{} }},
		{Name: "restore", Alone: true, Once: true, New: func(*rand.Rand, *Cluster) Fault { return &Restore{} }},
		{Name: "restore-bumped", Alone: true, Once: true, New: func(*rand.Rand, *Cluster) Fault { return &Restore{Bump: 1_000_000} }},
		{Name: "restore-elsewhere", Alone: true, Once: true, New: func(*rand.Rand, *Cluster) Fault { return &Restore{NewToken: true} }},
	}
}

// anyone is the leader more often than not: that is where faults hurt.
func anyone(r *rand.Rand) Who {
	if r.IntN(2) == 0 {
		return Leader
	}
	return Who(r.IntN(Size))
}

// delay is 50 to 500 ms.
func delay(r *rand.Rand) time.Duration {
	return 50*time.Millisecond + time.Duration(r.IntN(450))*time.Millisecond
}
