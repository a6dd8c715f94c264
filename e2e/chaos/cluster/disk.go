package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// ErrNoFailpoints: the etcd binary was built without failpoints; make
// etcd-gofail builds one that has them.
var ErrNoFailpoints = errors.New("cluster: this etcd has no failpoints: use bin/etcd-gofail, of make etcd-gofail")

// slowPoint is reached before every sync of etcd's log that something waits for.
const slowPoint = "walBeforeSync"

// SlowDisk makes every sync of one member's log take Delay longer. It needs
// bin/etcd-gofail.
type SlowDisk struct {
	Who   Who
	Delay time.Duration
	target
}

func (f *SlowDisk) String() string {
	return "syncs of " + f.describe(f.Who) + " take " + f.Delay.String()
}

// Apply slows the member's disk down.
func (f *SlowDisk) Apply(ctx context.Context, c *Cluster) error {
	m, err := f.find(ctx, c, f.Who)
	if err != nil {
		return err
	}
	return m.SetFailpoint(ctx, slowPoint, fmt.Sprintf("sleep(%d)", f.Delay.Milliseconds()))
}

// Heal ends the delay.
func (f *SlowDisk) Heal(ctx context.Context, c *Cluster) error {
	if !f.applied {
		return nil
	}
	return c.members[f.member].SetFailpoint(ctx, slowPoint, "")
}

// SetFailpoint sets one of etcd's own failpoints, in gofail's terms such as
// sleep(200) or panic, until the member ends. Empty terms unset it.
func (m *Member) SetFailpoint(ctx context.Context, name, terms string) error {
	method := http.MethodPut
	if terms == "" {
		method = http.MethodDelete
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+m.gofail+"/"+name, strings.NewReader(terms))
	if err != nil {
		return err
	}
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		if m.PID() == 0 {
			return nil // and its failpoints are gone with it
		}
		return fmt.Errorf("%w (%s: %w)", ErrNoFailpoints, m.name, err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusNoContent && !(terms == "" && strings.Contains(string(text), "disabled")) {
		return fmt.Errorf("cluster: failpoint %s of %s: %s: %s", name, m.name, answer.Status, strings.TrimSpace(string(text)))
	}
	return nil
}
