package reconcile

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// brakeStory is one file of testdata/brake: its blocks follow one another.
type brakeStory struct {
	brake  *brake
	now    time.Time
	census census
	ends   map[string]func(bool)

	departures map[string]int64
	standing   map[string]bool
}

func newBrakeStory() *brakeStory {
	s := &brakeStory{
		brake: newBrake(BrakeConfig{}.withDefaults()), now: time.Now(), ends: map[string]func(bool){},
		departures: map[string]int64{}, standing: map[string]bool{},
	}
	s.census.departure = func(node string) int64 { return s.departures[node] }
	s.census.standing = func(node string) bool { return s.standing[node] }
	return s
}

func (s *brakeStory) apply(t *testing.T, line string) {
	verb, words, pairs := fields(line)
	number := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return n
	}
	ago := func(text string) time.Time {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return s.now.Add(-d)
	}
	switch verb {
	case "config":
		fraction, _ := strconv.ParseFloat(pairs["fraction"], 64)
		least, _ := strconv.Atoi(pairs["min"])
		s.brake.cfg = BrakeConfig{Fraction: fraction, Min: least}.withDefaults()
	case "nodes": // in the list, and with attachments
		s.census.nodes, s.census.withAttachments = int(number(pairs["listed"])), int(number(pairs["attached"]))
	case "missing": // node=departure
		s.census.missing = nil
		for _, f := range strings.Fields(line)[1:] {
			node, revision, _ := strings.Cut(f, "=")
			s.census.missing = append(s.census.missing, node)
			s.departures[node] = number(revision)
		}
	case "standing":
		s.standing = words
	case "removed":
		for node := range words {
			e := state.Entry{Action: state.ActionRemoved, Node: node, Reason: string(state.NodeGone), At: ago(pairs["ago"])}
			if pairs["reason"] != "" {
				e.Reason = pairs["reason"]
			}
			if pairs["departure"] != "" {
				e.Evidence = &state.Evidence{DepartureRevision: number(pairs["departure"])}
			} else {
				e.ModRevision = number(pairs["rev"])
			}
			s.brake.note(e, e.At)
		}
	case "released":
		s.brake.note(state.Entry{Action: state.ActionBrakeReleased, ModRevision: number(pairs["rev"])}, s.now)
	case "sending":
		for node := range words {
			s.ends[node] = s.brake.removing(node, state.Departure{Reason: state.NodeGone, ModRevision: number(pairs["departure"])})
		}
	case "sent", "refused":
		for node := range words {
			s.ends[node](verb == "sent")
		}
	case "later":
		s.now = ago("-" + pairs["by"])
	default:
		t.Fatalf("%q: no such line in a brake's story", line)
	}
}

func TestBrake(t *testing.T) {
	script(t, "brake", func() func(*testing.T, []string) string {
		s := newBrakeStory()
		return func(t *testing.T, input []string) string {
			for _, line := range input {
				s.apply(t, line)
			}
			return s.brake.verdict(s.now, s.census).String() + "\n"
		}
	})
}

func TestBrakeConfig(t *testing.T) {
	got := BrakeConfig{}.withDefaults()
	if got != (BrakeConfig{Fraction: 0.2, Min: 2, Window: 10 * time.Minute}) {
		t.Errorf("defaults are %+v", got)
	}
	if got := (BrakeConfig{Min: NoBrakeMin}).withDefaults(); got.Min != 0 {
		t.Errorf("no minimum is %d", got.Min)
	}
	for name, c := range map[string]BrakeConfig{
		"negative fraction": {Fraction: -0.1}, "fraction above 1": {Fraction: 1.1}, "negative minimum": {Min: -2},
		"negative window": {Window: -1}, "window as long as the retention": {Window: time.Hour}, "negative release": {Release: -1},
	} {
		if err := c.withDefaults().validate(time.Hour); !errors.Is(err, state.ErrInvalid) {
			t.Errorf("%s: error is %v, want ErrInvalid", name, err)
		}
	}
	if err := got.validate(time.Hour); err != nil {
		t.Error(err)
	}
}

func TestBrakeUntil(t *testing.T) {
	s := newBrakeStory()
	for _, line := range []string{"nodes listed=10 attached=10", "removed a ago=9m departure=1", "removed b ago=4m departure=2"} {
		s.apply(t, line)
	}
	if v := s.brake.verdict(s.now, s.census); !v.Until.Equal(s.now.Add(time.Minute)) {
		t.Errorf("next change in %s, want 1m", v.Until.Sub(s.now))
	}
}
