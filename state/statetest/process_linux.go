package statetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// EndWithParent has the kernel end the process that the command will start when
// this one ends, however it does.
func EndWithParent(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// WaitFrozen waits, after SIGSTOP, until every thread of the process has stopped, or the
// process is gone. The signal only asks for it.
func WaitFrozen(pid int) {
	for !frozen(pid) {
		time.Sleep(time.Millisecond)
	}
}

func frozen(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, thread := range threads {
		content, err := os.ReadFile(thread)
		if err != nil {
			continue // it ended meanwhile
		}
		// "123 (name, which may hold anything) T ...": the state follows the name.
		end := bytes.LastIndexByte(content, ')')
		if end < 0 || end+2 >= len(content) || !bytes.ContainsRune([]byte("TtZX"), rune(content[end+2])) {
			return false
		}
	}
	return true
}
