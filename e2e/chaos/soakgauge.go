package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
)

// gauge reads the figures of one process. settled: after a garbage collection,
// where the process has one.
type gauge struct {
	of   string
	read func(ctx context.Context, settled bool) ([]figure, error)
}

// figure is one reading.
type figure struct {
	quantity quantity
	value    float64
}

// scraped are a controller's figures, by the metric that they come from.
var scraped = map[string]quantity{
	"go_goroutines":                 goroutines,
	"process_open_fds":              descriptors,
	"process_resident_memory_bytes": resident,
	"go_memstats_heap_inuse_bytes":  heap,
	"holdfast_queue_depth":          queue,
}

var servingAt = regexp.MustCompile(`serving /metrics.* address=(\S+)`)

// profileURL is where a controller serves a profile.
func profileURL(c *controller, profile string) (string, error) {
	text, err := os.ReadFile(c.log())
	if err != nil {
		return "", err
	}
	at := servingAt.FindSubmatch(text)
	if at == nil {
		return "", fmt.Errorf("controller %s: its log does not say yet where it serves its metrics", c.name)
	}
	return "http://" + string(at[1]) + profile, nil
}

// controllerGauge waits until the controller serves, and reads its metrics. A
// heap profile with gc=1 has it collect its garbage first.
func controllerGauge(ctx context.Context, c *controller) (gauge, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	root, err := profileURL(c, "")
	for ; err != nil; root, err = profileURL(c, "") {
		if ctx.Err() != nil {
			return gauge{}, err
		}
		sleep(ctx, settleLook)
	}
	return gauge{c.name, func(ctx context.Context, settled bool) ([]figure, error) {
		if settled {
			if err := fetch(ctx, root+"/debug/pprof/heap?gc=1", io.Discard); err != nil {
				return nil, err
			}
		}
		var text strings.Builder
		if err := fetch(ctx, root+"/metrics", &text); err != nil {
			return nil, err
		}
		return figuresOf(text.String()), nil
	}}, nil
}

// fetch uses a connection of its own: one that is kept would be a descriptor there.
func fetch(ctx context.Context, url string, to io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	_, err = io.Copy(to, resp.Body)
	return err
}

// figuresOf adds up the samples of each metric, whatever their labels.
func figuresOf(text string) []figure {
	sums := map[quantity]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if at := strings.IndexByte(name, '{'); at >= 0 {
			name = name[:at]
			value = lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:]
		}
		q, wanted := scraped[name]
		if n, err := strconv.ParseFloat(value, 64); ok && wanted && err == nil {
			sums[q] += n
		}
	}
	var out []figure
	for _, q := range scraped {
		out = append(out, figure{q, sums[q]})
	}
	return out
}

// ownFigures are those of this process: the drivers, the observer, and the
// proxies before etcd, whose connections come and go with the members.
func ownFigures(_ context.Context, settled bool) ([]figure, error) {
	if settled {
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	return []figure{
		{ownGoroutines, float64(runtime.NumGoroutine())},
		{ownDescriptors, float64(len(open))},
		{heap, float64(m.HeapInuse)},
	}, nil
}

// etcdFigures are those of the ledger in etcd, and of the largest member's file.
func (s *soak) etcdFigures(ctx context.Context, _ bool) ([]figure, error) {
	l, err := s.stands(ctx)
	if err != nil {
		return nil, err
	}
	out := []figure{{leasesThere, float64(l.Leases)}, {idleLeases, float64(l.Idle)}, {keysThere, float64(l.standing())}}
	for kind, q := range kindsThere {
		out = append(out, figure{q, float64(l.Keys[kind])})
	}
	size := int64(0)
	for i := range cluster.Size {
		if st, err := s.etcd.Status(ctx, i); err == nil {
			size = max(size, st.DbSize)
		}
	}
	if size > 0 {
		out = append(out, figure{database, float64(size)})
	}
	return out, nil
}

// queued says whether a controller still has a node to judge.
func (s *soak) queued(ctx context.Context) error {
	for i, c := range s.controllers {
		figures, err := s.gauges[i].read(ctx, false)
		if err != nil {
			return err
		}
		for _, f := range figures {
			if f.quantity == queue && f.value > 0 {
				return fmt.Errorf("controller %s has %.0f nodes to judge", c.name, f.value)
			}
		}
	}
	return nil
}

// keepProfiles writes down what the processes are full of, for whoever looks
// why one has grown.
func (s *soak) keepProfiles(ctx context.Context) {
	if err := keepOwnProfile(filepath.Join(s.cfg.Folder, "drivers.goroutines")); err != nil {
		s.problem(err)
	}
	for _, c := range s.controllers {
		for name, profile := range map[string]string{"heap": "/debug/pprof/heap?gc=1", "goroutines": "/debug/pprof/goroutine?debug=1"} {
			if err := keepProfile(ctx, c, profile, filepath.Join(s.cfg.Folder, c.name+"."+name)); err != nil {
				s.problem(err)
			}
		}
	}
}

func keepOwnProfile(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("goroutine").WriteTo(f, 1), f.Close())
}

func keepProfile(ctx context.Context, c *controller, profile, path string) error {
	url, err := profileURL(c, profile)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(fetch(ctx, url, f), f.Close())
}
