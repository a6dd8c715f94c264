package statetest

import (
	"encoding/binary"
	"path"
	"slices"

	"golang.org/x/net/http2/hpack"
)

// The little of HTTP/2 that it takes to tell a unary call and its answer from
// all else that passes between an etcd and its client.
const (
	clientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameHeader   = 9

	frameData         = 0x0
	frameHeaders      = 0x1
	frameWindowUpdate = 0x8
	frameContinuation = 0x9

	flagEndStream = 0x1
	flagPadded    = 0x8
	flagPriority  = 0x20
)

type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// frames cuts a stream of bytes into frames, whatever pieces it comes in.
type frames struct{ pending []byte }

func (f *frames) feed(chunk []byte) []frame {
	f.pending = append(f.pending, chunk...)
	var out []frame
	for len(f.pending) >= frameHeader {
		length := int(f.pending[0])<<16 | int(f.pending[1])<<8 | int(f.pending[2])
		if len(f.pending) < frameHeader+length {
			break
		}
		out = append(out, frame{
			kind:    f.pending[3],
			flags:   f.pending[4],
			stream:  binary.BigEndian.Uint32(f.pending[5:]) &^ (1 << 31),
			payload: f.pending[frameHeader : frameHeader+length : frameHeader+length],
		})
		f.pending = f.pending[frameHeader+length:]
	}
	return out
}

// calls follows the calls of one connection. Its two methods are called from
// the two directions' goroutines, with the proxy's lock held.
type calls struct {
	requests, answers frames
	preface           int // bytes of it still to come
	headers           *hpack.Decoder
	path              string            // of the header block being read
	methods           map[uint32]string // of calls whose request is not complete
	doomed            map[uint32]bool   // calls whose answer is to be lost
}

func newCalls() *calls {
	c := &calls{preface: len(clientPreface), methods: make(map[uint32]string), doomed: make(map[uint32]bool)}
	c.headers = hpack.NewDecoder(4096, func(field hpack.HeaderField) {
		if field.Name == ":path" {
			c.path = field.Value
		}
	})
	return c
}

// request takes bytes on their way to the server. It calls complete for every
// unary request that ends in them, and dooms the answer if that returns true.
func (c *calls) request(chunk []byte, complete func(method string) bool) {
	skip := min(c.preface, len(chunk))
	c.preface -= skip
	for _, f := range c.requests.feed(chunk[skip:]) {
		switch f.kind {
		case frameHeaders, frameContinuation:
			// Every block must be decoded: each may refer to the ones before.
			if _, err := c.headers.Write(f.block()); err != nil {
				return
			}
			c.methods[f.stream] = path.Base(c.path)
		}
		if (f.kind == frameData || f.kind == frameHeaders) && f.flags&flagEndStream != 0 {
			method := c.methods[f.stream]
			delete(c.methods, f.stream)
			if complete(method) {
				c.doomed[f.stream] = true
			}
		}
	}
}

// answer takes bytes on their way to the client, and tells how many doomed
// answers begin in them. A window update is none: it only says that the
// request's bytes have been read.
func (c *calls) answer(chunk []byte) (lost int) {
	for _, f := range c.answers.feed(chunk) {
		if c.doomed[f.stream] && f.kind != frameWindowUpdate {
			delete(c.doomed, f.stream)
			lost++
		}
	}
	return lost
}

// block is the header block in a HEADERS or CONTINUATION frame.
func (f frame) block() []byte {
	block, padding := f.payload, 0
	if f.kind == frameContinuation {
		return block
	}
	if f.flags&flagPadded != 0 && len(block) > 0 {
		padding, block = int(block[0]), block[1:]
	}
	if f.flags&flagPriority != 0 && len(block) >= 5 {
		block = block[5:]
	}
	return block[:max(0, len(block)-padding)]
}

// losing counts down the answers that are still to be lost.
type losing struct {
	left    int
	methods []string // empty: any
	lost    int
}

func (l *losing) take(method string) bool {
	if l.left == 0 || len(l.methods) > 0 && !slices.Contains(l.methods, method) {
		return false
	}
	l.left--
	return true
}
