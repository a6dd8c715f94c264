package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-storage/holdfast/bench"
)

// onWhat is what a run was made on, a line each.
func onWhat(h bench.Header) []string {
	whose := "somebody's own"
	if h.Embedded {
		whose = "embedded"
	}
	members := "1 member"
	if h.Members != 1 {
		members = fmt.Sprintf("%d members", h.Members)
	}
	auth := "off"
	if h.Auth {
		auth = "on"
	}
	machine := []string{fmt.Sprintf("%d cores", h.Cores)}
	if h.CPU != "" {
		machine = append([]string{h.CPU}, machine...)
	}
	if h.MemoryGB > 0 {
		machine = append(machine, number(h.MemoryGB)+" GB")
	}
	return []string{
		fmt.Sprintf("etcd %s, %s, %s, fsync %s, auth %s", h.Etcd, members, whose, h.Fsync, auth),
		fmt.Sprintf("%s, %s, %s", strings.Join(machine, ", "), h.OS, h.Go),
		fmt.Sprintf("holdfast-bench %s, size %s, seed %d, %s, took %s", h.Version, h.Sizes, h.Seed,
			h.Began.UTC().Format("2006-01-02 15:04 MST"), time.Duration(h.Took*float64(time.Second)).Round(time.Second)),
	}
}
