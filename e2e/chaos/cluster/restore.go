package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrNoSnapshot: a restore has no snapshot to go back to.
var ErrNoSnapshot = errors.New("cluster: no snapshot has been taken")

// Snapshot is etcd as it stood at one time of the run.
type Snapshot struct {
	Path string
	// Revision is at least etcd's when the snapshot was begun, at Since.
	Revision     int64
	Since, Until time.Duration
}

// Snapshot takes a snapshot of the leader. The latest is what Restore goes
// back to.
func (c *Cluster) Snapshot(ctx context.Context) (Snapshot, error) {
	var s Snapshot
	err := c.do(ctx, "take a snapshot", func(ctx context.Context, client *clientv3.Client) error {
		s = Snapshot{Since: c.opts.Now()}
		now, err := client.Get(ctx, "snapshot", clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		s.Revision = now.Header.Revision
		s.Path, err = c.download(ctx, client)
		s.Until = c.opts.Now()
		return err
	})
	if err != nil {
		return Snapshot{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = s
	return s, nil
}

func (c *Cluster) download(ctx context.Context, client *clientv3.Client) (string, error) {
	content, err := client.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	defer content.Close()
	file, err := os.CreateTemp(c.opts.Dir, "snapshot-*.db")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(file, content)
	return file.Name(), errors.Join(err, file.Close())
}

// TakeSnapshot is Cluster.Snapshot as a fault: by itself it does no harm.
type TakeSnapshot struct{}

func (TakeSnapshot) String() string { return "take a snapshot" }

// Apply takes the snapshot.
func (TakeSnapshot) Apply(ctx context.Context, c *Cluster) error {
	_, err := c.Snapshot(ctx)
	return err
}

// Heal has nothing to take back.
func (TakeSnapshot) Heal(context.Context, *Cluster) error { return nil }

// Restore takes all members back to a snapshot, as an operator does: kill all
// of them, etcdutl snapshot restore, start them. What was written since is gone.
type Restore struct {
	// From is the snapshot; nil: the latest.
	From *Snapshot
	// Bump is how far the revision is moved on, so that watches notice; it
	// marks everything before compacted. 0: the revision goes back.
	Bump uint64
	// NewToken gives the restored cluster another token, and with that another
	// cluster ID. Otherwise its ID is what it was.
	NewToken bool
}

func (f *Restore) String() string {
	text := "restore a snapshot"
	if f.From != nil {
		text += fmt.Sprintf(" of revision %d", f.From.Revision)
	}
	if f.Bump > 0 {
		text += fmt.Sprintf(", revision bumped by %d", f.Bump)
	}
	if f.NewToken {
		text += ", under another cluster ID"
	}
	return text
}

// Apply restores the snapshot, starts the members, and returns once they are
// healthy. The users are as the snapshot has them.
func (f *Restore) Apply(ctx context.Context, c *Cluster) error {
	from, round := f.begin(c)
	if from.Path == "" {
		return ErrNoSnapshot
	}
	for _, m := range c.members {
		m.Kill()
	}
	for _, m := range c.members {
		data := c.path(m.name + "-restored-" + strconv.Itoa(round))
		if err := f.run(ctx, c, m, from.Path, data); err != nil {
			return err
		}
		if err := m.refound(data); err != nil {
			return err
		}
	}
	return c.startAll(ctx)
}

func (f *Restore) begin(c *Cluster) (from Snapshot, round int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from = c.last
	if f.From != nil {
		from = *f.From
	}
	if f.NewToken && from.Path != "" {
		c.token = newToken()
	}
	c.restores++
	return from, c.restores
}

func (f *Restore) run(ctx context.Context, c *Cluster, m *Member, snapshot, data string) error {
	args := []string{
		"snapshot", "restore", snapshot, "--data-dir=" + data, "--name=" + m.name,
		"--initial-cluster=" + c.initial(), "--initial-advertise-peer-urls=" + m.proxy.url(),
		"--initial-cluster-token=" + c.currentToken(),
	}
	if f.Bump > 0 {
		args = append(args, "--mark-compacted", "--bump-revision="+strconv.FormatUint(f.Bump, 10))
	}
	output, err := exec.CommandContext(ctx, c.opts.Etcdutl, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cluster: %s restores %s: %w: %s", m.name, filepath.Base(snapshot), err, output)
	}
	return nil
}

// Heal starts what does not run, where Apply has failed.
func (f *Restore) Heal(ctx context.Context, c *Cluster) error { return c.startAll(ctx) }
