// Command make makes the bundled models from nothing: the tokenizer, the models and
// the reward model in demo/models.
//
//	go run ./demo/make [-o demo/models] [-work DIR] [-j N]
//
// With -work, finished models stay in DIR, and the same command goes on from
// there. README.md beside the package says what is promised of the result.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"expo/align/train"
	"expo/internal/kernel"
	"expo/weights/checkpoint"
)

// loops are the inner loops to compute with, which decide about last bits: those
// that every amd64 processor of the last ten years has, rather than the best of
// this one.
const loops = "avx2"

func main() {
	log.SetFlags(0)
	log.SetPrefix("make: ")
	out := flag.String("o", filepath.Join("demo", "models"), "the models go to this `DIR`")
	work := flag.String("work", "", "finished models stay in this `DIR`, to go on from")
	jobs := flag.Int("j", runtime.GOMAXPROCS(0), "threads; they do not show in the result")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, *work, *jobs); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out, work string, jobs int) error {
	if slices.Contains(kernel.Implementations(), loops) {
		restore, err := kernel.Use(loops)
		if err != nil {
			return err
		}
		defer restore()
	} else {
		log.Printf("this processor has no %s: the weights will differ in their last bits from those in the repository", loops)
	}
	if work == "" {
		dir, err := os.MkdirTemp("", "expo-demo")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		work = dir
	}
	m := &maker{work: work, jobs: jobs, start: time.Now()}
	return m.all(ctx, out)
}

// A maker makes models one after the other.
type maker struct {
	work  string
	jobs  int
	start time.Time
}

// stage gives the model of a name: the one in the work folder, or else the one
// that build makes.
func (m *maker) stage(ctx context.Context, name string, build func() (*train.Model, error)) (*train.Model, error) {
	dir := filepath.Join(m.work, name)
	if _, err := os.Stat(dir); err == nil {
		m.say("%s: taken from %s", name, dir)
		c, err := checkpoint.Open(dir)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return train.Open(ctx, c)
	}
	built, err := build()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := write(ctx, dir, built); err != nil {
		return nil, err
	}
	m.say("%s: done", name)
	return built, nil
}

func write(ctx context.Context, dir string, m *train.Model) error {
	c, err := m.Checkpoint(dir)
	if err != nil {
		return err
	}
	_, err = checkpoint.Write(ctx, dir, c, checkpoint.WriteOptions{Force: true})
	return err
}

func (m *maker) say(format string, args ...any) {
	log.Printf("%6.1f s  %s", time.Since(m.start).Seconds(), fmt.Sprintf(format, args...))
}

// follow logs a run's loss now and then.
func (m *maker) follow(name string, o train.Options) train.Options {
	o.Jobs, o.SaveEvery = m.jobs, -1
	o.Log = func(s train.Step) {
		if s.Step%max(s.Steps/10, 1) != 0 {
			return
		}
		more := ""
		if p := s.PreferenceStep; p != nil {
			more = fmt.Sprintf("  accuracy %.2f  margin %.3f", p.Accuracy, p.Margin)
		}
		m.say("%s: step %d/%d  loss %.4f%s  %.0f tokens/s", name, s.Step, s.Steps, s.Loss, more, s.TokensPerSecond)
	}
	return o
}
