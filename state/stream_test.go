package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// streaming makes of etcd's own streams what a test wants of them.
type streaming struct {
	clientv3.KV
	streams, chunks int
	refuse          bool
	// most is how many chunks come before a stream ends or, with hang, stands still.
	most   int
	hang   bool
	header func(*pb.ResponseHeader)
}

func (s *streaming) GetStream(ctx context.Context, k string, opts ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	s.streams++
	if s.refuse {
		return nil, status.Error(codes.Unimplemented, "unknown method RangeStream")
	}
	from, err := s.KV.GetStream(ctx, k, opts...)
	if err != nil {
		return nil, err
	}
	to := make(chan clientv3.RangeStreamResponse)
	go func() {
		defer close(to)
		n := 0
		for chunk := range from {
			if n++; s.most > 0 && n > s.most {
				if s.hang {
					<-ctx.Done()
				}
				continue // to the end, for whoever sends does not ask ctx
			}
			if s.header != nil && chunk.Err() == nil && chunk.Header != nil {
				s.header(chunk.Header)
			}
			to <- chunk
			if chunk.Err() == nil {
				s.chunks++
			}
		}
	}()
	return to, nil
}

// A list has every record once and in order, however its streams end, and reads
// what they do not give by pages: on an etcd before 3.7, all but the first.
func TestList_Streamed(t *testing.T) {
	const records = pageRecords + pageRecords/2
	l := openLedger(t, func(c *Config) { c.RequestTimeout = time.Second })
	putRaw(t, l, records, func(i int) (string, string) {
		return l.keys.attachment("a", "node-1", fmt.Sprintf("pvc-%06d", i)), "{}"
	})
	status, err := l.client.Status(t.Context(), l.cfg.Endpoints[0])
	mustBe(t, err, nil)
	can := !strings.HasPrefix(status.Version, "3.5.") && !strings.HasPrefix(status.Version, "3.6.")
	for name, tc := range map[string]struct {
		streaming
		streams int
		ends    error
	}{
		"whole":                {streams: 1},
		"none, before 3.7":     {streaming: streaming{refuse: true}, streams: 1},
		"breaks off":           {streaming: streaming{most: 3}, streams: 1},
		"stands still":         {streaming: streaming{most: 3, hang: true}, streams: 1},
		"of another etcd":      {streaming: streaming{header: func(h *pb.ResponseHeader) { h.ClusterId++ }}, streams: 1, ends: ErrRestored},
		"of an etcd gone back": {streaming: streaming{header: func(h *pb.ResponseHeader) { h.Revision = 1 }}, streams: 1, ends: ErrRestored},
	} {
		t.Run(name, func(t *testing.T) {
			l := openAt(t, l.cfg.Endpoints, l.cfg.Prefix, func(c *Config) { c.RequestTimeout = time.Second })
			if !can {
				tc.ends = nil // nothing comes that could be of another etcd
			}
			s := tc.streaming
			s.KV = l.client.KV
			l.client.KV = &s
			count := 0
			var err error
			var at Attachment
			for at, err = range l.Attachments(t.Context(), "a", "") {
				if err != nil {
					break
				}
				if want := fmt.Sprintf("pvc-%06d", count); at.Volume != want {
					t.Fatalf("%s comes where %s is due", at.Volume, want)
				}
				count++
			}
			if !errors.Is(err, tc.ends) || err != nil && tc.ends == nil {
				t.Fatalf("the list ends with %v, want %v", err, tc.ends)
			}
			if tc.ends == nil && count != records {
				t.Errorf("%d records, want %d", count, records)
			}
			if s.streams != tc.streams {
				t.Errorf("%d streams, want %d", s.streams, tc.streams)
			}
			if streamed := s.chunks > 0; streamed != (can && !s.refuse) {
				t.Errorf("streamed: %v, by an etcd %s", streamed, status.Version)
			}
		})
	}
}

// Whoever leaves a list early leaves no goroutine behind, which TestMain looks for.
func TestList_StreamLeftEarly(t *testing.T) {
	l := openLedger(t)
	putRaw(t, l, pageRecords+pageRecords/2, func(i int) (string, string) {
		return l.keys.attachment("a", "node-1", fmt.Sprintf("pvc-%06d", i)), "{}"
	})
	count := 0
	for _, err := range l.Attachments(t.Context(), "a", "") {
		mustBe(t, err, nil)
		if count++; count > pageRecords {
			break
		}
	}
}
