//go:build !linux

package main

import "os/exec"

// endWithParent can do nothing here: a demo that is killed leaves its controller behind.
func endWithParent(*exec.Cmd) {}
