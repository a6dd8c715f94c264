package watch

import "github.com/holdfast-storage/holdfast/state"

// Lapse is an attachment that was deleted while the Watcher looked on: its
// lease expired, or its hold ended. Which of the two, the hold's record says.
type Lapse struct {
	Volume, Node string
	Mode         state.Mode
	// Token is the token of the hold that the attachment stood for.
	Token state.Token
	Lease state.LeaseID
	// LeaseGone: no attachment is left under its lease, as after an expiry. A
	// detach that takes a lease's last attachment looks the same.
	LeaseGone bool
}

// maxLapses bounds what waits for the keeper: some 20 MB.
const maxLapses = 100_000

// lapseSet is a bounded set of lapses. Past its bound it forgets which, and
// remembers that it forgot.
type lapseSet struct {
	lapses     map[waiter]Lapse
	overflowed bool
	bound      int // 0: maxLapses
}

func (s *lapseSet) add(l Lapse) {
	bound := s.bound
	if bound == 0 {
		bound = maxLapses
	}
	at := waiter{node: l.Node, volume: l.Volume}
	if _, there := s.lapses[at]; !there && len(s.lapses) >= bound {
		s.overflowed = true
		return
	}
	if s.lapses == nil {
		s.lapses = make(map[waiter]Lapse)
	}
	s.lapses[at] = l
}

func (s *lapseSet) remove(node, volume string) {
	if len(s.lapses) > 0 {
		delete(s.lapses, waiter{node: node, volume: volume})
	}
}

// take takes at most limit lapses out of the set. overflowed is told once.
func (s *lapseSet) take(limit int, leases map[state.LeaseID]int) (taken []Lapse, overflowed bool) {
	for at, l := range s.lapses {
		if len(taken) >= limit {
			break
		}
		l.LeaseGone = leases[l.Lease] == 0
		taken = append(taken, l)
		delete(s.lapses, at)
	}
	overflowed, s.overflowed = s.overflowed, false
	return taken, overflowed
}
