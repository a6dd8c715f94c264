package chaos

import "time"

// What a soak does to etcd and to its clients: what happens in a bad week,
// again and again. Nothing that needs an operator, and nothing that ends a
// controller, whose memory is measured over its life.
var (
	soakEtcdFaults = map[string]lasting{
		"kill":          {2, 500 * time.Millisecond, 3 * time.Second},
		"kill-leader":   {2, 500 * time.Millisecond, 3 * time.Second},
		"freeze":        {2, 500 * time.Millisecond, 3 * time.Second},
		"freeze-leader": {2, 500 * time.Millisecond, 3 * time.Second},
		"isolate":       {3, time.Second, 4 * time.Second},
		"deafen":        {1, time.Second, 3 * time.Second},
		"slow-member":   {2, time.Second, 4 * time.Second},
		"defragment":    {2, 0, 0},
	}
	soakClientFaults = map[string]lasting{
		"cut-clients":   {2, 300 * time.Millisecond, 3 * time.Second},
		"stall-clients": {1, 300 * time.Millisecond, 3 * time.Second},
		"reset-clients": {3, 0, 0},
		"lose-answers":  {4, 500 * time.Millisecond, 2 * time.Second},
	}
)

// tracks are a soak's faults, at a gentle pace.
func (s *soak) tracks() []track {
	return []track{
		{name: "etcd", gap: 8 * time.Second, kinds: s.ofEtcd(soakEtcdFaults)},
		{name: "clients", gap: 5 * time.Second, kinds: s.ofEtcd(soakClientFaults)},
		{name: "history", gap: 3 * time.Second, kinds: []kind{{name: "compact", weight: 1, apply: s.compact}}},
		{name: "nodes", gap: 3 * time.Second, kinds: []kind{
			{name: "remove-node", weight: 3, least: 2 * time.Second, most: 8 * time.Second, apply: s.removeNode},
			{name: "taint-node", weight: 1, least: time.Second, most: 5 * time.Second, apply: s.taintNode},
		}},
	}
}
