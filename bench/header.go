package bench

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"time"
)

// header is what the run is made on. Version, Embedded and Fsync are left to who
// knows them.
func (r *Run) header(ctx context.Context) (Header, error) {
	h := Header{
		Began: time.Now().UTC().Truncate(time.Second), Sizes: r.Sizes.Name, Seed: r.Seed, Fsync: "unknown", Auth: r.Etcd.Username != "",
		Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(),
		CPU: procField("/proc/cpuinfo", "model name"), MemoryGB: memoryGB(),
	}
	status, err := r.client.Status(ctx, r.Etcd.Endpoints[0])
	if err != nil {
		return h, fmt.Errorf("the status of %s: %w", r.Etcd.Endpoints[0], err)
	}
	h.Etcd = status.Version
	h.Members = len(r.Etcd.Endpoints)
	if members, err := r.client.MemberList(ctx); err == nil { // a role may be too small for it
		h.Members = len(members.Members)
	}
	return h, nil
}

// procField is a field of a file such as /proc/cpuinfo; empty where there is none.
func procField(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func memoryGB() float64 {
	var kb float64
	if _, err := fmt.Sscanf(procField("/proc/meminfo", "MemTotal"), "%f kB", &kb); err != nil {
		return 0
	}
	return math.Round(kb*1024/1e9*10) / 10
}
