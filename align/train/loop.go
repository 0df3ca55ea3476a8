package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"expo/internal/kernel"
)

// A Step is what is logged of one optimizer step, a line of train.jsonl.
type Step struct {
	Step            int     `json:"step"` // from 1
	Steps           int     `json:"-"`    // in all
	Loss            float64 `json:"loss"`
	LearningRate    float64 `json:"lr"`
	GradNorm        float64 `json:"grad_norm"` // before clipping
	TokensPerSecond float64 `json:"tokens_per_second"`
	Iteration       int     `json:"iteration,omitempty"` // of SPPO, from 1

	*PreferenceStep
}

// A PreferenceStep is what is logged of training on pairs, means over a step:
// the rewards of both responses (for DPO and SPPO β times the change of their
// log-probability, for reward models the scores), the share of pairs where the
// chosen one has more, and by how much.
type PreferenceStep struct {
	Chosen   float64 `json:"rewards/chosen"`
	Rejected float64 `json:"rewards/rejected"`
	Accuracy float64 `json:"rewards/accuracies"`
	Margin   float64 `json:"rewards/margins"`
}

// A Report is what a run did.
type Report struct {
	Steps     int     `json:"steps"`
	Resumed   int     `json:"resumed"` // steps of an earlier run
	Rows      int     `json:"rows"`    // that were used
	Skipped   int     `json:"skipped"` // rows without a learned token within max length
	Truncated int     `json:"truncated"`
	Tokens    int64   `json:"tokens"` // read by the model in this run
	Seconds   float64 `json:"seconds"`
	Loss      float64 `json:"loss"` // of the last step
	// Score is the mean score of an iteration's answers, which the model gave
	// before it learned from them; SPPO only.
	Score float64 `json:"score,omitempty"`
	Last  *Step   `json:"-"`
}

// A NonFiniteError stops a run whose loss or gradient is no longer a number.
type NonFiniteError struct {
	What string // "loss" or "gradient"
	Step int    // from 1
	Rows []int  // of the data, from 1, that the step was computed from
	Kept string // folder of the last saved state, "" if there is none
}

func (e *NonFiniteError) Error() string {
	rows := fmt.Sprint(e.Rows)
	if len(e.Rows) > 16 {
		rows = fmt.Sprintf("%v and %d more", e.Rows[:16], len(e.Rows)-16)
	}
	kept := "; no state was saved before"
	if e.Kept != "" {
		kept = "; the last saved state is " + e.Kept
	}
	return fmt.Sprintf("train: the %s is not finite at step %d, rows %s%s; try a lower learning rate, or look at these rows", e.What, e.Step, rows, kept)
}

// A task is what is minimized: a mean over rows.
type task struct {
	method    string
	digest    func(*digest)            // of what decides the result besides Options
	rows      []int                    // numbers of the rows in the data, from 0
	weight    func(rows []int) float64 // what the losses of a step's rows are divided by
	batch     func(n *network, rows []int, weight float64) result
	pairs     bool
	iteration int // of SPPO, from 1

	// before runs once with the weights that training begins with. What it finds
	// out is in reference, which a run that goes on reads from its folder.
	before    func(ctx context.Context, n *network, rows []int) error
	reference [][2]float64
}

// A result is what a batch adds to its step: sums, not means.
type result struct {
	loss   float64 // divided by weight already
	tokens int
	stats  PreferenceStep
}

// run trains m by a task. rows are indices into t.rows throughout.
func (m *Model) run(ctx context.Context, t *task, o Options) (*Report, error) {
	team := newTeam(o.Jobs)
	defer team.end()
	g := make([]float32, m.layout.total)
	n := newNetwork(m.cfg, m.labels, m.layout, m.w, g, o.MaxLength, o.Compute.format(), team)
	steps := o.stepsFor(len(t.rows))
	s := &state{m: m, o: &o, t: t, m1: make([]float32, len(g)), m2: make([]float32, len(g))}
	key := ""
	if o.Work != "" {
		key = s.key()
	}
	if err := s.find(key); err != nil {
		return nil, err
	}
	order := &order{seed: o.Seed, n: len(t.rows)}
	perStep := o.BatchSize * o.GradAccumulation
	if t.before != nil {
		rows := order.rows(0, min(steps*perStep, len(t.rows)))
		if err := s.prepare(key, func() error { return t.before(ctx, n, rows) }); err != nil {
			return nil, err
		}
	}
	log, err := s.begin()
	if err != nil {
		return nil, err
	}
	defer log.close()

	report := &Report{Rows: len(t.rows), Resumed: s.step}
	start := time.Now()
	for s.step < steps {
		if err := ctx.Err(); err != nil {
			return nil, s.stopped(log, key, err)
		}
		began := time.Now()
		rows := order.rows(s.step*perStep, perStep)
		weight := t.weight(rows)
		clear(g)
		var sum result
		for lo := 0; lo < len(rows); lo += o.BatchSize {
			r := t.batch(n, rows[lo:min(lo+o.BatchSize, len(rows))], weight)
			sum.add(r)
			if err := ctx.Err(); err != nil {
				return nil, s.stopped(log, key, err)
			}
		}
		norm := math.Sqrt(n.sumSquares(g))
		what := ""
		if math.IsNaN(sum.loss) || math.IsInf(sum.loss, 0) {
			what = "loss"
		} else if math.IsNaN(norm) || math.IsInf(norm, 0) {
			what = "gradient"
		}
		if what != "" {
			e := &NonFiniteError{What: what, Step: s.step + 1, Kept: s.kept}
			for _, r := range rows {
				e.Rows = append(e.Rows, t.rows[r]+1)
			}
			return nil, e
		}
		rate := o.rate(s.step, steps)
		n.update(s, g, norm, rate)
		s.step++
		report.Tokens += int64(sum.tokens)
		line := Step{
			Step: s.step, Steps: steps, Iteration: t.iteration, Loss: sum.loss, LearningRate: rate, GradNorm: norm,
			TokensPerSecond: float64(sum.tokens) / time.Since(began).Seconds(),
		}
		if t.pairs {
			p := sum.stats.over(float64(len(rows)))
			line.PreferenceStep = &p
		}
		if err := log.write(line); err != nil {
			return nil, err
		}
		if o.Log != nil {
			o.Log(line)
		}
		report.Loss, report.Last = line.Loss, &line
		if o.Work != "" && o.SaveEvery > 0 && (s.step%o.SaveEvery == 0 || s.step == steps) {
			if err := s.save(log, key); err != nil {
				return nil, err
			}
		}
	}
	if report.Last == nil && s.last != nil { // an earlier run has done every step
		report.Loss, report.Last = s.last.Loss, s.last
	}
	report.Steps, report.Seconds = s.step, time.Since(start).Seconds()
	return report, nil
}

func (r *result) add(o result) {
	r.loss += o.loss
	r.tokens += o.tokens
	r.stats.Chosen += o.stats.Chosen
	r.stats.Rejected += o.stats.Rejected
	r.stats.Accuracy += o.stats.Accuracy
	r.stats.Margin += o.stats.Margin
}

func (p PreferenceStep) over(n float64) PreferenceStep {
	return PreferenceStep{p.Chosen / n, p.Rejected / n, p.Accuracy / n, p.Margin / n}
}

// order deals out rows: every row once, in an order drawn from the seed and the
// number of the round, then the next round. It needs no state.
type order struct {
	seed  uint64
	n     int
	round int
	perm  []int
}

// rows are count rows from place first of the whole sequence on.
func (o *order) rows(first, count int) []int {
	rows := make([]int, count)
	for i := range rows {
		at := first + i
		if round := at / o.n; o.perm == nil || round != o.round {
			o.round = round
			o.perm = rand.New(rand.NewPCG(o.seed, uint64(round))).Perm(o.n)
		}
		rows[i] = o.perm[at%o.n]
	}
	return rows
}

// flatBlock is how many weights are a piece of the optimizer's work.
const flatBlock = 1 << 16

// sumSquares is Σ g², in blocks whose sums are added in order.
func (n *network) sumSquares(g []float32) float64 {
	blocks := (len(g) + flatBlock - 1) / flatBlock
	sums := make([]float64, blocks)
	n.team.do(blocks, 1, flatBlock, func(_, lo, hi int) {
		for b := lo; b < hi; b++ {
			sums[b] = kernel.SumSquares(g[b*flatBlock : min((b+1)*flatBlock, len(g))])
		}
	})
	var sum float64
	for _, s := range sums {
		sum += s
	}
	return sum
}

// update is the optimizer's step.
func (n *network) update(s *state, g []float32, norm, rate float64) {
	o := s.o
	scale := 1.0
	if o.Clip > 0 && norm > o.Clip {
		scale = o.Clip / (norm + 1e-6) // as torch.nn.utils.clip_grad_norm_
	}
	t := float64(s.step + 1)
	a := kernel.AdamW{
		Scale: float32(scale), Beta1: float32(o.Beta1), Beta2: float32(o.Beta2), Epsilon: float32(o.Epsilon),
		Rate: float32(rate / (1 - math.Pow(o.Beta1, t))), Root: float32(1 / math.Sqrt(1-math.Pow(o.Beta2, t))),
	}
	for _, p := range s.m.layout.list {
		a.Decay = 1
		if p.kind == matrix {
			a.Decay = float32(1 - rate*o.WeightDecay)
		}
		w, m1, m2, dg := s.m.w[p.at:p.at+p.n], s.m1[p.at:p.at+p.n], s.m2[p.at:p.at+p.n], g[p.at:p.at+p.n]
		n.team.do(p.n, 1<<13, 8, func(_, lo, hi int) { a.Step(w[lo:hi], m1[lo:hi], m2[lo:hi], dg[lo:hi]) })
	}
}
