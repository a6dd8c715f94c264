//go:build failpoints

package chaos

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/history"
	"github.com/holdfast-storage/holdfast/failpoint"
)

// where a fault is planted.
type where int

const (
	inDrivers where = 1 << iota
	inControllers
)

// planted is a fault, and the run that it has to show in: one that does little
// else than what the fault is about, so that a minute is enough.
type planted struct {
	fault failpoint.Fault
	where where
	tune  func(*Config)
	// shows is what the checks must say of it, one of these.
	shows []error
}

// errNotLinearizable is what the check of the callers' answers finds.
var errNotLinearizable = errors.New("is not linearizable")

func only(faults ...string) func(*Config) { return func(c *Config) { c.Faults = faults } }

// atSending has most removals stopped between the last look at their own
// process and the request.
func atSending(s Stop) func(*Config) {
	return func(c *Config) {
		c.Faults, c.Gap, c.Away = []string{"remove-node"}, time.Second, 6*time.Second
		c.Stops = map[failpoint.Point]Stop{failpoint.Sending: s}
	}
}

// lateRequests has most calls given up before their requests arrive: what etcd
// then carries out, it does after the caller was told.
func lateRequests(c *Config) {
	c.Faults, c.Gap = []string{"slow-clients"}, 300*time.Millisecond
	c.Hasty, c.Volumes, c.Pace = 120*time.Millisecond, 4, 5*time.Millisecond
}

var plants = []planted{
	{failpoint.DropLeaderCompare, inControllers, atSending(Stop{Freeze: 60}), []error{history.WrongRemoval}},
	{failpoint.DropDepartureCompare, inControllers, atSending(Stop{Return: 80}), []error{history.WrongRemoval}},
	{failpoint.SilentReattach, inDrivers, func(c *Config) {
		atSending(Stop{Wait: 100})(c)
		c.Volumes, c.Pace = 3, 10*time.Millisecond
	}, []error{history.WrongRemoval}},
	{failpoint.TrustEmptyNodes, inControllers, only("empty-list"), []error{history.WrongRemoval, errNotLinearizable}},
	{failpoint.DropHoldCompare, inDrivers, only("remove-node"), []error{history.TwoExclusive, history.MixedModes}},
	{failpoint.DropTokenCompare, inDrivers, only("remove-node"), []error{history.UnexplainedEnd}},
	{failpoint.DropGraceCompare, inDrivers, only("remove-node"), []error{history.GraceBroken}},
	{failpoint.ShareVolume, inDrivers, only("remove-node"), []error{history.TwoExclusive, history.ThirdHold, history.MixedModes}},
	{failpoint.LeasePastPeriod, inDrivers, only("remove-node"), []error{history.EarlyEnd}},
	{failpoint.IgnoreFreeze, inDrivers | inControllers, only("freeze-ledger"), []error{history.FrozenWrite}},
	{failpoint.DropR, inDrivers, func(c *Config) {
		lateRequests(c)
		c.Duel, c.Volumes = true, 2
	}, []error{history.UnaskedHold, history.UnexplainedEnd}},
	{failpoint.UnknownAsFailed, inDrivers, func(c *Config) {
		lateRequests(c)
		c.Own = true
	}, []error{history.UnexplainedEnd, history.UnaskedHold}},
	{failpoint.SkipRelist, inControllers, func(c *Config) {
		c.Faults, c.Gap, c.Time = []string{"outlast-history"}, 400*time.Millisecond, 12*time.Second
		c.Volumes, c.Pace = 600, 10*time.Millisecond // so many that most stay attached
		c.Stops = map[failpoint.Point]Stop{}         // a controller that starts anew lists
	}, []error{errPassedOver}},
}

// Each fault that is planted must be found, within a minute. One that is not
// means that the checks are blind where they should see.
func TestPlanted(t *testing.T) {
	for _, p := range plants {
		t.Run(string(p.fault), func(t *testing.T) { p.mustBeFound(t) })
	}
}

func (p planted) mustBeFound(t *testing.T) {
	c := config(t, *plantedSeed)
	c.Time, c.Settle, c.EndEarly, c.Restore, c.Revoke = 40*time.Second, 30*time.Second, true, false, false
	p.tune(&c)
	if *plantedNot {
		p.isNotThere(t, c)
		return
	}
	if p.where&inControllers != 0 {
		c.Planted = p.fault
	}
	if p.where&inDrivers != 0 {
		defer failpoint.Plant(p.fault)()
	}
	report, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	found := report.Err()
	if !p.shownBy(found) {
		t.Fatalf("it was not found in %v: want one of %q, got %v\n%v", report.Took.Round(time.Second), p.shows, found, report)
	}
	took := cmp.Or(report.Found, report.Took)
	t.Logf("found after %v: %.1000s", took.Round(time.Second), found)
	if took > foundWithin {
		t.Errorf("it took %v, expected at most %v", took.Round(time.Second), foundWithin)
	}
}

// isNotThere makes the same run without the fault, which must not show it.
func (p planted) isNotThere(t *testing.T, c Config) {
	report, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if found := report.Err(); p.shownBy(found) {
		t.Errorf("kept in %s: %v", c.Folder, found)
	}
	t.Logf("%v", report)
}

func (p planted) shownBy(found error) bool {
	return found != nil && slices.ContainsFunc(p.shows, func(want error) bool {
		return errors.Is(found, want) || strings.Contains(found.Error(), want.Error())
	})
}

// foundWithin is the bound that a run with a planted fault has.
const foundWithin = time.Minute

// Every fault that can be planted is.
func TestPlanted_All(t *testing.T) {
	have := map[failpoint.Fault]bool{}
	for _, p := range plants {
		have[p.fault] = true
	}
	for _, f := range failpoint.Faults {
		if !have[f] {
			t.Errorf("%s is planted in no run", f)
		}
	}
}
