package alpacaeval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"golang.org/x/sync/errgroup"

	"expo/eval"
	"expo/eval/judge"
)

// Bootstrap says how intervals are found: by drawing as many instructions as
// there are, with replacement, Draws times.
type Bootstrap struct {
	Draws int // 1000 if 0
	Seed  uint64
	Jobs  int // draws computed at once, 1 if 0; the result does not depend on it
}

// level is the confidence of intervals.
const level = 0.95

func (b Bootstrap) interval(values []float64) *eval.Interval {
	slices.Sort(values)
	return &eval.Interval{Level: level, Low: quantile(values, (1-level)/2), High: quantile(values, (1+level)/2),
		Method: fmt.Sprintf("percentile bootstrap over instructions, %d draws, seed %d", len(values), b.Seed)}
}

// quantile interpolates linearly between sorted values.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := min(int(at), len(sorted)-2)
	if i < 0 {
		return sorted[0]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// draw counts how often each of n rows is drawn the i-th time.
func (b Bootstrap) draw(i, n int, counts []int) {
	r := rand.New(rand.NewPCG(b.Seed, uint64(i)))
	clear(counts)
	for range n {
		counts[r.IntN(n)]++
	}
}

func (b Bootstrap) draws() int {
	if b.Draws == 0 {
		return 1000
	}
	return b.Draws
}

// WinRateInterval is the interval of the win rate; nil without a judgment.
func (b Bootstrap) WinRateInterval(preferences []float64) *eval.Interval {
	var q []float64
	for _, preference := range preferences {
		if p, ok := Valid(preference); ok {
			q = append(q, 100*(p-1))
		}
	}
	if len(q) == 0 {
		return nil
	}
	values := make([]float64, b.draws())
	for i := range values {
		r := rand.New(rand.NewPCG(b.Seed, uint64(i)))
		sum := 0.0
		for range q {
			sum += q[r.IntN(len(q))]
		}
		values[i] = sum / float64(len(q))
	}
	return b.interval(values)
}

// LCInterval is the interval of a length-controlled win rate that was computed
// from the same rows with the same options: lengths are standardized and the
// model is fitted anew for every draw, at the C of lc. It holds what the
// choice of instructions does to the rate, the fit included, and neither the
// judge's own noise nor the choice of C.
func (b Bootstrap) LCInterval(ctx context.Context, j *Judged, ref *Reference, opt LCOptions, lc LC) (*eval.Interval, error) {
	p, err := newProblem(j, ref, opt)
	if err != nil || p.self {
		return nil, err
	}
	values := make([]float64, b.draws())
	g, ctx := errgroup.WithContext(ctx)
	jobs := max(b.Jobs, 1)
	for w := range jobs {
		g.Go(func() error {
			d := newResampler(p, j, lc)
			for i := w; i < len(values); i += jobs {
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				b.draw(i, len(j.Rows), d.counts)
				values[i] = d.rate()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return b.interval(values), nil
}

// resampler fits draws of a model's rows.
type resampler struct {
	p      *problem
	all    []Comparison
	start  []float64 // the weights of all rows
	c      float64
	counts []int
	fit    *fit
	gamed  totals
	drawn  rows // gamed rows, then those that were drawn
	delta  []float64
}

func newResampler(p *problem, j *Judged, lc LC) *resampler {
	r := &resampler{p: p, all: j.Rows, c: lc.C, counts: make([]int, len(j.Rows)), fit: newFit(p.use), drawn: newRows(p.gamed + len(j.Rows))}
	r.start = []float64{lc.Weights.Tanh, lc.Weights.Difficulty, lc.Weights.Intercept}
	if p.glm == Minimal {
		r.start = []float64{lc.Weights.Tanh, lc.Weights.Intercept}
	}
	for i := range p.gamed {
		r.drawn.add(p.x[0][i], p.x[1][i], p.x[2][i], p.a[i], p.b[i])
	}
	r.gamed = r.drawn.totals()
	r.delta, _ = lengthDifferences(j.Rows)
	return r
}

// rate is the length-controlled win rate of the rows as often as they were
// drawn.
func (r *resampler) rate() float64 {
	n, mean, squares := 0.0, 0.0, 0.0
	for i, k := range r.counts {
		n += float64(k)
		mean += float64(k) * r.delta[i]
	}
	mean /= n
	for i, k := range r.counts {
		squares += float64(k) * (r.delta[i] - mean) * (r.delta[i] - mean)
	}
	sd := math.Sqrt(squares / (n - 1))
	r.drawn = r.drawn.part(0, r.p.gamed)
	for i, k := range r.counts {
		y, ok := Valid(r.all[i].Preference)
		if k == 0 || !ok {
			continue
		}
		d := 0.0
		if r.p.difficulty != nil {
			d = r.p.difficulty[i]
		}
		r.drawn.add(standardized(r.delta[i], sd), d, 1, float64(k)*(y-1), float64(k)*(2-y))
	}
	f := r.fit
	f.on(r.drawn.part(r.p.gamed, r.drawn.n()))
	f.rows = r.drawn
	f.totals.add(&r.gamed)
	if !f.refine(r.c, r.start) {
		f.solve(r.c, gridSeeds[0])
	}
	w := r.p.weights(f.w)
	sum := 0.0
	for i, k := range r.counts {
		if k > 0 {
			z := w.Intercept
			if r.p.difficulty != nil {
				z += w.Difficulty * r.p.difficulty[i]
			}
			sum += float64(k) * sigmoid(z)
		}
	}
	return 100 * sum / n
}

// refine goes from weights near the optimum at strength c to it, and tells
// whether it arrived.
func (f *fit) refine(c float64, start []float64) bool {
	copy(f.w, start)
	f.random = judge.NewTwister(gridSeeds[0])
	return f.newton(c, 1e-3)
}
