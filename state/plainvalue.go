package state

import (
	"bytes"
	"strconv"
)

// plainAttachment decodes an attachment's value that has the very form in which
// encode writes it, names without escapes, which is all but every one: a cluster
// that starts decodes a million. It says false of any other value, right or wrong,
// and encoding/json decides what that means. FuzzPlainAttachment compares the two.
func plainAttachment(value []byte, v *attachmentValue) bool {
	if len(value) > maxRecordBytes {
		return false
	}
	r := plainReader{rest: value}
	var out attachmentValue
	mode := r.text(`{"mode":"`)
	switch string(mode) {
	case string(Exclusive):
		out.Mode = Exclusive
	case string(Shared):
		out.Mode = Shared
	default:
		return false
	}
	if r.next(`,"nodeUID":"`) {
		out.NodeUID = string(r.text(""))
	}
	out.Epoch = uint16(r.number(`,"epoch":`, 16))
	if since := r.quoted(`,"since":`); r.failed || out.Since.UnmarshalJSON(since) != nil {
		return false
	}
	if r.next(`,"token":`) {
		out.Token = Token(r.number("", 64))
	}
	if !r.next("}") || r.failed || len(r.rest) > 0 {
		return false
	}
	*v = out
	return true
}

// plainReader takes a value apart from the front. Once it has failed, what it
// returns means nothing.
type plainReader struct {
	rest   []byte
	failed bool
}

// next passes over what the rest begins with, or stays where it is.
func (r *plainReader) next(what string) bool {
	if len(r.rest) < len(what) || string(r.rest[:len(what)]) != what {
		return false
	}
	r.rest = r.rest[len(what):]
	return true
}

// text is what stands between lead, the opening quote included, and the closing
// one. It takes printable ASCII only: in that, and without a backslash, a JSON
// text is what it says.
func (r *plainReader) text(lead string) []byte {
	if !r.next(lead) {
		r.failed = true
		return nil
	}
	end := bytes.IndexByte(r.rest, '"')
	if end < 0 {
		r.failed = true
		return nil
	}
	text := r.rest[:end]
	for _, c := range text {
		if c < ' ' || c > '~' || c == '\\' {
			r.failed = true
		}
	}
	r.rest = r.rest[end+1:]
	return text
}

// quoted is a text with its quotes.
func (r *plainReader) quoted(lead string) []byte {
	if !r.next(lead) {
		r.failed = true
		return nil
	}
	from := r.rest
	text := r.text(`"`)
	return from[:min(len(from), len(text)+len(`""`))]
}

// number is a whole number of at most so many bits, written as encode does.
func (r *plainReader) number(lead string, bits int) uint64 {
	if !r.next(lead) {
		r.failed = true
		return 0
	}
	n := 0
	for n < len(r.rest) && r.rest[n] >= '0' && r.rest[n] <= '9' {
		n++
	}
	digits := r.rest[:n]
	r.rest = r.rest[n:]
	v, err := strconv.ParseUint(string(digits), 10, bits)
	if err != nil || n > 1 && digits[0] == '0' {
		r.failed = true
	}
	return v
}
