package state

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// hostile is a ledger of two clusters under their roles, one of which does what
// etcd lets it do and not what Holdfast would. SECURITY.md says what comes of it.
type hostile struct {
	*roleWorld
	keys keys
	ops  *Ledger
	b    *Cluster         // the one that is to come to no harm
	evil *clientv3.Client // under the role of cluster a
}

func newHostile(t *testing.T, edit ...func(*Config)) *hostile {
	t.Helper()
	h := &hostile{roleWorld: newRoleWorld(t), keys: newKeys("/p/")}
	h.ops = h.ledger("/p/")
	for _, name := range []string{"a", "b"} {
		list, err := ClusterPermissions("/p/", name)
		mustBe(t, err, nil)
		h.user(name, list)
	}
	cfg := h.config("b", "/p/")
	for _, e := range edit {
		e(&cfg)
	}
	l, err := Open(t.Context(), cfg)
	mustBe(t, err, nil)
	t.Cleanup(func() { mustBe(t, l.Close(), nil) })
	h.b = asCluster(t, l, "b")
	h.evil, err = clientv3.New(clientv3.Config{Endpoints: h.etcd.Endpoints(), Username: "a", Password: "a", Logger: zap.NewNop()})
	mustBe(t, err, nil)
	t.Cleanup(func() { _ = h.evil.Close() })
	return h
}

// can and cannot try something as the hostile cluster.
func (h *hostile) can(what string, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Errorf("%s: %v: SECURITY.md says that a hostile cluster can", what, err)
	}
}

func (h *hostile) cannot(what string, err error) {
	h.t.Helper()
	if _, mapped := classify(err); err == nil || !errors.Is(mapped, ErrBeyondRole) {
		h.t.Errorf("%s: %v: SECURITY.md says that a hostile cluster cannot", what, err)
	}
}

func (h *hostile) put(key, value string, opts ...clientv3.OpOption) {
	h.t.Helper()
	_, err := h.evil.Put(h.t.Context(), key, value, opts...)
	h.can("put "+key[:min(len(key), 60)], err)
}

// What stands under another cluster's name is out of reach by every way into etcd:
// also as a branch that is not taken, nested, or a range around it.
func TestHostileCluster_CannotTouchWhatIsNamedAfterAnother(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	attached(t, h.b, "v", "n1")
	lead(t, h.b)
	ctx, own := t.Context(), clientv3.OpGet(h.keys.attachment("a", "n1", "v"))
	for _, theirs := range []string{h.keys.attachment("b", "n1", "v"), h.keys.cluster("b"), h.keys.departure("b", "n1"), h.keys.quarantine("b", "n1"),
		h.keys.election("b") + "/0", h.keys.journal("b", "x"), h.keys.pause("b")} {
		for what, op := range map[string]clientv3.Op{
			"put": clientv3.OpPut(theirs, "{}"), "delete": clientv3.OpDelete(theirs), "get": clientv3.OpGet(theirs),
			"delete around": clientv3.OpDelete(h.keys.root, clientv3.WithRange(rangeEnd(h.keys.root))),
		} {
			never := clientv3.Compare(clientv3.CreateRevision(h.keys.ledger()), "=", -1)
			_, err := h.evil.Txn(ctx).Then(own, clientv3.OpTxn(nil, []clientv3.Op{op}, nil)).Commit()
			h.cannot(what+" nested "+theirs, err)
			_, err = h.evil.Txn(ctx).Then(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpTxn([]clientv3.Cmp{never}, []clientv3.Op{op}, nil)}, nil)).Commit()
			h.cannot(what+" in a branch not taken "+theirs, err)
		}
		_, err := h.evil.Txn(ctx).Then(clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Value(theirs), ">", "")}, nil, nil)).Commit()
		h.cannot("compare nested "+theirs, err)
	}
	mustHold(t, h.ops, "v", StateAttached, Place{"b", "n1"})
}

// What is an administrator's of etcd is not a cluster's.
func TestHostileCluster_CannotAdministerEtcd(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	attached(t, h.b, "v", "n1")
	ctx, endpoint := t.Context(), h.etcd.Endpoint()
	for what, try := range map[string]func() error{
		"compact":          func() error { _, err := h.evil.Compact(ctx, h.etcd.Revision(t)); return err },
		"list leases":      func() error { _, err := h.evil.Leases(ctx); return err },
		"defragment":       func() error { _, err := h.evil.Defragment(ctx, endpoint); return err },
		"hash":             func() error { _, err := h.evil.HashKV(ctx, endpoint, 0); return err },
		"move the leader":  func() error { _, err := h.evil.MoveLeader(ctx, 1); return err },
		"remove a member":  func() error { _, err := h.evil.MemberRemove(ctx, 1); return err },
		"list users":       func() error { _, err := h.evil.UserList(ctx); return err },
		"change passwords": func() error { _, err := h.evil.UserChangePassword(ctx, "b", "x"); return err },
		"look at roles":    func() error { _, err := h.evil.RoleGet(ctx, "b"); return err },
		"grant itself":     func() error { _, err := h.evil.UserGrantRole(ctx, "a", "b"); return err },
		"switch auth off":  func() error { _, err := h.evil.AuthDisable(ctx); return err },
		"raise an alarm": func() error {
			_, err := pb.NewMaintenanceClient(h.evil.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE})
			return err
		},
		"take a snapshot": func() error {
			r, err := h.evil.Snapshot(ctx)
			if err == nil {
				_, err = r.Read(make([]byte, 1))
			}
			return err
		},
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Holds, detachments and migrations are ordered by volume, so that an attach can
// compare that nobody holds it: whoever attaches can write all of them. A hostile
// cluster can take a volume that way. It stands in the records who has it, and the
// holder that was robbed ends nothing of the new one's.
func TestHostileCluster_CanEndAHold(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	was := attached(t, h.b, "v", "n1")
	_, err := h.evil.Delete(t.Context(), h.keys.hold("v", Exclusive, "b", "n1"))
	h.can("delete a hold", err)
	mustHold(t, h.ops, "v", StateFree)
	l, err := Open(t.Context(), h.config("a", "/p/"))
	mustBe(t, err, nil)
	defer func() { mustBe(t, l.Close(), nil) }()
	attached(t, asCluster(t, l, "a"), "v", "n9")
	_, err = h.b.Attach(t.Context(), AttachRequest{Volume: "v", Node: "n1"})
	mustBe(t, err, ErrConflict)
	_, _ = h.b.Detach(t.Context(), DetachRequest{Volume: "v", Node: "n1", Token: was.Token})
	mustHold(t, h.ops, "v", StateAttached, Place{"a", "n9"})
}

// It can put holds in another's name, and keys that nobody knows: the volumes are
// held, and nothing is removed for it. No attachment stands behind them, so that
// they are seen to be lapsed, and an operator ends them.
func TestHostileCluster_CanBlockAVolume(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	h.put(h.keys.hold("blocked", Exclusive, "b", "n1"), `{"epoch":65535}`)
	h.put(h.keys.join(kindHold, "blocked-too", "z"), "")
	h.put(h.keys.detachment("in-grace", Exclusive, "a", "n1"), `{"graceMs":9223372036854775807,"at":"9999-01-01T00:00:00Z"}`)
	attach := func(volume string) error {
		_, err := h.b.Attach(t.Context(), AttachRequest{Volume: volume, Node: "n2"})
		return err
	}
	mustBe(t, attach("blocked"), ErrConflict)
	mustBe(t, attach("blocked-too"), ErrConflict)
	mustBe(t, attach("in-grace"), ErrInGrace)
	mustHold(t, h.ops, "blocked", StateLapsed, Place{"b", "n1"})
	got, err := h.ops.Evict(t.Context(), "b", read(t, h.ops, "blocked").Holds, "op", "why")
	mustBe(t, err, nil)
	if len(got) != 1 || !got[0].Ended {
		t.Errorf("an operator evicts: %+v", got)
	}
	attached(t, h.b, "another", "n2")
}

// Leases of what all may write can be renewed and revoked by all: graces last
// longer or shorter. Those that an attachment stands on cannot; and one that is
// empty, and that somebody has put a key on, is given up.
func TestHostileCluster_Leases(t *testing.T) {
	t.Parallel()
	h := newHostile(t, func(c *Config) { c.GracePeriod = time.Hour })
	attached(t, h.b, "v", "n1")
	attachment := read(t, h.ops, "v").Attachments[0]
	_, err := h.evil.Revoke(t.Context(), clientv3.LeaseID(attachment.Lease))
	h.cannot("revoke an attachment's lease", err)
	_, err = h.evil.KeepAliveOnce(t.Context(), clientv3.LeaseID(attachment.Lease))
	h.cannot("renew an attachment's lease", err)
	_, err = h.evil.Put(t.Context(), h.keys.hold("x", Exclusive, "a", "n1"), "", clientv3.WithLease(clientv3.LeaseID(attachment.Lease)))
	h.cannot("put under an attachment's lease", err)

	grace := detached(t, h.b, "v", "n1")
	_, err = h.evil.KeepAliveOnce(t.Context(), clientv3.LeaseID(grace.Lease))
	h.can("renew a grace", err)
	// The session's lease is empty now, and the next attach is to go under it.
	h.put(h.keys.attachment("a", "n1", "x"), "", clientv3.WithLease(clientv3.LeaseID(attachment.Lease)))
	_, err = h.b.Attach(t.Context(), AttachRequest{Volume: "w", Node: "n1"})
	mustBe(t, err, ErrBeyondRole)
	attached(t, h.b, "w", "n1")
	_, err = h.evil.Revoke(t.Context(), clientv3.LeaseID(grace.Lease))
	h.can("revoke a grace", err)
	mustHold(t, h.ops, "w", StateAttached, Place{"b", "n1"})
}

// Whatever it puts where others read: their lists end, in bounded memory, their
// errors are short and without control characters, and their volumes are served.
func TestHostileCluster_PoisonedRecords(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	attached(t, h.b, "v", "n1")
	huge := strings.Repeat("\x1b[31m\n", 1<<17) // 768 KiB
	text := strings.Repeat(`\u001b`, 1<<17)
	const many = 100 // more than maxAnswerBytes
	for i := range many {
		h.put(h.keys.hold(fmt.Sprintf("huge-%d", i), Exclusive, "a", "n1"), huge)
	}
	h.put(h.keys.hold("by", Exclusive, "b", "n1"), `{"epoch":1,"by":"`+text+`"}`)
	h.put(h.keys.hold("epoch", Shared, "b", "n1"), `{"epoch":65535}`)
	h.put(h.keys.hold(strings.Repeat("v", 100_000), Exclusive, "a", "n1"), "{}")
	h.put(h.keys.hold("strange", Exclusive, "B\x1b[31m", "../../n"), "{}")
	h.put(h.keys.join(kindHold, "raw")+"/\x1b[31m\n"+strings.Repeat("k", 100_000), "")
	h.put(h.keys.migration("v"), `{"source":{"cluster":"\u001b","node":"../x"},"target":{"cluster":"`+text+`","node":"n"}}`)
	h.put(h.keys.detachment("time", Exclusive, "a", "n1"), `{"at":"`+text+`"}`)

	seen := 0
	for hold, err := range h.ops.Holds(t.Context(), HoldFilter{}) {
		mustBe(t, err, nil)
		seen++
		if hold.Broken != nil {
			mustBePlain(t, hold.Broken.Error())
		}
		if len(hold.By) > maxRecordBytes || ValidateVolume(hold.Volume) != nil {
			t.Errorf("a hold of %d bytes by %d bytes", len(hold.Volume), len(hold.By))
		}
	}
	if seen != many+3 {
		t.Errorf("%d holds are listed, want %d", seen, many+3)
	}
	mustBe(t, errors.Join(drain(h.ops.Detachments(t.Context(), "")), drain(h.ops.Migrations(t.Context())), drain(h.ops.HoldKeys(t.Context(), "")),
		watchAll(t.Context(), h.ops, ScopeAll())), nil)
	for _, volume := range []string{"huge-1", "by", "epoch", "raw", "strange", "time", "v"} {
		_, err := h.b.Attach(t.Context(), AttachRequest{Volume: volume, Node: "n2"})
		if err == nil {
			t.Errorf("%s is attached", volume)
			continue
		}
		mustBePlain(t, err.Error())
	}
	if m := read(t, h.ops, "v").Migration; m == nil || m.Broken == nil || m.Target != (Place{}) {
		t.Errorf("a migration between no places: %+v", m)
	}
	attached(t, h.b, "fine", "n2")
	detached(t, h.b, "v", "n1")
}

// It can fill etcd up: then nobody attaches or detaches. What is attached stays so,
// for renewing takes no space; an operator frees it.
func TestHostileCluster_CanFillEtcd(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	attached(t, h.b, "v", "n1")
	h.etcd.AlarmNoSpace(t)
	_, err := h.b.Attach(t.Context(), AttachRequest{Volume: "w", Node: "n1"})
	mustBe(t, err, ErrNoSpace)
	_, err = h.b.KeepAlive(t.Context(), read(t, h.ops, "v").Attachments[0].Lease)
	mustBe(t, err, nil)
	h.etcd.DisarmNoSpace(t)
	attached(t, h.b, "w", "n1")
}

// It can say that it has noticed a restore: then nobody attaches until an operator
// has looked. Nothing is taken away, and it can say so in its own name alone.
func TestHostileCluster_CanFreeze(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	attached(t, h.b, "v", "n1")
	h.put(h.keys.freeze("a"), strings.Repeat("\x1b", 100_000))
	_, err := h.evil.Put(t.Context(), h.keys.freeze("b"), "{}")
	h.cannot("freeze in another's name", err)
	_, err = h.b.Attach(t.Context(), AttachRequest{Volume: "w", Node: "n1"})
	mustBe(t, err, ErrFrozen)
	mustBePlain(t, err.Error())
	mustHold(t, h.ops, "v", StateAttached, Place{"b", "n1"})
	detached(t, h.b, "v", "n1")
	// What does not decode is not accepted unread: the error names it, and the way out.
	err = h.ops.Unfreeze(t.Context(), "op", true)
	mustBe(t, err, ErrConflict)
	mustBePlain(t, err.Error())
	mustName(t, err, h.keys.freeze("a"), `cluster "a"`, "--epoch")
	mustBe(t, h.ops.UnfreezeTo(t.Context(), "op", 0), ErrInvalid)
	mustBe(t, h.ops.UnfreezeTo(t.Context(), "op", 1), nil)
	// Accepted, it leaves nothing of its own in the ledger's record.
	for _, known := range []string{"", strings.Repeat("<", 50_000), strings.Repeat("x", 60_000)} {
		h.put(h.keys.freeze("a"), `{"by":"a","why":"b","known":{"ledger":"`+known+`"}}`)
		mustBe(t, h.ops.Unfreeze(t.Context(), "op", true), nil)
	}
	if rec, err := h.ops.Record(t.Context()); err != nil || len(rec.Formerly) != 0 {
		t.Errorf("the record has %d former ledgers, %v", len(rec.Formerly), err)
	}
	attached(t, h.b, "w", "n1")
	// Its words are nobody's log.
	h.put(h.keys.freeze("a"), encode(freezeValue{By: "\x1b[31m", Why: strings.Repeat("w\n\x1b", 10_000)}))
	_, err = h.b.Attach(t.Context(), AttachRequest{Volume: "x", Node: "n1"})
	mustBe(t, err, ErrRestoreNoticed)
	mustBePlain(t, err.Error())
}

// An epoch that nobody had would use up all there are. It is not believed, and the
// operator goes on with one of his own.
func TestHostileCluster_CannotUseUpTheEpochs(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	rec, err := h.ops.Record(t.Context())
	mustBe(t, err, nil)
	claim := func(epoch uint16) {
		h.put(h.keys.freeze("a"), encode(freezeValue{By: "a", Why: "hm", Known: Known{LedgerUUID: rec.UUID, Epoch: epoch}}))
	}
	for _, epoch := range []uint16{epochLeap + 1, math.MaxUint16 - 1, math.MaxUint16} {
		claim(epoch)
		err := h.ops.Unfreeze(t.Context(), "op", true)
		mustBe(t, err, ErrConflict)
		mustName(t, err, `cluster "a"`, strconv.Itoa(int(epoch)), "--epoch")
	}
	mustBe(t, h.ops.UnfreezeTo(t.Context(), "op", 3), nil)
	if got := attached(t, h.b, "v", "n1").Token.Epoch(); got != 3 {
		t.Errorf("the epoch is %d, want the operator's 3", got)
	}
	claim(5)
	mustBe(t, h.ops.UnfreezeTo(t.Context(), "op", 3), ErrInvalid)
	mustBe(t, h.b.FreezeRestored(t.Context(), Known{LedgerUUID: rec.UUID, Epoch: 4}, "older"), nil)
	claim(math.MaxUint16)
	// Past the one that is not believed, and not below the one that is.
	err = h.ops.UnfreezeTo(t.Context(), "op", 4)
	mustBe(t, err, ErrInvalid)
	mustName(t, err, `cluster "b"`, "is 4")
	claim(5)
	mustBe(t, h.ops.Unfreeze(t.Context(), "op", true), nil)
	if got := attached(t, h.b, "w", "n1").Token.Epoch(); got != 6 {
		t.Errorf("the epoch is %d, want 6, one above the freeze's", got)
	}
}

func mustName(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error %v does not name %s", err, part)
		}
	}
}
