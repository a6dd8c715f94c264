package cli

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/go-multierror"
)

func TestOneLine(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	for in, want := range map[string]string{
		"one\n  two\n":                               "one; two",
		errors.Join(one, two).Error():                "one; two",
		multierror.Append(one, two).Error():          "one; two",
		"unknown\n\nDid you mean this?\n\tknown\n\n": "unknown; did you mean known",
		"a \x1b[31mred\x07 name":                     `a \x1b[31mred\a name`,
		"no text: \xff":                              `no text: \xff`,
		fmt.Sprintf("volume %q", "a\nb"):             `volume "a\nb"`,
	} {
		if got := OneLine(in); got != want {
			t.Errorf("OneLine(%q) = %q, want %q", in, got, want)
		}
	}
}
