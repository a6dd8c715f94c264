package reconcile

import (
	"errors"
	"io"
	"testing"

	"github.com/hashicorp/go-multierror"
)

func TestGathered(t *testing.T) {
	if err := gathered(nil); err != nil {
		t.Errorf("of nothing: %v", err)
	}
	// What was gathered before is a part like any other.
	inner := gathered(multierror.Append(nil, errors.New("a"), io.EOF))
	err := gathered(multierror.Append(nil, inner, errors.New("c")))
	if got := err.Error(); got != "a; EOF; c" {
		t.Errorf("it reads %q, want one line", got)
	}
	if !errors.Is(err, io.EOF) {
		t.Error("what it is made of cannot be found in it")
	}
}
