package main

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// Changes that nobody reads end a watch before they fill the memory; a list waits
// for its reader.
func TestBacklog(t *testing.T) {
	reader, writer := io.Pipe()
	b := newBacklog(writer, 1000)
	line := strings.Repeat("x", 99) + "\n"
	listed := make(chan error, 1)
	go func() {
		for range 100 {
			if _, err := io.WriteString(b, line); err != nil {
				listed <- err
				return
			}
		}
		listed <- nil
	}()
	select {
	case err := <-listed:
		t.Fatalf("10 kB are listed to nobody: %v", err)
	case <-time.After(50 * time.Millisecond): // it must not have ended, however long it is given
	}
	lines := bufio.NewScanner(reader)
	for range 100 {
		if !lines.Scan() || lines.Text()+"\n" != line {
			t.Fatalf("read %q", lines.Text())
		}
	}
	if err := <-listed; err != nil {
		t.Fatal(err)
	}

	b.follow(true)
	var err error
	written := 0
	for ; err == nil && written < 100; written++ {
		_, err = io.WriteString(b, line)
	}
	if !errors.Is(err, errBacklog) || written < 9 {
		t.Errorf("%d changes that nobody reads: %v", written, err)
	}
	reader.Close()
	if err := b.close(); !errors.Is(err, errBacklog) {
		t.Errorf("closed: %v", err)
	}
	<-b.drained
}

// What was written before the end is read after it, and a reader that has gone is
// an error.
func TestBacklog_End(t *testing.T) {
	var out strings.Builder
	b := newBacklog(&out, 1000)
	if _, err := io.WriteString(b, "last words\n"); err != nil {
		t.Fatal(err)
	}
	if err := b.close(); err != nil || out.String() != "last words\n" {
		t.Errorf("%q, %v", &out, err)
	}
	reader, writer := io.Pipe()
	reader.Close()
	b = newBacklog(writer, 1000)
	_, _ = io.WriteString(b, "to nobody\n")
	<-b.drained
	if err := b.close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("to nobody: %v", err)
	}
}
