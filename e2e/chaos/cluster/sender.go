package cluster

import (
	"context"
	"net"
	"net/http"
	"sync"
)

type originKey struct{}

// origin is which member opened a connection, looked up once.
type origin struct {
	once   sync.Once
	member int
}

func withOrigin(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, originKey{}, &origin{member: nobody})
}

// sender is the member that sent a request, or nobody. Raft's requests name
// the sender's URLs. The others, such as a lease kept alive at the leader,
// name nothing: there the system knows whose connection it is.
func (p *peerProxy) sender(r *http.Request) int {
	if urls := r.Header.Get("X-PeerURLs"); urls != "" {
		for i, m := range p.cluster.members {
			if m.proxy.url() == urls {
				return i
			}
		}
		return nobody
	}
	o, ok := r.Context().Value(originKey{}).(*origin)
	if !ok {
		return nobody
	}
	o.once.Do(func() {
		for i, m := range p.cluster.members {
			if pid := m.PID(); pid != 0 && owns(pid, r.RemoteAddr) {
				o.member = i
			}
		}
	})
	return o.member
}
