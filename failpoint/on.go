//go:build failpoints

package failpoint

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Enabled says whether this program was built with the tag.
const Enabled = true

var (
	mu      sync.RWMutex
	planted = map[Fault]bool{}
	offset  atomic.Int64
)

// A misspelt setting must not pass for a run in which nothing was found.
func init() {
	for _, name := range strings.FieldsFunc(os.Getenv(PlantedVar), func(r rune) bool { return r == ',' }) {
		if !slices.Contains(Faults, Fault(name)) {
			panic(fmt.Sprintf("failpoint: %s names no fault: %q; expected one of %q", PlantedVar, name, Faults))
		}
		planted[Fault(name)] = true
	}
	if text := os.Getenv(ClockVar); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			panic(fmt.Sprintf("failpoint: %s: %v", ClockVar, err))
		}
		SetOffset(d)
	}
}

// Plant plants a fault in this process until undo is called.
func Plant(f Fault) (undo func()) {
	set := func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		planted[f] = on
	}
	set(true)
	return func() { set(false) }
}

// Planted says whether a fault is planted.
func Planted(f Fault) bool {
	mu.RLock()
	defer mu.RUnlock()
	return planted[f]
}

// SetOffset makes the wall clock wrong by d from now on.
func SetOffset(d time.Duration) { offset.Store(int64(d)) }

// Now is the time by the wall clock as this process sees it. It has no
// monotonic part, which a clock that is set wrong would not move.
func Now() time.Time { return time.Now().Round(0).Add(time.Duration(offset.Load())) }

// Reach is called at a point. It returns when the process may go on: at once
// where nobody asked to be told, and when ctx ends at the latest.
func Reach(ctx context.Context, p Point) {
	path := os.Getenv(ControlVar)
	if path == "" {
		return
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return // whoever asked is gone
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := fmt.Fprintln(conn, p); err == nil {
		_, _ = bufio.NewReader(conn).ReadString('\n')
	}
}
