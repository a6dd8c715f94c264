package state

import (
	"errors"
	"testing"
	"time"
)

// What is done, and whose wait could not be made whole, says so: it is neither
// unknown nor undone.
func TestShortWait_SaysThatItIsDone(t *testing.T) {
	const wait = 6 * time.Second
	proxy, through, l := proxied(t, func(c *Config) { c.GracePeriod, c.MigrationWindow = wait, wait })
	c := asCluster(t, through, "a")
	for name, do := range map[string]func(volume string, m Migration) error{
		"commit": func(_ string, m Migration) error { return c.Commit(t.Context(), m) },
		"abort":  func(_ string, m Migration) error { return c.Abort(t.Context(), m) },
		"detach": func(volume string, _ Migration) error {
			e, err := c.Detach(t.Context(), DetachRequest{Volume: volume, Node: "node-1"})
			if !e.Existed {
				t.Errorf("detach: what ended is not told: %+v", e)
			}
			return err
		},
		"detach all": func(volume string, _ Migration) error {
			ended, err := c.DetachAll(t.Context(), DetachAllRequest{Volume: volume})
			if len(ended) != 2 {
				t.Errorf("detach all: %d ends are told, want 2", len(ended))
			}
			return err
		},
		"pause": func(string, Migration) error { return through.Pause(t.Context(), "a", "op", "why", wait) },
	} {
		t.Run(name, func(t *testing.T) {
			attached(t, c, name, "node-1")
			m := migrating(t, c, name, "node-1", Place{Node: "node-2"}, wait)
			answeredLate(t, through, wait)
			proxy.LoseResponses(1000, "LeaseGrant")
			err := do(name, m)
			proxy.LoseResponses(0)
			mustBe(t, err, ErrShortWait)
			for _, other := range []error{ErrUnavailable, ErrUnknownOutcome} {
				if errors.Is(err, other) {
					t.Errorf("%v: it is done, and matches %v", err, other)
				}
			}
			if v := read(t, l, name); name != "pause" && (v.Migration != nil || len(v.Detachments) == 0) {
				t.Errorf("it is not done: %+v", v)
			}
		})
	}
}

// answeredLate readies a lease for the next records of that wait whose answers
// come too late for it, however fast they are.
func answeredLate(t *testing.T, l *Ledger, wait time.Duration) {
	t.Helper()
	l.waits.mu.Lock()
	clear(l.waits.pools)
	l.waits.mu.Unlock()
	if _, err := l.retain(t.Context()); err != nil { // a journal entry's needs none then
		t.Fatal(err)
	}
	if _, err := l.waits.take(t.Context(), wait, 0); err != nil {
		t.Fatal(err)
	}
	for key, fresh := range map[waitKey]bool{{wait: wait}: false, {wait: l.cfg.JournalRetention}: true} {
		p := l.waits.pool(key)
		p.mu.Lock()
		p.fresh = time.Now().Add(time.Hour)
		if !fresh {
			p.whole = time.Now()
		}
		p.mu.Unlock()
	}
}
