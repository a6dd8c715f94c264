package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// log keeps the last revisions, and writes all that the observer sees as lines
// of JSON, if it was given a writer.
type log struct {
	mu     sync.Mutex
	out    *bufio.Writer // nil: none
	failed error
	keep   int
	last   []Revision
}

func newLog(out io.Writer, keep int) *log {
	l := &log{keep: keep}
	if out != nil {
		l.out = bufio.NewWriter(out)
	}
	return l
}

func (l *log) write(line any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := line.(Revision); ok {
		l.last = append(l.last, r)
		if len(l.last) >= 2*l.keep {
			l.last = append([]Revision(nil), l.last[len(l.last)-l.keep:]...)
		}
	}
	if l.out == nil || l.failed != nil {
		return
	}
	b, err := json.Marshal(line)
	if err == nil {
		_, err = l.out.Write(append(b, '\n'))
	}
	l.failed = err
}

func (l *log) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out != nil && l.failed == nil {
		l.failed = l.out.Flush()
	}
	if l.failed != nil {
		return fmt.Errorf("writing the history: %w", l.failed)
	}
	return nil
}

func (l *log) tail() []Revision {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Revision(nil), l.last[max(0, len(l.last)-l.keep):]...)
}
