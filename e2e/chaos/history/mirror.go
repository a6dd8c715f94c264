package history

import (
	"errors"
	"fmt"
	"slices"
)

// ErrMissed: the observer cannot have seen all that happened. Whatever it found
// or did not find since then counts for nothing.
var ErrMissed = errors.New("history: events were missed")

// mirror is etcd as the events make it, and the proof that none was missed.
type mirror struct {
	revision int64
	kvs      map[string]KV
	// unproven counts the events whose former value etcd had compacted away.
	unproven int
}

func newMirror(revision int64, kvs []KV) *mirror {
	m := &mirror{revision: revision, kvs: make(map[string]KV, len(kvs))}
	for _, kv := range kvs {
		m.kvs[kv.Key] = kv
	}
	return m
}

// admit takes the next revision in, or says why it cannot be the next. It fills
// in what a delete's event leaves out.
func (m *mirror) admit(number int64, events []Event) error {
	if number != m.revision+1 {
		return fmt.Errorf("%w: revision %d follows %d, and every revision has events", ErrMissed, number, m.revision)
	}
	m.revision = number
	seen := make(map[string]bool, len(events))
	for _, e := range events {
		if err := m.follows(e); err != nil {
			return fmt.Errorf("%w: revision %d, key %q: %w", ErrMissed, number, e.Key, err)
		}
		if seen[e.Key] {
			return fmt.Errorf("%w: revision %d has key %q twice", ErrMissed, number, e.Key)
		}
		seen[e.Key] = true
		if e.Delete {
			delete(m.kvs, e.Key)
		} else {
			m.kvs[e.Key] = e.KV
		}
	}
	return nil
}

// follows checks one event against what the mirror has.
func (m *mirror) follows(e Event) error {
	had, there := m.kvs[e.Key]
	switch {
	case e.Prev == nil && there:
		m.unproven++
	case e.Prev != nil && !there:
		return fmt.Errorf("etcd had it before, put at %d, and the observer had not", e.Prev.Mod)
	case e.Prev != nil && *e.Prev != had:
		return fmt.Errorf("etcd had it put at %d (version %d), and the observer at %d (version %d)", e.Prev.Mod, e.Prev.Version, had.Mod, had.Version)
	}
	switch {
	case e.Mod != m.revision:
		return fmt.Errorf("its event is of revision %d", e.Mod)
	case e.Delete && !there:
		return errors.New("it is deleted and was not there")
	case e.Delete:
	case e.Version != had.Version+1:
		return fmt.Errorf("it is put as version %d, after version %d", e.Version, had.Version)
	case there && e.Create != had.Create, !there && e.Create != m.revision:
		return fmt.Errorf("it is put as created at %d, after %d", e.Create, had.Create)
	}
	return nil
}

// equals checks the mirror against a list of all keys at its revision.
func (m *mirror) equals(list []KV) error {
	left := make(map[string]KV, len(m.kvs))
	for k, kv := range m.kvs {
		left[k] = kv
	}
	var wrong []string
	for _, kv := range list {
		if left[kv.Key] != kv {
			wrong = append(wrong, kv.Key)
		}
		delete(left, kv.Key)
	}
	for k := range left {
		wrong = append(wrong, k)
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("%w: at revision %d the list and the events differ in %d keys, first %q", ErrMissed, m.revision, len(wrong), wrong[0])
}
