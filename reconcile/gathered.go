package reconcile

import (
	"strings"

	"github.com/hashicorp/go-multierror"
)

// gathered is errs as an error, nil where there is none. It reads as one line,
// as a line of a log does.
func gathered(errs *multierror.Error) error {
	if errs != nil {
		errs.ErrorFormat = oneLine
	}
	return errs.ErrorOrNil()
}

func oneLine(errs []error) string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}
