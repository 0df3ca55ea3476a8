package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"

	"expo/align/train"
	"expo/weights/checkpoint"
)

// trainFlags are those of every method.
type trainFlags struct {
	model, config string
	data          string
	output        string
	force         bool
	schedule      string
	compute       string
	opt           train.Options
}

func (a *app) train() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "train sft|dpo|sppo|reward",
		Short: "Train small models in this process: both ends of a pair, and a reward model",
		Long: `Train all parameters of a Llama, Mistral or Qwen2 model on the CPU, in float32: meant
for models of up to some 150 million parameters. The result is a model directory like
any other, with train.jsonl (a line per step) and loss.svg.

The same command gives the same weights, bit for bit, whatever --jobs is. A run that
was interrupted or killed goes on from the last state saved (--save-every), beside the
output in .NAME.train, and ends with the same weights, too.
` + exitHelp,
		Example: `  expo train dpo --model expo-demo/sft --data expo-demo/pairs.jsonl --steps 25 --lr 1e-4 -o again
  expo train sft --config tiny --data sft.jsonl --steps 500 --lr 1e-3 -o sft
  expo train dpo --model sft --data pairs.jsonl --steps 25 --lr 1e-4 -o dpo
  expo train reward --model sft --data pairs.jsonl -o rm
  expo train sppo --model sft --data prompts.jsonl --reward rm --iterations 3 -o sppo`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("expo train knows sft, dpo, sppo and reward, not %q", args[0])
			}
			return usagef("say how to train: expo train sft, dpo, sppo or reward")
		},
	}
	cmd.AddCommand(a.trainSFT(), a.trainDPO(), a.trainSPPO(), a.trainReward())
	return cmd
}

func (f *trainFlags) add(cmd *cobra.Command, data string, scratch bool) {
	fl := cmd.Flags()
	o := &f.opt
	fl.StringVar(&f.model, "model", "", "the `MODEL` to start from")
	if scratch {
		fl.StringVar(&f.config, "config", "", "start from scratch: a `DIR` with config.json and a tokenizer, such as another model's; its weights are not read")
	}
	fl.StringVar(&f.data, "data", "", "a JSONL `FILE` of "+data)
	fl.StringVarP(&f.output, "output", "o", "", "the `DIR` to write the model to")
	fl.BoolVar(&f.force, "force", false, "replace an existing output, and an unfinished run with other settings")
	fl.IntVar(&o.Steps, "steps", 0, "optimizer steps (default: what --epochs makes)")
	fl.Float64Var(&o.Epochs, "epochs", 1, "how often each row is seen, without --steps")
	fl.IntVar(&o.BatchSize, "batch-size", 8, "rows computed at once")
	fl.IntVar(&o.GradAccumulation, "grad-accumulation", 1, "batches that make a step")
	fl.Float64Var(&o.LearningRate, "lr", 0, "highest learning rate (default: 2e-5 for sft, 5e-4 with --config, 1e-6 for dpo, 5e-7 for sppo, 1e-4 for reward)")
	fl.Float64Var(&o.Warmup, "warmup", 0, "steps in which the learning rate rises; below 1 a share of all steps")
	fl.StringVar(&f.schedule, "schedule", "cosine", "`cosine|linear|constant`: how the learning rate falls after that")
	fl.Float64Var(&o.WeightDecay, "weight-decay", 0, "AdamW's, for matrices and embeddings")
	fl.Float64Var(&o.Clip, "clip", 1, "largest norm of the gradient; below 0 there is no limit")
	fl.Float64Var(&o.Beta1, "adam-beta1", 0.9, "decay of the mean of the gradient")
	fl.Float64Var(&o.Beta2, "adam-beta2", 0.999, "decay of the mean of its square")
	fl.Float64Var(&o.Epsilon, "adam-epsilon", 1e-8, "added to the root of that")
	fl.Uint64Var(&o.Seed, "seed", 0, "of new weights, and of the order of the rows")
	fl.IntVar(&o.MaxLength, "max-length", 0, "tokens at which a row is cut (default: 1024, or what the model has positions for)")
	fl.BoolVar(&o.Raw, "raw", false, "use no chat template")
	fl.IntVar(&o.SaveEvery, "save-every", 100, "steps between two saved states; below 0 none are")
	fl.IntVarP(&o.Jobs, "jobs", "j", 0, "threads (default: the number of cores)")
	fl.StringVar(&f.compute, "compute", "f32", "`f32|bf16` for the factors of products with weights; bf16 is faster where the processor multiplies it")
}

// trained runs a method: it opens the model, calls f, and writes the result.
func (a *app) trained(ctx context.Context, f *trainFlags, method func(m *train.Model, data io.Reader) (*train.Report, error)) error {
	switch {
	case f.model == "" && f.config == "":
		return usagef("the model to start from is needed: --model MODEL")
	case f.model != "" && f.config != "":
		return usagef("--model and --config contradict each other")
	case f.data == "":
		return usagef("--data FILE is needed")
	case f.output == "":
		return usagef("-o DIR is needed")
	}
	f.opt.Schedule, f.opt.Compute = train.Schedule(f.schedule), train.Compute(f.compute)
	if _, err := os.Lstat(f.output); err == nil && !f.force {
		return fmt.Errorf("%s %w; use --force to replace it", f.output, checkpoint.ErrExists)
	}
	data, err := os.Open(f.data)
	if err != nil {
		return err
	}
	defer data.Close()
	m, err := f.start(ctx)
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(f.output)
	if err != nil {
		return err
	}
	f.opt.Work = filepath.Join(filepath.Dir(abs), "."+filepath.Base(abs)+".train")
	unlock, err := lockWork(f.opt.Work)
	if err != nil {
		return err
	}
	defer unlock()
	show := a.trainProgress()
	f.opt.Log, f.opt.Note = show.step, show.note
	report, err := method(m, data)
	show.stop()
	if errors.Is(err, train.ErrOtherRun) && f.force {
		a.say("starting over: %s held the state of a run with other settings", f.opt.Work)
		if err := clearWork(f.opt.Work); err != nil {
			return err
		}
		if _, err := data.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if m, err = f.start(ctx); err != nil {
			return err
		}
		report, err = method(m, data)
		show.stop()
	}
	if errors.Is(err, train.ErrOtherRun) {
		return fmt.Errorf("%w; give the settings and data it was begun with to go on, or use --force to start over", err)
	}
	if err != nil {
		return err
	}
	c, err := m.Checkpoint(f.output)
	if err != nil {
		return err
	}
	_, err = checkpoint.Write(ctx, f.output, c, checkpoint.WriteOptions{Force: f.force, Finish: func(*checkpoint.Written) (map[string][]byte, error) {
		return train.Files(f.opt.Work)
	}})
	if err != nil {
		return err
	}
	unlock()
	if err := os.RemoveAll(f.opt.Work); err != nil {
		return err
	}
	if report.Skipped > 0 {
		a.warn("%d rows were left out: there was nothing to learn from them", report.Skipped)
	}
	if report.Truncated > 0 {
		a.warn("%d sequences were cut at --max-length", report.Truncated)
	}
	if a.json {
		return a.printJSON(struct {
			Output     string `json:"output"`
			Parameters int    `json:"parameters"`
			*train.Report
			Last *train.Step `json:"last,omitempty"`
		}{f.output, m.Parameters(), report, report.Last})
	}
	_, err = fmt.Fprintln(a.out, f.output)
	return err
}

// start opens the model, or makes one from scratch.
func (f *trainFlags) start(ctx context.Context) (*train.Model, error) {
	if f.config != "" {
		if f.opt.LearningRate == 0 {
			f.opt.LearningRate = 5e-4
		}
		if info, err := os.Stat(filepath.Join(f.config, "config.json")); err != nil || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("--config %s holds no config.json: it is a directory with config.json and a tokenizer, such as that of any small model", f.config)
		}
		m, err := train.New(os.DirFS(f.config), f.opt.Seed)
		if err != nil {
			return nil, fmt.Errorf("--config %s: %w", f.config, err)
		}
		return m, nil
	}
	c, _, err := openModel(f.model)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return train.Open(ctx, c)
}

// reading names the data in an error about it.
func (f *trainFlags) reading(err error) error { return fmt.Errorf("--data %s: %w", f.data, err) }

// lockWork makes the folder of a run and keeps other processes out of it.
func lockWork(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	ok, err := lock.TryLock()
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", dir, checkpoint.ErrBusy)
	}
	if err != nil {
		return nil, err
	}
	return func() {
		lock.Close()
		// A run that has not come far leaves nothing.
		if entries, err := os.ReadDir(dir); err == nil && len(entries) == 1 && entries[0].Name() == "lock" {
			os.RemoveAll(dir)
		}
	}, nil
}

// clearWork empties the folder of a run, but for the lock.
func clearWork(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if err == nil && e.Name() != "lock" {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
	return err
}

// trainProgress tells how far training is: one line that changes on a terminal,
// otherwise a line now and then.
type trainProgress struct {
	a           *app
	began, last time.Time
	first       int // step at which this run began, from 0
	iteration   int
	open        bool // the line is not ended
}

func (a *app) trainProgress() *trainProgress { return &trainProgress{a: a, last: time.Now()} }

func (p *trainProgress) step(s train.Step) {
	now := time.Now()
	if p.began.IsZero() || s.Iteration != p.iteration {
		p.began, p.first, p.iteration = now, s.Step, s.Iteration
	}
	if p.a.quiet || p.a.json {
		return
	}
	every := lineEvery
	if p.a.terminal {
		every = 200 * time.Millisecond
	}
	if now.Sub(p.last) < every && s.Step < s.Steps {
		return
	}
	p.last = now
	line := fmt.Sprintf("expo: step %d/%d  loss %.4f", s.Step, s.Steps, s.Loss)
	if s.Iteration > 0 {
		line = fmt.Sprintf("expo: iteration %d, step %d/%d  loss %.4g", s.Iteration, s.Step, s.Steps, s.Loss)
	}
	if s.PreferenceStep != nil {
		line += fmt.Sprintf("  accuracy %.2f  margin %.3g", s.Accuracy, s.Margin)
	}
	line += fmt.Sprintf("  lr %.2g  %.0f tokens/s", s.LearningRate, s.TokensPerSecond)
	if done := s.Step - p.first; done > 0 {
		left := now.Sub(p.began) / time.Duration(done) * time.Duration(s.Steps-s.Step)
		line += fmt.Sprintf("  %v left", left.Round(time.Second))
	}
	if p.a.terminal {
		fmt.Fprintf(p.a.err, "\r\x1b[K%s", line)
		p.open = true
		return
	}
	fmt.Fprintln(p.a.err, line)
}

func (p *trainProgress) note(text string) {
	p.stop()
	p.a.say("%s", text)
}

// stop ends the line.
func (p *trainProgress) stop() {
	if p.open {
		fmt.Fprintln(p.a.err)
		p.open = false
	}
}
