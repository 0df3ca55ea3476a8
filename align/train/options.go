package train

import (
	"errors"
	"fmt"
	"math"
	"runtime"

	"expo/internal/kernel"
	"expo/lm/model"
)

// Options say how to train. Zero values mean what each field says.
type Options struct {
	// Steps is the number of optimizer steps; 0 leaves it to Epochs, the number
	// of times that every row is seen (0: once).
	Steps  int
	Epochs float64
	// BatchSize is how many rows are computed at once (0: 8), GradAccumulation
	// how many such batches make a step (0: 1).
	BatchSize, GradAccumulation int

	// LearningRate is the highest (0: 2e-5 for SFT, 1e-6 for DPO, 5e-7 for SPPO,
	// 1e-4 for reward models).
	LearningRate float64
	// Warmup is how many steps the learning rate takes to get there; below 1 it
	// is a share of all steps.
	Warmup   float64
	Schedule Schedule

	// WeightDecay is for matrices and embeddings only.
	WeightDecay float64
	// Clip is the largest norm of the whole gradient (0: 1); below 0 there is
	// no limit.
	Clip float64
	// Beta1, Beta2 and Epsilon are AdamW's (0: 0.9, 0.999, 1e-8).
	Beta1, Beta2, Epsilon float64

	// Seed decides about the order of rows and about new heads.
	Seed uint64
	// MaxLength is where sequences are cut, in tokens (0: 1024, or
	// max_position_embeddings if that is less).
	MaxLength int
	// Raw takes text as it stands, without the chat template.
	Raw bool

	// Jobs is the number of threads (0: one for each that Go runs). It never
	// shows in a result.
	Jobs    int
	Compute Compute

	// Work is a folder for what an interrupted run needs to go on: made if it
	// is not there, and left to the caller to remove. Without one nothing is
	// kept. The same call with the same folder goes on where it ended.
	Work string
	// SaveEvery is how many steps lie between two saved states (0: 100; below 0:
	// none).
	SaveEvery int

	// Log is told of every step, Note of what else happens. Both may be nil.
	Log  func(Step)
	Note func(string)
}

// Schedule is how the learning rate falls after the warm-up.
type Schedule string

const (
	Cosine   Schedule = "cosine" // to 0, half a period; also the zero value
	Linear   Schedule = "linear" // to 0
	Constant Schedule = "constant"
)

// Compute is the format of the factors of products with weights. Sums, weights,
// gradients and the optimizer's moments are float32 in any case.
type Compute string

const (
	F32  Compute = "f32" // also the zero value
	BF16 Compute = "bf16"
)

func (c Compute) format() kernel.Format {
	if c == BF16 {
		return kernel.BF16
	}
	return kernel.F32
}

// defaults fills in the zero values, or says all that is wrong.
func (o Options) defaults(rate float64, cfg *model.Config) (Options, error) {
	def := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	whole := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.Epochs, 1)
	whole(&o.BatchSize, 8)
	whole(&o.GradAccumulation, 1)
	def(&o.LearningRate, rate)
	if o.Schedule == "" {
		o.Schedule = Cosine
	}
	if o.Compute == "" {
		o.Compute = F32
	}
	def(&o.Clip, 1)
	def(&o.Beta1, 0.9)
	def(&o.Beta2, 0.999)
	def(&o.Epsilon, 1e-8)
	whole(&o.MaxLength, min(1024, cfg.MaxPositionEmbeddings))
	whole(&o.SaveEvery, 100)
	whole(&o.Jobs, runtime.GOMAXPROCS(0))

	var faults []error
	must := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	finite := func(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
	must(o.Steps >= 0, "steps are %d, want 0 or more", o.Steps)
	must(finite(o.Epochs) && o.Epochs > 0, "epochs are %v, want more than 0", o.Epochs)
	must(o.BatchSize > 0, "batch size is %d, want 1 or more", o.BatchSize)
	must(o.GradAccumulation > 0, "gradient accumulation is %d, want 1 or more", o.GradAccumulation)
	must(finite(o.LearningRate) && o.LearningRate > 0, "learning rate is %v, want more than 0", o.LearningRate)
	must(finite(o.Warmup) && o.Warmup >= 0, "warm-up is %v, want 0 or more", o.Warmup)
	must(o.Schedule == Cosine || o.Schedule == Linear || o.Schedule == Constant, "schedule is %q, want cosine, linear or constant", o.Schedule)
	must(o.Compute == F32 || o.Compute == BF16, "compute is %q, want f32 or bf16", o.Compute)
	must(finite(o.WeightDecay) && o.WeightDecay >= 0, "weight decay is %v, want 0 or more", o.WeightDecay)
	must(finite(o.Clip), "clip is %v, want a number", o.Clip)
	must(o.Beta1 > 0 && o.Beta1 < 1 && o.Beta2 > 0 && o.Beta2 < 1, "betas are %v and %v, want them between 0 and 1", o.Beta1, o.Beta2)
	must(finite(o.Epsilon) && o.Epsilon > 0, "epsilon is %v, want more than 0", o.Epsilon)
	must(o.MaxLength >= 2 && o.MaxLength <= cfg.MaxPositionEmbeddings, "max length is %d, want 2 to max_position_embeddings, %d", o.MaxLength, cfg.MaxPositionEmbeddings)
	if faults != nil {
		return o, fmt.Errorf("train: %w", errors.Join(faults...))
	}
	return o, nil
}

// rate is the learning rate of a step, from 0 on: rising in a straight line over
// the warm-up, whose last step has all of it, then as the schedule says. This is
// transformers' get_cosine_schedule_with_warmup, one step earlier: there the first
// step has a rate of 0.
func (o *Options) rate(step, steps int) float64 {
	warmup := o.Warmup
	if warmup < 1 {
		warmup = math.Ceil(warmup * float64(steps))
	}
	s := float64(step)
	if s < warmup {
		return o.LearningRate * (s + 1) / warmup
	}
	part := (s - warmup) / max(1, float64(steps)-warmup)
	switch o.Schedule {
	case Linear:
		return o.LearningRate * (1 - part)
	case Constant:
		return o.LearningRate
	}
	return o.LearningRate * (1 + math.Cos(math.Pi*part)) / 2
}

// stepsFor is the number of steps over n rows.
func (o *Options) stepsFor(n int) int {
	if o.Steps > 0 {
		return o.Steps
	}
	return max(1, int(math.Ceil(o.Epochs*float64(n)/float64(o.BatchSize*o.GradAccumulation))))
}
