package statetest

import (
	"math/rand/v2"
	"net"
	"sync"
)

var takenPorts struct {
	sync.Mutex
	taken map[int]bool
}

// FreePort picks a port that nothing listens on and that this process has not
// picked before. It lies below the range that systems take outgoing
// connections' ports from: so a server that is stopped for a while finds its
// port free when it comes back.
func FreePort() int {
	const lowest, highest = 20000, 32000
	takenPorts.Lock()
	defer takenPorts.Unlock()
	if takenPorts.taken == nil {
		takenPorts.taken = make(map[int]bool)
	}
	for {
		port := lowest + rand.IntN(highest-lowest)
		if takenPorts.taken[port] {
			continue
		}
		listener, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue
		}
		listener.Close()
		takenPorts.taken[port] = true
		return port
	}
}
