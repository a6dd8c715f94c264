package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// MigrateRequest asks for a window in which the volume of an exclusive hold
// may have a second one.
type MigrateRequest struct {
	Volume string
	// Source is the node of this cluster that holds the volume; SourceToken its
	// hold's. Without the token the hold is read first.
	Source      string
	SourceToken Token
	// Target is the node that gets the second hold. An empty cluster is the own one.
	Target    Place
	TargetUID string
	// Window is the window's length; 0 means Config.MigrationWindow.
	Window time.Duration
}

func (r *MigrateRequest) check(c *Cluster) error {
	if r.Target.Cluster == "" {
		r.Target.Cluster = c.name
	}
	if r.Window == 0 {
		r.Window = c.ledger.cfg.MigrationWindow
	}
	if err := errors.Join(ValidateVolume(r.Volume), ValidateNode(r.Source), ValidateNode(r.Target.Node),
		ValidateCluster(r.Target.Cluster), validateText("node UID", r.TargetUID)); err != nil {
		return err
	}
	switch {
	case r.Target == Place{Cluster: c.name, Node: r.Source}:
		return invalid("target", r.Target.String(), "another node than the source")
	case r.Window < 0 || r.Window > maxLeaseTTL:
		return invalid("migration window", r.Window.String(), fmt.Sprintf("a duration above zero and up to %s", maxLeaseTTL))
	case r.Window < c.ledger.floor:
		return tooShort("migration window", r.Window, c.ledger.floor)
	}
	return nil
}

// Migrate gives the target an exclusive hold beside the source's, and opens the
// window. Commit ends the source's hold, Abort the target's, and a detach of
// either ends the migration as well. A window that ends by itself leaves the
// volume overdue: both still hold it, nobody gets a third hold, and one of the
// two has to be detached.
//
// The target's attachment lapses with the target's own cluster. The caller
// needs etcd's permission to write that cluster's attachments.
//
// It fails with a *ConflictError if the source does not hold the volume
// exclusively and alone, or it is migrating already; with ErrStaleToken,
// ErrFrozen, ErrClusterMismatch, ErrNotFound (no such target cluster) and
// otherwise as Attach. Beside a Migration an error is an ErrShortWait: both hold
// the volume, and the window may end early.
func (c *Cluster) Migrate(ctx context.Context, req MigrateRequest) (Migration, error) {
	if err := req.check(c); err != nil {
		return Migration{}, err
	}
	return measured(c.ledger, "migrate", func() (Migration, error) {
		target := c
		if req.Target.Cluster != c.name {
			var err error
			if target, err = c.ledger.Cluster(ctx, Identity{Name: req.Target.Cluster}); err != nil {
				return Migration{}, fmt.Errorf("the migration's target: %w", err)
			}
		}
		if req.SourceToken == 0 {
			h, err := c.exclusiveHold(ctx, req.Volume, req.Source)
			if err != nil {
				return Migration{}, err
			}
			req.SourceToken = h.Token
		}
		op := &migrate{c: c, target: target, req: req, id: newID(), since: now()}
		if _, err := c.ledger.do(ctx, c.guard(true), req.Volume, op); err != nil {
			return Migration{}, c.ledger.explained(ctx, err)
		}
		return op.migration, c.ledger.wholeWait(ctx, c.guard(false), op.begun, op.put)
	})
}

// exclusiveHold reads the hold that a migration starts from.
func (c *Cluster) exclusiveHold(ctx context.Context, volume, node string) (Hold, error) {
	v, err := c.ledger.Volume(ctx, volume)
	if err != nil {
		return Hold{}, err
	}
	for _, h := range v.Holds {
		if h.Cluster == c.name && h.Node == node && h.Mode == Exclusive {
			return h, nil
		}
	}
	if len(v.Holds) == 0 {
		return Hold{}, fmt.Errorf("%w: volume %q has no hold to migrate", ErrNotFound, volume)
	}
	e := v.conflict(v.Holds)
	e.Detail = fmt.Sprintf("node %s of cluster %s has no exclusive hold to migrate from", node, c.name)
	return Hold{}, e
}

// migrate is the operation behind Migrate. Its window goes under the wait's
// lease, and the target's attachment under one of the target's cluster.
type migrate struct {
	c, target *Cluster
	req       MigrateRequest
	id        string
	since     time.Time

	migration Migration
	begun     begun
	put       waitPut
}

func (o *migrate) take(ctx context.Context) (leases, error) {
	window, err := o.c.ledger.waits.take(ctx, o.req.Window, 0)
	if err != nil {
		return leases{}, err
	}
	session, err := o.target.sessions.take(ctx)
	return leases{main: window, session: session}, err
}

func (o *migrate) branch(a attempt) *pb.TxnRequest {
	k := o.c.ledger.keys
	v, to := o.req.Volume, o.req.Target
	source := k.hold(v, Exclusive, o.c.name, o.req.Source)
	all, allEnd := k.under(kindHold, v)
	ifs := []*pb.Compare{
		created(source, o.req.SourceToken.Revision()),
		emptyRange(all, source), emptyRange(after(source), allEnd),
		absent(k.migration(v)),
		notAfter(k.detachment(v, Exclusive, to.Cluster, to.Node), a.r),
	}
	if o.target != o.c {
		ifs = append(ifs, o.target.compare())
	}
	window := o.window(a)
	thens := []*pb.RequestOp{
		opPut(k.hold(v, Exclusive, to.Cluster, to.Node),
			encode(holdValue{NodeUID: o.req.TargetUID, Epoch: a.epoch, Since: o.since, By: o.c.ledger.cfg.By})),
		opLeased(k.attachment(to.Cluster, to.Node, v),
			encode(attachmentValue{Mode: Exclusive, NodeUID: o.req.TargetUID, Epoch: a.epoch, Since: o.since}), a.leases.session),
		opLeased(window.key, window.value, a.leases.main),
	}
	return &pb.TxnRequest{Compare: ifs, Success: thens, Failure: append(k.reading(v), opGet(k.cluster(to.Cluster)))}
}

// window is the migration's own record.
func (o *migrate) window(a attempt) waitPut {
	return waitPut{
		about: o.req.Volume,
		key:   o.c.ledger.keys.migration(o.req.Volume),
		value: encode(migrationValue{
			ID: o.id, Source: Place{o.c.name, o.req.Source}, Target: o.req.Target, SourceToken: o.req.SourceToken,
			Epoch: a.epoch, Since: o.since, Deadline: o.since.Add(o.req.Window), By: o.c.ledger.cfg.By,
		}),
		wait: o.req.Window,
	}
}

func (o *migrate) wait() (begun, waitPut) { return o.begun, o.put }

func (o *migrate) settle(a attempt, answer *pb.TxnResponse) error {
	if answer.Succeeded {
		o.migration = Migration{
			Volume: o.req.Volume, Source: Place{o.c.name, o.req.Source}, Target: o.req.Target,
			SourceToken: o.req.SourceToken, TargetToken: NewToken(a.epoch, a.revision),
			Since: o.since, Deadline: o.since.Add(o.req.Window), By: o.c.ledger.cfg.By,
			Lease: a.leases.main.id, Revision: a.revision, id: o.id, modRevision: a.revision,
		}
		o.begun, o.put = begin(a), o.window(a)
		return nil
	}
	v := o.c.ledger.keys.volume(o.req.Volume, a.revision, answer.Responses)
	if o.target != o.c {
		o.target.learn(answer.Responses[len(answer.Responses)-1].GetResponseRange().Kvs)
		if err := o.target.mismatch(); err != nil {
			return fmt.Errorf("the migration's target: %w", err)
		}
	}
	return o.refuse(a, v)
}

// refuse says what stood in the way, or finds that an earlier send did it.
func (o *migrate) refuse(a attempt, v *Volume) error {
	if v.Migration != nil && v.Migration.id == o.id {
		o.migration, o.begun, o.put = *v.Migration, resumed(v.Migration.modRevision), o.window(a)
		return nil
	}
	var source *Hold
	for _, h := range v.Holds {
		if h.Cluster == o.c.name && h.Node == o.req.Source && h.Mode == Exclusive {
			source = &h
		}
	}
	conflict := v.conflict(v.Holds)
	switch {
	case source == nil && len(v.Holds) == 0:
		return fmt.Errorf("%w: volume %q has no hold to migrate", ErrNotFound, v.Name)
	case source == nil:
		conflict.Detail = fmt.Sprintf("node %s of cluster %s has no exclusive hold to migrate from", o.req.Source, o.c.name)
	case source.Revision != o.req.SourceToken.Revision():
		return staleToken(*source, o.req.SourceToken)
	case v.Migration != nil:
		conflict.Detail = fmt.Sprintf("it is migrating from %s to %s until %s",
			v.Migration.Source, v.Migration.Target, v.Migration.Deadline.Format(time.RFC3339))
	case len(v.Holds) > 1:
		conflict.Detail = "its migration is overdue: detach one of the two first"
	case len(v.unknown) > 0:
	default:
		return errPast
	}
	return conflict
}

// Commit ends the source's hold of a migration that Migrate, or Volume, has
// returned: the target alone holds the volume from then on. ErrNotFound if that
// window is no longer there, ErrShortWait if the source's hold has ended and only
// its grace is in doubt; otherwise as Detach.
func (c *Cluster) Commit(ctx context.Context, m Migration) error {
	return c.finish(ctx, "commit", m, m.Source, m.SourceToken, "migrated to "+m.Target.String())
}

// Abort ends the target's hold of a migration: the source alone holds the
// volume, as before. It fails as Commit does, with the target in the source's place.
func (c *Cluster) Abort(ctx context.Context, m Migration) error {
	return c.finish(ctx, "abort", m, m.Target, m.TargetToken, "migration aborted")
}

func (c *Cluster) finish(ctx context.Context, verb string, m Migration, loser Place, token Token, reason string) error {
	if err := ValidateVolume(m.Volume); err != nil {
		return err
	}
	if m.Broken != nil {
		return fmt.Errorf("%w; it is left alone: detach the side that no longer uses volume %q", m.Broken, m.Volume)
	}
	_, err := measured(c.ledger, verb, func() (struct{}, error) {
		op := &finish{c: c, m: m, loser: loser, token: token, reason: reason, at: now()}
		if _, err := c.ledger.do(ctx, c.guard(false), m.Volume, op); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, c.ledger.wholeWait(ctx, c.guard(false), op.begun, c.ledger.detachmentPut(op.detachment()))
	})
	return err
}

// finish is the operation behind Commit and Abort: the end of one side.
type finish struct {
	c      *Cluster
	m      Migration
	loser  Place
	token  Token
	reason string
	at     time.Time

	begun begun
}

func (o *finish) take(ctx context.Context) (leases, error) {
	main, err := o.c.ledger.waits.take(ctx, o.c.ledger.cfg.GracePeriod, 0)
	return leases{main: main}, err
}

func (o *finish) detachment() Detachment {
	return Detachment{
		Volume: o.m.Volume, Mode: Exclusive, Cluster: o.loser.Cluster, Node: o.loser.Node, Token: o.token,
		At: o.at, Grace: o.c.ledger.cfg.GracePeriod, Reason: o.reason, By: o.c.ledger.cfg.By,
	}
}

func (o *finish) branch(a attempt) *pb.TxnRequest {
	k := o.c.ledger.keys
	ifs := []*pb.Compare{
		created(k.migration(o.m.Volume), o.m.Revision),
		created(k.hold(o.m.Volume, Exclusive, o.loser.Cluster, o.loser.Node), o.token.Revision()),
	}
	loser := Hold{Volume: o.m.Volume, Mode: Exclusive, Cluster: o.loser.Cluster, Node: o.loser.Node}
	look := opGet(k.detachment(o.m.Volume, Exclusive, o.loser.Cluster, o.loser.Node))
	return &pb.TxnRequest{Compare: ifs, Success: o.c.ledger.endOps(loser, o.detachment(), a.leases.main), Failure: []*pb.RequestOp{look}}
}

func (o *finish) wait() (begun, waitPut) {
	return o.begun, o.c.ledger.detachmentPut(o.detachment())
}

func (o *finish) settle(a attempt, answer *pb.TxnResponse) error {
	if answer.Succeeded {
		o.begun = begin(a)
		return nil
	}
	// Sent again after a lost answer, it finds the detachment that it left.
	for _, kv := range answer.Responses[0].GetResponseRange().Kvs {
		d := toDetachment(key{kind: kindDetachment}, kv)
		if a.resent && d.Token == o.token && d.Reason == o.reason && d.At.Equal(o.at) {
			o.begun = resumed(d.ModRevision)
			return nil
		}
	}
	return fmt.Errorf("%w: volume %q has no migration from %s to %s any more", ErrNotFound, o.m.Volume, o.m.Source, o.m.Target)
}
