//go:build !failpoints

package failpoint

import (
	"context"
	"time"
)

// Enabled says whether this program was built with the tag.
const Enabled = false

// Plant does nothing.
func Plant(Fault) (undo func()) { return func() {} }

// SetOffset does nothing.
func SetOffset(time.Duration) {}

// Planted says whether a fault is planted.
func Planted(Fault) bool { return false }

// Reach is called at a point. It returns when the process may go on.
func Reach(context.Context, Point) {}

// Now is the time by the wall clock as this process sees it.
func Now() time.Time { return time.Now() }
