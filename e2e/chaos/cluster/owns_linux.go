package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// owns tells whether the process has a socket whose local address, on the
// loopback, is address.
func owns(pid int, address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return false
	}
	inode := socketAt(fmt.Sprintf("/proc/%d/net/tcp", pid), fmt.Sprintf("0100007F:%04X", number))
	if inode == "" {
		return false
	}
	open, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range open {
		if link, err := os.Readlink(fd); err == nil && link == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}

// socketAt finds the inode of the socket with a local address in the kernel's
// table: "sl local remote state queues timer retransmits uid timeout inode ...".
func socketAt(table, local string) string {
	content, err := os.ReadFile(table)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		if f := strings.Fields(line); len(f) > 9 && f[1] == local {
			return f[9]
		}
	}
	return ""
}
