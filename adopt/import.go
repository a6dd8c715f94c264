package adopt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

const (
	// importers is how many attaches are under way at a time. The ledger
	// gathers them into few requests.
	importers = 64
	// lastWord is how long attaches that are under way have when an import is
	// interrupted, so that what is said of them is true.
	lastWord = 10 * time.Second
)

// Import attaches what Plan found is to be attached, and puts into each item
// what became of it. done, where it is not nil, is called with how many have
// been tried, from several goroutines.
//
// It returns what ended it before all had been tried: what is wrong with the
// ledger and not with one volume, or ctx's end. What was under way then is still
// waited for, for up to 10 s. Running it again goes on where it ended.
func Import(ctx context.Context, c *state.Cluster, items []Item, done func(int)) error {
	var todo []*Item
	for i := range items {
		if items[i].Result == ToAttach {
			items[i].Result = NotTried
			todo = append(todo, &items[i])
		}
	}
	// An attach that is cut off may have been carried out all the same.
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWord, cut) })()

	var next, tried atomic.Int64
	var stopped atomic.Pointer[error]
	var all sync.WaitGroup
	for range min(importers, len(todo)) {
		all.Go(func() {
			for ctx.Err() == nil && stopped.Load() == nil {
				n := next.Add(1) - 1
				if n >= int64(len(todo)) {
					return
				}
				if err := todo[n].attach(sending, c); err != nil {
					stopped.CompareAndSwap(nil, &err)
				}
				if tried := tried.Add(1); done != nil {
					done(int(tried))
				}
			}
		})
	}
	all.Wait()
	if err := stopped.Load(); err != nil {
		return *err
	}
	if int(tried.Load()) < len(todo) {
		return ctx.Err()
	}
	return nil
}

// attach tries one, and returns an error that concerns all.
func (i *Item) attach(ctx context.Context, c *state.Cluster) error {
	h, err := c.Attach(ctx, state.AttachRequest{Volume: i.Volume, Node: i.Node, Mode: i.Mode, NodeUID: i.NodeUID})
	if err == nil {
		i.Result, i.Token = Done, h.Token
		return nil
	}
	i.Result, i.Detail = Failed, err.Error()
	var conflict *state.ConflictError
	switch {
	case errors.As(err, &conflict):
		i.Result = Conflict
		for _, h := range conflict.Holders {
			i.Holders = append(i.Holders, Holder{Cluster: h.Cluster, Node: h.Node, Mode: h.Mode, revision: h.Revision})
		}
		return nil
	case errors.Is(err, state.ErrConflict), errors.Is(err, state.ErrInGrace):
		i.Result = Conflict
		return nil
	case errors.Is(err, state.ErrInvalid):
		return nil
	case errors.Is(err, state.ErrUnknownOutcome):
		i.Result = Unknown
	}
	return fmt.Errorf("attaching volume %q to node %s: %w", i.Volume, i.Node, err)
}

// Recheck reads the VolumeAttachments again once an import has written, and
// marks as left what it has attached for one that has gone in between, and whose
// hold is still there: nobody will detach that. Nothing is undone: whether the
// node is done with the volume is not for an import to say, and the same node
// may be about to attach it again under the very same hold.
func Recheck(ctx context.Context, k *Kubernetes, l *state.Ledger, attacher string, items []Item) error {
	r, err := k.volumeAttachments(ctx, attacher)
	if err != nil {
		return err
	}
	// By what is attached, not by UID: one that was made anew meanwhile is the
	// same node's, under the same hold.
	type what struct{ persistentVolume, node string }
	phases := make(map[what]Phase, len(r.Attachments))
	for _, a := range r.Attachments {
		phases[what{a.PersistentVolume, a.Node}] = a.Phase
	}
	for n := range items {
		i := &items[n]
		phase := phases[what{i.PersistentVolume, i.Node}]
		if i.Result != Done || phase == Attached {
			continue
		}
		v, err := l.Volume(ctx, i.Volume)
		if err != nil {
			return fmt.Errorf("looking at volume %q, whose VolumeAttachment has gone meanwhile: %w", i.Volume, err)
		}
		switch {
		case !holds(v, i.Token):
			i.Detail = "and detached meanwhile, with its hold"
		case phase == "":
			i.Result, i.Detail = Left, "its VolumeAttachment has gone meanwhile, and the hold is still there"
		default:
			i.Detail = "meanwhile it is " + string(phase)
		}
	}
	return nil
}

func holds(v *state.Volume, token state.Token) bool {
	for _, h := range v.Holds {
		if h.Token == token {
			return true
		}
	}
	return false
}
