package report

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/holdfast-storage/holdfast/bench"
)

// JSON writes a result as it is: fields are added in later versions, never renamed.
func JSON(w io.Writer, r *bench.Result) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}
