package model

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/anishathalye/porcupine"
)

// The search whose longest orders a picture shows is bounded: it keeps them all.
const (
	visualizeFor   = 30 * time.Second
	visualizeSteps = 20_000
)

// Visualize writes the history of one volume: for each segment between cuts the
// picture that porcupine draws, <dir>/<name>-<segment>.html, and beside them
// all its calls as JSON lines, <dir>/<name>.jsonl. The name is the volume's, as
// far as a file can have it. It returns the files' paths.
func (r *Report) Visualize(volume, dir string) ([]string, error) {
	partitions, ok := partitionsOf(r.history)[volume]
	if !ok {
		return nil, fmt.Errorf("no call of the history is about volume %q", volume)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, fileName(volume))
	files := []string{name + ".jsonl"}
	errs := []error{writeTo(files[0], func(w io.Writer) error { return writeLines(w, r.history, volume) })}
	for i, p := range partitions {
		if len(p.steps) == 0 {
			continue
		}
		path := fmt.Sprintf("%s-%d.html", name, i)
		files = append(files, path)
		model := (&search{partition: p, budget: visualizeSteps}).model()
		_, info := porcupine.CheckOperationsVerbose(model, p.operations(), visualizeFor)
		replay := &search{partition: p, budget: math.MaxInt}
		info.AddAnnotations(p.annotations())
		errs = append(errs, writeTo(path, func(w io.Writer) error { return porcupine.Visualize(replay.model(), info, w) }))
	}
	return files, errors.Join(errs...)
}

// annotations are the calls that no order has, because nobody knows whether
// they were carried out.
func (p *partition) annotations() []porcupine.Annotation {
	var out []porcupine.Annotation
	for _, c := range p.calls {
		if c.Result.Outcome != Unknown {
			continue
		}
		end := c.End
		if end == Never {
			end = c.Begin
		}
		out = append(out, porcupine.Annotation{
			Tag: "outcome unknown", Start: int64(c.Begin), End: int64(end),
			Description: fmt.Sprintf("client %d: %s", c.Client, c.Op), Details: c.String() + " " + c.Result.Err,
		})
	}
	return out
}

func fileName(volume string) string {
	name := []byte(volume)
	for i, b := range name {
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (b < '0' || b > '9') && b != '-' {
			name[i] = '_'
		}
	}
	return string(name)
}

// writeLines writes the calls about a volume and the ledger, one a line.
func writeLines(w io.Writer, h History, volume string) error {
	enc := json.NewEncoder(w)
	for _, c := range h.Calls {
		if c.Op.Volume != volume && c.Op.Volume != "" {
			continue
		}
		if err := enc.Encode(c); err != nil {
			return err
		}
	}
	return nil
}

func writeTo(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	return errors.Join(write(w), w.Flush(), f.Close())
}
