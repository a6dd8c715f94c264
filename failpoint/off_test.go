//go:build !failpoints

package failpoint_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-storage/holdfast/failpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A program that is built as it ships has nothing to break it by.
func TestOff(t *testing.T) {
	t.Setenv(failpoint.PlantedVar, string(failpoint.Faults[0]))
	t.Setenv(failpoint.ControlVar, "/nowhere")
	t.Setenv(failpoint.ClockVar, "3h")
	for _, f := range failpoint.Faults {
		if failpoint.Enabled || failpoint.Planted(f) {
			t.Errorf("%s is planted without the build tag", f)
		}
	}
	failpoint.Reach(t.Context(), failpoint.Sending)
	if d := time.Until(failpoint.Now()).Abs(); d > time.Minute {
		t.Errorf("the clock is wrong by %v", d)
	}
}
