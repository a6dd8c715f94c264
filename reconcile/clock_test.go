//go:build failpoints

package reconcile

import (
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// A leader whose clock is hours ahead, or behind, counts what the one before it
// removed just now, and another whose clock is right goes by the same.
func TestClock_BrakeWindow(t *testing.T) {
	defer failpoint.SetOffset(0)
	w, names, volumes := brakeWorld(t)
	failpoint.SetOffset(-3 * time.Hour)
	r := w.started()
	for i := range 2 {
		w.nodes.remove(names[i])
		w.removed(volumes[i])
	}
	r.Stop()
	failpoint.SetOffset(3 * time.Hour)
	r = w.started()
	w.nodes.remove(names[2])
	braked(t, r)
	w.mustStay(volumes[2:]...)
}
