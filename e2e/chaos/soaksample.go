package chaos

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	sampleEvery   = 5 * time.Second
	progressEvery = time.Minute
	// At rest each figure is the least of a few readings: what one of them
	// happens to be in the middle of, the others need not be.
	readingsAtRest = 3
	readingApart   = 500 * time.Millisecond
)

// samplePeaks reads all figures while the churn goes on, until ctx ends. A
// process that does not answer for once is none of its business.
func (s *soak) samplePeaks(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	told := s.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, g := range s.gauges {
			figures, err := g.read(ctx, false)
			if err != nil {
				s.count("readings missed", 1)
				continue
			}
			for _, f := range figures {
				s.of(g.of, f.quantity).peaked(f.value)
			}
		}
		if s.now()-told >= progressEvery {
			told = s.now()
			s.cfg.Progress(s.progress())
		}
	}
}

// of is the series of a process's quantity. Its fields are the soak's, under tell.
func (s *soak) of(process string, q quantity) *lockedSeries {
	s.tell.Lock()
	defer s.tell.Unlock()
	name := process + " " + q.name
	if s.series[name] == nil {
		s.series[name] = &Series{Name: name, quantity: q}
		s.order = append(s.order, name)
	}
	return &lockedSeries{s, s.series[name]}
}

type lockedSeries struct {
	soak   *soak
	series *Series
}

func (l *lockedSeries) peaked(value float64) {
	l.soak.tell.Lock()
	defer l.soak.tell.Unlock()
	l.series.Peak = max(l.series.Peak, value)
}

func (l *lockedSeries) rested(at time.Duration, value float64) {
	l.soak.tell.Lock()
	defer l.soak.tell.Unlock()
	l.series.At, l.series.Values = append(l.series.At, at), append(l.series.Values, value)
	l.series.Peak = max(l.series.Peak, value)
}

// measure reads all figures at rest.
func (s *soak) measure(ctx context.Context) error {
	type place struct {
		of string
		q  quantity
	}
	least := map[place]float64{}
	var order []place
	for reading := range readingsAtRest {
		if reading > 0 {
			sleep(ctx, readingApart)
		}
		for _, g := range s.gauges {
			figures, err := g.read(ctx, true)
			if err != nil {
				return fmt.Errorf("measuring %s at rest: %w", g.of, err)
			}
			for _, f := range figures {
				at := place{g.of, f.quantity}
				if had, ok := least[at]; !ok {
					least[at] = f.value
					order = append(order, at)
				} else {
					least[at] = min(had, f.value)
				}
			}
		}
	}
	now := s.now()
	for _, at := range order {
		s.of(at.of, at.q).rested(now, least[at])
	}
	return nil
}

// taken are all series, those of a process together.
func (s *soak) taken() []Series {
	s.tell.Lock()
	defer s.tell.Unlock()
	slices.Sort(s.order)
	var out []Series
	for _, name := range s.order {
		out = append(out, *s.series[name])
	}
	return out
}

// progress is one line.
func (s *soak) progress() string {
	s.mu.Lock()
	calls := 0
	for _, kind := range driven {
		calls += s.counts["calls "+string(kind)]
	}
	missed := s.counts["calls missed"]
	s.mu.Unlock()
	highest := map[quantity]float64{}
	for _, one := range s.taken() {
		highest[one.quantity] = max(highest[one.quantity], one.Peak)
	}
	line := fmt.Sprintf("%.0f s: %d calls, %d missed; highest so far: %s resident in a controller", s.now().Seconds(), calls, missed, resident.show(highest[resident]))
	for _, q := range []quantity{leasesThere, keysThere, database} {
		line += ", " + q.show(highest[q]) + " " + q.name
	}
	return line
}
