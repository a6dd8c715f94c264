// Command with starts a real kube-apiserver, runs a command with KUBECONFIG set to
// a kubeconfig that may do everything there, and stops the server when that ends:
//
//	with ../.cache/kubernetes/kube-apiserver holdfast-bench run …
//
// The server's etcd is a process of its own, on disk and with fsync on, as the one
// that a benchmark starts: what is compared with it is to have no advantage.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"testing"

	"github.com/holdfast-storage/holdfast/bench/local"

	"github.com/holdfast-storage/holdfast/e2e/apiserver"
)

func main() {
	local.ServeMember()
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "with: expected the path of kube-apiserver, and a command")
		os.Exit(2)
	}
	// Ctrl-C is for the command, which ends by it; then so does this. What is
	// caught, unlike what is ignored, is not so for the command.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)
	os.Exit(with(os.Args[1], os.Args[2:]))
}

// with is the exit code of the command, or 1 where it did not come to that.
func with(kubeAPIServer string, command []string) (code int) {
	tb := &lifetime{}
	defer tb.end()
	defer func() {
		if given := recover(); given != nil {
			if _, fatal := given.(gaveUp); !fatal {
				panic(given)
			}
			code = 1
		}
	}()
	etcd, err := local.Start(context.Background(), 1, tb.TempDir(), os.Stderr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = etcd.Close() })
	server := apiserver.StartOn(tb, "bench", kubeAPIServer, etcd.Endpoints[0])
	run := exec.Command(command[0], command[1:]...)
	run.Env = append(os.Environ(), "KUBECONFIG="+server.AdminKubeconfig(tb))
	run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stdout, os.Stderr
	run.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = run.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		tb.Fatal(err)
	}
	return run.ProcessState.ExitCode()
}

// lifetime is what package apiserver needs of a test: to end things, and to give up.
type lifetime struct {
	testing.TB // nil: the rest of it is not called
	ends       []func()
}

type gaveUp struct{}

func (l *lifetime) Helper() {}

func (l *lifetime) Cleanup(f func()) { l.ends = append(l.ends, f) }

func (l *lifetime) end() {
	for _, f := range slices.Backward(l.ends) {
		f()
	}
}

func (l *lifetime) TempDir() string {
	dir, err := os.MkdirTemp("", "holdfast-apiserver-")
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (l *lifetime) Error(args ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"with:"}, args...)...)
}
func (l *lifetime) Errorf(format string, args ...any) { l.Error(fmt.Sprintf(format, args...)) }

func (l *lifetime) Fatal(args ...any) {
	l.Error(args...)
	panic(gaveUp{})
}
func (l *lifetime) Fatalf(format string, args ...any) { l.Fatal(fmt.Sprintf(format, args...)) }
