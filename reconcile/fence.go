package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
	"unicode"

	"github.com/holdfast-storage/holdfast/state"
)

// Fencer cuts a node off from a volume at the storage. That a Node object is
// missing does not prove that the machine is off; a fencer makes sure of it.
//
// Fence returns nil once the node can no longer write to the volume, and only
// then may the removal go on. It is called again after a failure of its own or
// of the removal, so that fencing twice must be no error. It must end with ctx.
// Nothing here undoes a fence: a node that comes back is let in by whoever
// brings it back.
type Fencer interface {
	Fence(ctx context.Context, f Fencing) error
}

// Fencing is what a Fencer is told: the orphan, as JSON on the standard input
// of an ExecFencer.
type Fencing struct {
	Volume  string                `json:"volume"`
	Cluster string                `json:"cluster"`
	Node    string                `json:"node"`
	NodeUID string                `json:"nodeUID,omitempty"`
	Mode    state.Mode            `json:"mode"`
	Token   state.Token           `json:"token"`
	Reason  state.DepartureReason `json:"reason"`
	// Since is when the volume was attached, Departed when the node was first
	// seen to be gone: both by the clocks of who wrote them.
	Since    time.Time `json:"since"`
	Departed time.Time `json:"departed"`
}

func fencing(o Orphan, d state.Departure) Fencing {
	a := o.Attachment
	return Fencing{
		Volume: a.Volume, Cluster: a.Cluster, Node: a.Node, NodeUID: a.NodeUID, Mode: a.Mode, Token: a.Token,
		Reason: o.Reason, Since: a.Since, Departed: d.Since,
	}
}

// DefaultFenceTimeout is that of an ExecFencer.
const DefaultFenceTimeout = 30 * time.Second

const (
	// fenceOutput bounds what is kept of a command's standard error.
	fenceOutput = 4096
	// fenceLine bounds what of it goes into an error.
	fenceLine = 256
	// fenceDrain is how long the pipes of a command that was killed may stay
	// open: a child of its own may hold them.
	fenceDrain = time.Second
)

// ExecFencer runs a command for each orphan. The orphan is one line of JSON on
// the command's standard input, and exit status 0 lets the removal go on. No
// shell is involved; a name in the JSON may contain any character.
type ExecFencer struct {
	// Command is the program, looked up in PATH, and its arguments.
	Command []string
	// Timeout is after how long the command is killed; default 30 s. What it
	// has started itself is its own to end.
	Timeout time.Duration
}

// NewExecFencer checks the command and fills in the timeout. ErrInvalid.
func NewExecFencer(timeout time.Duration, command ...string) (*ExecFencer, error) {
	if len(command) == 0 || command[0] == "" {
		return nil, fmt.Errorf("%w fence command: expected a program", state.ErrInvalid)
	}
	if timeout < 0 {
		return nil, fmt.Errorf("%w fence timeout %s: expected a duration above zero", state.ErrInvalid, timeout)
	}
	if timeout == 0 {
		timeout = DefaultFenceTimeout
	}
	if _, err := exec.LookPath(command[0]); err != nil {
		return nil, fmt.Errorf("%w fence command %q: %w", state.ErrInvalid, command[0], err)
	}
	return &ExecFencer{Command: command, Timeout: timeout}, nil
}

// Fence runs the command and returns nil if it exits with status 0. An error
// carries the last line that the command wrote to its standard error.
func (e *ExecFencer) Fence(ctx context.Context, f Fencing) error {
	input, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("fencing volume %q: %w", f.Volume, err)
	}
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.Command[0], e.Command[1:]...)
	cmd.Stdin = bytes.NewReader(append(input, '\n'))
	said := &tail{limit: fenceOutput}
	cmd.Stderr = said
	cmd.WaitDelay = fenceDrain
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it exited with 0; a child of its own kept a pipe open
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("ended after %s: %w", e.Timeout, ctx.Err())
	}
	if line := said.lastLine(); line != "" {
		return fmt.Errorf("fence command %q for volume %q and node %s: %w: %s", e.Command[0], f.Volume, f.Node, err, line)
	}
	return fmt.Errorf("fence command %q for volume %q and node %s: %w", e.Command[0], f.Volume, f.Node, err)
}

// tail keeps the last bytes that are written to it.
type tail struct {
	limit int
	kept  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	p = p[max(0, len(p)-t.limit):]
	t.kept = append(t.kept[max(0, len(t.kept)+len(p)-t.limit):], p...)
	return n, nil
}

// lastLine is the last line that says something, fit for a log.
func (t *tail) lastLine() string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(t.kept), "?"))
	line := text[strings.LastIndexByte(text, '\n')+1:]
	line = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // also what turns the reading direction
			return ' '
		}
		return r
	}, line)
	if len(line) > fenceLine {
		line = strings.ToValidUTF8(line[:fenceLine], "") + "…"
	}
	return strings.TrimSpace(line)
}
