package state

// trust is what a writer takes for granted of calls that do not ask, for speed
// alone: where it is wrong nothing is written, and the calls ask. It falls by a
// level with each request in which something stood in the way of one, and rises by
// one with every so many calls of which that is not true.
type trust struct {
	level trustLevel
	clean int // calls since it fell or rose
}

type trustLevel int

const (
	// trustNothing: each call is a nested transaction of its own.
	trustNothing trustLevel = iota
	// trustCalls: nothing stands in the way of most, so they are bundled.
	trustCalls
	// trustVolumes: nor was any volume detached lately, so that an attach makes one
	// compare of it that there is no detachment.
	trustVolumes
)

// trustAfter is how many calls it takes until trust rises. Bundles save an eighth
// of a call, and cost each member a second one where they fail: at one refusal in
// some 500 calls that is even.
const trustAfter = 1024

func (t *trust) learn(refused, clean int) {
	switch {
	case refused > 0:
		t.level, t.clean = max(t.level-1, trustNothing), 0
	case t.clean+clean >= trustAfter:
		t.level, t.clean = min(t.level+1, trustVolumes), 0
	default:
		t.clean += clean
	}
}

func (w *writer) trusts() trustLevel {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trust.level
}

// learn takes what became of a request's calls that did not ask.
func (w *writer) learn(batch []*call) {
	refused, clean := 0, 0
	for _, c := range batch {
		switch {
		case !c.unasked || c.answer == nil:
		case c.answer.Succeeded:
			clean++
		default:
			refused++
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trust.learn(refused, clean)
}
