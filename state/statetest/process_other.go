//go:build !linux

package statetest

import (
	"os/exec"
	"time"
)

// endWithTest can do nothing here: a test process that is killed leaves its
// etcd behind.
func endWithTest(*exec.Cmd) {}

// waitFrozen gives the signal time to arrive: there is no portable way to see it.
func waitFrozen(int) { time.Sleep(100 * time.Millisecond) }
