//go:build !linux

package statetest

import (
	"os/exec"
	"time"
)

// EndWithParent can do nothing here: a process that is killed leaves its
// etcd behind.
func EndWithParent(*exec.Cmd) {}

// WaitFrozen gives the signal time to arrive: there is no portable way to see it.
func WaitFrozen(int) { time.Sleep(100 * time.Millisecond) }
