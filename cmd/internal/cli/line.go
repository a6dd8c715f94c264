package cli

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// OneLine makes a text one line that does nothing to a terminal. The errors of
// several, which come a line each, are joined by semicolons.
func OneLine(text string) string {
	text = strings.Replace(text, "\n\nDid you mean this?\n\t", "; did you mean ", 1) // cobra's
	var parts []string
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "* ")
		if line != "" && !severalErrors.MatchString(line) {
			parts = append(parts, line)
		}
	}
	return Harmless(strings.Join(parts, "; "))
}

// severalErrors is what go-multierror begins a list with.
var severalErrors = regexp.MustCompile(`^\d+ errors? occurred:$`)

// Harmless keeps a text away from the terminal's controls: what does not print it
// writes as Go does. Backslashes it leaves alone, for names that are quoted in it
// are escaped already.
func Harmless(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		s = s[size:]
	}
	return b.String()
}
