//go:build !linux

package cluster

// owns cannot tell here: requests that name no sender pass every partition.
func owns(int, string) bool { return false }
