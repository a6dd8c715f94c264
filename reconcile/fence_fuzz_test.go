package reconcile

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// Of what a fence command writes a bounded tail is kept, and of that one line that
// is fit for a log.
func FuzzTail(f *testing.F) {
	for _, s := range []string{"", "one\ntwo\n", "\x1b[31mred\n", "a\x00b", "\xff\xfe", strings.Repeat("é", 300), strings.Repeat("x\n", 5000), "\u202eturned", "\r\n \n"} {
		f.Add([]byte(s), uint8(7))
	}
	f.Fuzz(func(t *testing.T, said []byte, chunk uint8) {
		whole, pieces := &tail{limit: fenceOutput}, &tail{limit: fenceOutput}
		if n, err := whole.Write(said); n != len(said) || err != nil {
			t.Fatalf("%d of %d bytes are taken, %v", n, len(said), err)
		}
		for rest := said; len(rest) > 0; {
			n := min(len(rest), int(chunk)+1)
			_, _ = pieces.Write(rest[:n])
			rest = rest[n:]
		}
		line := whole.lastLine()
		if other := pieces.lastLine(); line != other || len(whole.kept) > fenceOutput {
			t.Errorf("%q in one piece, %q in several; %d bytes kept", line, other, len(whole.kept))
		}
		if len(line) > fenceLine+len("…") || !utf8.ValidString(line) {
			t.Errorf("a line of %d bytes: %q", len(line), line)
		}
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Errorf("%q is in a line: %q", r, line)
			}
		}
	})
}
