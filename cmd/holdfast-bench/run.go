package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-storage/holdfast/bench"
	"github.com/holdfast-storage/holdfast/bench/report"
	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

// runFlags are those of run.
type runFlags struct {
	targetFlags
	kubeconfig, holdfast string
	allowUsedCluster     bool
	size                 string
	workloads            []string
	rounds               int
	seed                 uint64
	format, output       string
}

func newRun() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Measure, and print what it came to",
		Long: `Measures on an etcd that is started for the run, with fsync on, or on yours, below
a prefix of its own. That has to be empty, and is emptied at the end, also when
the run fails or is interrupted. What was measured until then is printed.`,
		Example: `  # All workloads, some minutes
  holdfast-bench run

  # Two of them, on your etcd, and a page with plots
  holdfast-bench run --endpoints http://10.0.0.1:2379 --workloads attach,detach -o results/`,
		Args: cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.add(cmd.Flags())
	return cmd
}

func (f *runFlags) add(fs *pflag.FlagSet) {
	fs.Var(cli.NewChoice(&f.size, bench.Normal.Name, bench.Smoke.Name, bench.Normal.Name, bench.Full.Name), "size", "how much: that all of it works, some minutes, or an hour")
	fs.StringSliceVar(&f.workloads, "workloads", nil, "only these `workloads`, separated by commas (default all)")
	fs.IntVar(&f.rounds, "rounds", 0, "how often each side has its turn (default as --size has it)")
	fs.Uint64Var(&f.seed, "seed", 0, "of what is random in a run; 0 for a random one")
	f.targetFlags.add(fs)
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	own.StringVar(&f.kubeconfig, "kubeconfig", "", "measure VolumeAttachments and Nodes too, at the API server of this `file`; it is written to")
	own.BoolVar(&f.allowUsedCluster, "allow-used-cluster", false, "write to that API server even if its cluster has Nodes of somebody's")
	own.StringVar(&f.holdfast, "holdfast", "", "the holdfast binary's `path`, for what is about a process (default beside this one, else of $PATH)")
	cli.AddSection(fs, own, sectionTarget)
	out := pflag.NewFlagSet("", pflag.ContinueOnError)
	out.StringVarP(&f.output, "output", "o", "", "write result.json, result.txt and result.html into this `folder`")
	out.Var(cli.NewChoice(&f.format, "table", "table", "go", "json"), "format", "how to print the result")
	cli.AddSection(fs, out, sectionOutput)
}

func (f *runFlags) run(cmd *cobra.Command) (err error) {
	cfg, workloads, err := f.config(cmd.Flags())
	if err != nil {
		return err
	}
	if cfg.Temp, err = os.MkdirTemp("", "holdfast-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(cfg.Temp)) }()
	progress := newProgress(cmd.ErrOrStderr(), len(workloads))
	defer progress.close()
	cfg.Step, cfg.Log = progress.step, slog.New(slog.NewTextHandler(progress, &slog.HandlerOptions{Level: slog.LevelError}))
	progress.say("seed %d", cfg.Seed)
	on, err := f.open(cmd.Context(), cfg.Temp, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, on.close()) }()
	on.configure(&cfg)
	result, err := bench.Measure(cmd.Context(), cfg, progress.watch(workloads))
	progress.close()
	if result == nil {
		return err
	}
	on.complete(&result.Header)
	return errors.Join(err, f.print(cmd.OutOrStdout(), result), f.write(result))
}

// config is all of the run's but for its etcd.
func (f *runFlags) config(fs *pflag.FlagSet) (bench.Config, []bench.Workload, error) {
	cfg := bench.Config{Seed: f.seed, AllowUsedCluster: f.allowUsedCluster}
	if err := f.check(fs); err != nil {
		return cfg, nil, err
	}
	workloads, err := bench.Choose(f.workloads...)
	if err != nil {
		return cfg, nil, cli.Usagef("invalid --workloads: %w", err)
	}
	if cfg.Sizes, err = sizesNamed(f.size); err != nil {
		return cfg, nil, err
	}
	if fs.Changed("rounds") {
		if f.rounds < 1 {
			return cfg, nil, cli.Usagef("invalid --rounds %d: expected 1 or more", f.rounds)
		}
		cfg.Sizes.Rounds = f.rounds
	}
	for cfg.Seed == 0 {
		cfg.Seed = uint64(rand.Uint32()) //nolint:gosec // to tell runs apart
	}
	if cfg.Holdfast, err = findHoldfast(f.holdfast); err != nil {
		return cfg, nil, err
	}
	if f.kubeconfig != "" {
		if cfg.Kube, err = clientcmd.BuildConfigFromFlags("", f.kubeconfig); err != nil {
			return cfg, nil, cli.Usagef("invalid --kubeconfig: %w", err)
		}
	}
	return cfg, workloads, nil
}

// findHoldfast is the binary's path; empty where there is none, and none was asked for.
func findHoldfast(given string) (string, error) {
	if given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", cli.Usagef("invalid --holdfast: %w", err)
		}
		return filepath.Abs(path)
	}
	if own, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(own), "holdfast")); err == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath("holdfast"); err == nil {
		return filepath.Abs(path)
	}
	return "", nil
}

func (f *runFlags) print(w io.Writer, result *bench.Result) error {
	switch f.format {
	case "json":
		return report.JSON(w, result)
	case "go":
		return report.Go(w, result)
	}
	return report.Table(w, result)
}

// write puts the result into the folder of --output.
func (f *runFlags) write(result *bench.Result) error {
	if f.output == "" {
		return nil
	}
	if err := os.MkdirAll(f.output, 0o755); err != nil {
		return err
	}
	for name, write := range map[string]func(io.Writer, *bench.Result) error{
		"result.json": report.JSON, "result.txt": report.Go, "result.html": report.HTML,
	} {
		var b bytes.Buffer
		if err := write(&b, result); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(f.output, name), b.Bytes(), 0o644); err != nil { //nolint:gosec // it is to be read
			return err
		}
	}
	return nil
}
