package state

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// tokenTTL is how long a login lasts in the tests that wait for its end.
const tokenTTL = time.Second

// Every kind of request goes on when the token it was sent with has expired: a
// process that has been idle logs in again, by itself.
func TestTokenRenewal(t *testing.T) {
	t.Parallel()
	etcd := statetest.Start(t, statetest.WithAuthTokenTTL(tokenTTL))
	list, err := ClusterPermissions("/p/", "a")
	mustBe(t, err, nil)
	w := &roleWorld{t: t, etcd: etcd}
	etcd.EnableAuth(t)
	w.root = etcd.Client(t)
	w.user("app", list)
	openAt(t, etcd.Endpoints(), "/p/", func(c *Config) { c.Username, c.Password = statetest.RootUser, statetest.RootPassword })
	l := openAt(t, etcd.Endpoints(), "/p/", func(c *Config) { c.Username, c.Password = "app", "app" })
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "n1")
	ld := lead(t, c)
	seen := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	watch := make(chan error, 1)
	go func() {
		watch <- l.Watch(ctx, ScopeAttachments("a"), func(b Batch) error {
			for _, e := range b.Events {
				seen <- e.Record.(Attachment).Volume
			}
			return nil
		})
	}()
	saw(t, seen, "pvc-1")
	at := read(t, l, "pvc-1").Attachments[0]

	for name, do := range map[string]func() error{
		"attach":     func() error { _, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-2", Node: "n1"}); return err },
		"detach":     func() error { _, err := c.Detach(t.Context(), DetachRequest{Volume: "pvc-2", Node: "n1"}); return err },
		"read":       func() error { _, err := l.Volume(t.Context(), "pvc-1"); return err },
		"list":       func() error { return drain(l.Holds(t.Context(), HoldFilter{})) },
		"keep alive": func() error { _, err := c.KeepAlive(t.Context(), at.Lease); return err },
		"time left":  func() error { _, err := l.TimeLeft(t.Context(), at.Lease); return err },
		"lead": func() error {
			_, err := ld.Depart(t.Context(), Departure{Node: "gone", Reason: NodeGone}, 0)
			return err
		},
		"follow":     func() error { return watchAll(t.Context(), l, ScopeHolds("")) },
		"check role": func() error { return c.CheckRole(t.Context()) },
	} {
		w.forget("app")
		if err := do(); err != nil && !(name == "detach" && errors.Is(err, ErrNotFound)) {
			t.Errorf("%s after the token has expired: %v", name, err)
		}
	}
	<-time.After(3 * tokenTTL) // nothing tells that a token has expired but its use
	attached(t, c, "pvc-3", "n1")
	saw(t, seen, "pvc-3") // through the watch that was there all along
	select {
	case <-ld.Done():
		t.Error("the lead was lost")
	default:
	}
	cancel()
	mustBe(t, <-watch, context.Canceled)
}

// forget makes etcd forget the tokens of a user whose password is its name, as it
// does when they expire.
func (w *roleWorld) forget(user string) {
	w.t.Helper()
	_, err := w.root.UserChangePassword(w.t.Context(), user, user)
	mustBe(w.t, err, nil)
}

// A password that is replaced in its file, and then in etcd, is taken by the next
// login; a file that is ahead, or that somebody has emptied, is no reason to stop.
func TestRotatedPassword(t *testing.T) {
	t.Parallel()
	w := newRoleWorld(t)
	list, err := ClusterPermissions("/p/", "a")
	mustBe(t, err, nil)
	w.user("app", list)
	w.ledger("/p/")
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) { t.Helper(); mustBe(t, os.WriteFile(file, []byte(text), 0o600), nil) }
	change := func(password string) {
		t.Helper()
		_, err := w.root.UserChangePassword(t.Context(), "app", password)
		mustBe(t, err, nil)
	}
	write("app\n")
	l := openAt(t, w.etcd.Endpoints(), "/p/", func(c *Config) { c.Username, c.PasswordFile = "app", file })
	c := asCluster(t, l, "a")
	attached(t, c, "first", "n1")

	write("next\n") // ahead of etcd
	w.forget("app")
	attached(t, c, "ahead", "n1")
	change("next")
	attached(t, c, "next", "n1")
	write("")
	change("next")
	attached(t, c, "emptied", "n1")
	mustBe(t, os.Remove(file), nil)
	change("next")
	attached(t, c, "removed", "n1")

	change("another")
	_, err = c.Attach(t.Context(), AttachRequest{Volume: "refused", Node: "n1"})
	if !errors.Is(err, ErrPermission) || strings.Contains(err.Error(), "next") {
		t.Errorf("with a password that etcd does not know: %v", err)
	}
	write("another\n")
	attached(t, c, "refused", "n1")
}

func TestReadPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	for text, want := range map[string]string{"p\n": "p", " p \r\n": " p ", "p\nq": "p\nq", "": "", "\n": "", strings.Repeat("canary", 1000): ""} {
		mustBe(t, os.WriteFile(file, []byte(text), 0o600), nil)
		got, err := ReadPassword(file)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.10q: %.10q, %v", text, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("the error gives the password away: %v", err)
		}
	}
}
