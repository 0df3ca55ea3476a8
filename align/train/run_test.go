package train

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// methods trains a tiny model each in one of the ways, with the same options.
var methods = map[string]func(ctx context.Context, m *Model, o Options) error{
	"sft": func(ctx context.Context, m *Model, o Options) error {
		_, err := SFT(ctx, m, someExamples(50), o)
		return err
	},
	"dpo": func(ctx context.Context, m *Model, o Options) error {
		_, err := DPO(ctx, m, somePairs(30), DPOOptions{Options: o})
		return err
	},
	"reward": func(ctx context.Context, m *Model, o Options) error {
		_, err := Reward(ctx, m, somePairs(30), RewardOptions{Options: o, Center: 0.01})
		return err
	},
	"sppo": func(ctx context.Context, m *Model, o Options) error {
		_, err := SPPO(ctx, m, somePairs(12), SPPOOptions{Options: o, Iterations: 2, Samples: 3, Eta: 10, Sample: fakeSample, Score: fakeScore})
		return err
	},
}

// fakeSample answers by the prompt and the model's first weight.
func fakeSample(_ context.Context, r SampleRequest) ([][]string, error) {
	var out [][]string
	for i, p := range r.Prompts {
		var list []string
		for k := range r.Samples {
			list = append(list, strings.Repeat(p.Prompt[:1], 1+(i+k*k+int(math.Abs(float64(r.Model.w[40]))*1e6))%7))
		}
		out = append(out, list)
	}
	return out, nil
}

func fakeScore(_ context.Context, _ []Pair, answers [][]string) ([][]float64, error) {
	var out [][]float64
	for _, list := range answers {
		var s []float64
		for _, a := range list {
			s = append(s, float64(len(a))/3)
		}
		out = append(out, s)
	}
	return out, nil
}

func quick() Options {
	return Options{Steps: 6, BatchSize: 4, GradAccumulation: 2, LearningRate: 1e-2, Warmup: 2, WeightDecay: 0.1, Seed: 5}
}

func TestJobsDoNotShow(t *testing.T) {
	for name, train := range methods {
		t.Run(name, func(t *testing.T) {
			var want []float32
			for _, jobs := range []int{1, 2, 3} {
				m := tiny(t)
				o := quick()
				o.Jobs = jobs
				if err := train(context.Background(), m, o); err != nil {
					t.Fatal(err)
				}
				if want == nil {
					want = m.w
					if start := tiny(t); sameFloats(start.w, m.w) {
						t.Fatal("nothing was learned")
					}
				}
				if !sameFloats(m.w, want) {
					t.Errorf("%d jobs give other weights than 1", jobs)
				}
			}
		})
	}
}

// Products large enough to be shared out must not depend on who computes them.
func TestJobsDoNotShowInLargeProducts(t *testing.T) {
	cfg := *tinyConfigs()["wide"]
	cfg.HiddenSize, cfg.IntermediateSize, cfg.VocabSize = 96, 300, 700
	l := newLayout(&cfg, 0)
	w := randomWeights(l, 3)
	inputs, targets, coef := targetsFor(sequencesFor(&cfg, 120, 7, 100, 64))
	for _, c := range []Compute{F32, BF16} {
		var want []float32
		for _, jobs := range []int{1, 2, 3} {
			team := newTeam(jobs)
			g := make([]float32, l.total)
			n := newNetwork(&cfg, 0, l, w, g, 128, c.format(), team)
			n.forward(inputs)
			n.logProbs(targets, make([]float64, len(targets)), coef)
			n.backward()
			team.end()
			if want == nil {
				want = g
			}
			if !sameFloats(g, want) {
				t.Errorf("%s: %d jobs give another gradient than 1", c, jobs)
			}
		}
	}
}

func TestAccumulation(t *testing.T) {
	// A step of two batches of four is one of eight, up to rounding.
	weights := func(batch, accumulation int) []float32 {
		m := tiny(t)
		o := quick()
		o.BatchSize, o.GradAccumulation, o.Steps = batch, accumulation, 3
		if err := methods["sft"](context.Background(), m, o); err != nil {
			t.Fatal(err)
		}
		return m.w
	}
	a, b := weights(8, 1), weights(4, 2)
	for i := range a {
		if math.Abs(float64(a[i]-b[i])) > 1e-4 {
			t.Fatalf("weight %d is %v in one batch, %v in two", i, a[i], b[i])
		}
	}
}

// stopAfter trains with a context that ends after a step, as ^C does.
func stopAfter(t *testing.T, name string, o Options, step int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seen := 0
	o.Log = func(Step) {
		if seen++; seen == step {
			cancel()
		}
	}
	if err := methods[name](ctx, tiny(t), o); !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v, want that of the context", err)
	}
}

func TestResume(t *testing.T) {
	for name, train := range methods {
		t.Run(name, func(t *testing.T) {
			want := tiny(t)
			if err := train(context.Background(), want, quick()); err != nil {
				t.Fatal(err)
			}
			for _, step := range []int{1, 3, 4} {
				o := quick()
				o.Work, o.SaveEvery = filepath.Join(t.TempDir(), "work"), 2
				stopAfter(t, name, o, step)
				o.Jobs = 1
				got := tiny(t)
				if err := train(context.Background(), got, o); err != nil {
					t.Fatal(err)
				}
				if !sameFloats(got.w, want.w) {
					t.Errorf("stopped after step %d, the run ends with other weights", step)
				}
				checkLog(t, o.Work, 6)
			}
		})
	}
}

// checkLog sees that the log of a run, or of each iteration, has every step once.
func checkLog(t *testing.T, work string, steps int) {
	t.Helper()
	logs, _ := filepath.Glob(filepath.Join(work, "iteration-*", logName))
	if logs == nil {
		logs = []string{filepath.Join(work, logName)}
	}
	for _, path := range logs {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		n := 0
		for in := bufio.NewScanner(f); in.Scan(); {
			var s Step
			if err := json.Unmarshal(in.Bytes(), &s); err != nil {
				t.Fatal(err)
			}
			if n++; s.Step != n || !(s.GradNorm > 0) || !(s.LearningRate > 0) || !(s.TokensPerSecond > 0) {
				t.Errorf("%s: line %d is %+v", path, n, s)
			}
		}
		if n != steps {
			t.Errorf("%s has %d lines, want %d", path, n, steps)
		}
	}
}

func TestOtherRun(t *testing.T) {
	o := quick()
	o.Work, o.SaveEvery = filepath.Join(t.TempDir(), "work"), 2
	stopAfter(t, "sft", o, 3)
	o.LearningRate = 2e-2
	if err := methods["sft"](context.Background(), tiny(t), o); !errors.Is(err, ErrOtherRun) || !strings.HasSuffix(err.Error(), "(lr 0.01, now 0.02)") {
		t.Errorf("another learning rate: error is %v", err)
	}
	o = quick()
	o.Work = filepath.Join(t.TempDir(), "work")
	stopAfter(t, "sppo", o, 1)
	o.Seed++
	if err := methods["sppo"](context.Background(), tiny(t), o); !errors.Is(err, ErrOtherRun) || !strings.Contains(err.Error(), "now ") {
		t.Errorf("another seed of SPPO: error is %v", err)
	}
}

const killVariable = "TRAIN_TEST_WORK"

func TestMain(m *testing.M) {
	if work := os.Getenv(killVariable); work != "" {
		files, err := New(tinyFiles(), 3)
		if err == nil {
			o := quick()
			o.Steps, o.Work, o.SaveEvery = 40, work, 3
			err = methods["dpo"](context.Background(), files, o)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A run that is killed, again and again, ends with the weights of one that is
// left alone.
func TestKill(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(work string, patience time.Duration) (done bool) {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), killVariable+"="+work)
		var errs strings.Builder
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if patience > 0 {
			// Until it has saved something new, and a little more.
			before, _ := filepath.Glob(filepath.Join(work, "step-*"))
			for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				if now, _ := filepath.Glob(filepath.Join(work, "step-*")); !slices.Equal(now, before) {
					break
				}
			}
			time.Sleep(patience)
			cmd.Process.Kill()
		}
		err := cmd.Wait()
		if err != nil && patience == 0 {
			t.Fatalf("%v: %s", err, errs.String())
		}
		return err == nil
	}
	alone, killed := filepath.Join(t.TempDir(), "alone"), filepath.Join(t.TempDir(), "killed")
	run(alone, 0)
	kills := 0
	for i := range 4 {
		if run(killed, time.Duration(1+2*i)*time.Millisecond) {
			break
		}
		kills++
	}
	if kills == 0 {
		t.Error("the run was done before it could be killed")
	}
	run(killed, 0)
	for _, file := range []string{"model.safetensors", "optimizer.safetensors"} {
		a, err := os.ReadFile(filepath.Join(alone, "step-00000040", file))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(killed, "step-00000040", file))
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("%s differs after %d kills", file, kills)
		}
	}
	checkLog(t, killed, 40)
}

func TestNonFinite(t *testing.T) {
	o := quick()
	o.Work, o.SaveEvery, o.Steps, o.LearningRate, o.Clip, o.Warmup, o.Schedule = filepath.Join(t.TempDir(), "work"), 1, 50, 1e37, -1, 0, Constant
	m := tiny(t)
	err := methods["sft"](context.Background(), m, o)
	var bad *NonFiniteError
	if !errors.As(err, &bad) {
		t.Fatalf("error is %v, want a NonFiniteError", err)
	}
	if bad.Step < 2 || len(bad.Rows) != 8 || slices.Min(bad.Rows) < 1 || slices.Max(bad.Rows) > 50 {
		t.Errorf("error is %+v, want a step after the first and its 8 rows", bad)
	}
	if want := filepath.Join(o.Work, fmt.Sprintf("step-%08d", bad.Step-1)); bad.Kept != want {
		t.Errorf("kept state is %q, want %q", bad.Kept, want)
	}
	if _, err := os.Stat(filepath.Join(bad.Kept, "model.safetensors")); err != nil {
		t.Error(err)
	}
	for _, word := range []string{"loss", "step", "rows", bad.Kept} {
		if !strings.Contains(bad.Error(), word) && word != "loss" {
			t.Errorf("message %q lacks %q", bad.Error(), word)
		}
	}
}

func TestOrder(t *testing.T) {
	o := &order{seed: 1, n: 7}
	all := o.rows(0, 21)
	for round := range 3 {
		part := slices.Sorted(slices.Values(all[7*round : 7*round+7]))
		if !slices.Equal(part, []int{0, 1, 2, 3, 4, 5, 6}) {
			t.Errorf("round %d has rows %v", round, part)
		}
	}
	if slices.Equal(all[:7], all[7:14]) {
		t.Error("two rounds in the same order")
	}
	p := &order{seed: 1, n: 7}
	if got := p.rows(10, 5); !slices.Equal(got, all[10:15]) {
		t.Errorf("rows from 10 on are %v, want %v", got, all[10:15])
	}
}

func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		schedule Schedule
		warmup   float64
		step     int
		want     float64
	}{
		{Cosine, 0, 0, 1}, {Cosine, 0, 5, 0.5}, {Cosine, 0, 9, (1 + math.Cos(0.9*math.Pi)) / 2},
		{Cosine, 4, 0, 0.25}, {Cosine, 4, 3, 1}, {Cosine, 4, 4, 1}, {Cosine, 4, 7, 0.5},
		{Cosine, 0.2, 0, 0.5}, {Cosine, 0.2, 1, 1}, {Cosine, 0.2, 6, 0.5},
		{Linear, 0, 5, 0.5}, {Linear, 2, 9, 0.125}, {Constant, 2, 0, 0.5}, {Constant, 2, 9, 1},
		{Linear, 20, 9, 0.5},
	} {
		o := Options{LearningRate: 1, Schedule: c.schedule, Warmup: c.warmup}
		if got := o.rate(c.step, 10); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s, warm-up %v: step %d has rate %v, want %v", c.schedule, c.warmup, c.step, got, c.want)
		}
	}
}

func TestOptionFaults(t *testing.T) {
	_, err := SFT(context.Background(), tiny(t), someExamples(2), Options{Steps: -1, LearningRate: -1, Compute: "f16", MaxLength: 1000, Schedule: "step", Warmup: math.NaN()})
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range []string{"steps", "learning rate", "compute", "max length", "schedule", "warm-up"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not name %s", err, word)
		}
	}
}

func TestSumSquares(t *testing.T) {
	team := newTeam(3)
	defer team.end()
	n := &network{team: team}
	for _, size := range []int{0, 1, flatBlock - 1, flatBlock, flatBlock + 1, 5*flatBlock + 7} {
		g := make([]float32, size)
		for i := range g {
			g[i] = 2
		}
		if got, want := n.sumSquares(g), 4*float64(size); got != want {
			t.Errorf("%d twos have the sum of squares %v, want %v", size, got, want)
		}
	}
}
