package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// choice is a flag of a closed set of words.
type choice struct {
	value   *string
	allowed []string
}

// NewChoice is a flag that sets value to one of the allowed words. Until then it is
// fallback, which need not be one.
func NewChoice(value *string, fallback string, allowed ...string) pflag.Value {
	*value = fallback
	return &choice{value, allowed}
}

func (c *choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return fmt.Errorf("expected one of %s", strings.Join(c.allowed, ", "))
	}
	*c.value = s
	return nil
}

func (c *choice) Type() string { return strings.Join(c.allowed, "|") }

func (c *choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}
