package bench

import "time"

// Sizes are how much a run measures: enough to see that all of it works, what
// fits into some minutes, or what the figures of docs/performance.md are about.
type Sizes struct {
	Name string
	// Rounds is how often each side of a comparison has its turn (three times at most,
	// where that takes long or is only for the plots), Round how long a turn of calls lasts.
	Rounds int
	Round  time.Duration
	// Callers are how many callers make calls at the same time; the last of them
	// is the one that summaries are about.
	Callers []int
	// Rate is the calls a second of what is offered at a fixed rate.
	Rate float64
	// Graces is how many waits end together.
	Graces int
	// Records is how many attachments a controller starts with; the last of them
	// is the one that summaries are about. Nodes is how many nodes they are on.
	Records []int
	Nodes   int
	// Storm is how many nodes vanish at once, of OnNode attachments each.
	Storm, OnNode int
	// Among is how many attachments there are when a single node vanishes, and
	// Vanish how often one does.
	Among, Vanish int
	// Watchers is how many views see each commit.
	Watchers []int
}

// The sizes of a run.
var (
	Smoke = Sizes{
		Name: "smoke", Rounds: 2, Round: time.Second, Callers: []int{1, 64}, Rate: 500, Graces: 2_000,
		Records: []int{5_000}, Nodes: 100, Storm: 20, OnNode: 20, Among: 2_000, Vanish: 3, Watchers: []int{1, 8},
	}
	Normal = Sizes{
		Name: "normal", Rounds: 4, Round: 1500 * time.Millisecond, Callers: []int{1, 16, 256}, Rate: 2_000, Graces: 20_000,
		Records: []int{10_000, 100_000}, Nodes: 1_000, Storm: 200, OnNode: 100, Among: 20_000, Vanish: 20, Watchers: []int{1, 16, 64},
	}
	Full = Sizes{
		Name: "full", Rounds: 5, Round: 2 * time.Second, Callers: []int{1, 8, 64, 256}, Rate: 5_000, Graces: 100_000,
		Records: []int{10_000, 100_000, 1_000_000}, Nodes: 10_000, Storm: 1_000, OnNode: 100, Among: 100_000, Vanish: 50,
		Watchers: []int{1, 16, 64, 256},
	}
)
