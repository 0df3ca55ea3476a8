package cli

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"expo/eval"
	"expo/eval/alpacaeval"
	"expo/eval/mtbench"
)

// compareMeasured groups what was measured, pairs models, and tests their
// differences.
func compareMeasured(ctx context.Context, f *reportFlags, all []*measured, test *lcTest) (*comparedResults, error) {
	out := &comparedResults{title: "Results"}
	for _, m := range all {
		for _, w := range m.warnings {
			out.warn("%s", w)
		}
	}
	var unknown []string
	for _, with := range slices.Sorted(maps.Keys(f.baseOf)) {
		for _, name := range []string{f.baseOf[with], with} {
			if !slices.ContainsFunc(all, func(m *measured) bool { return m.model == name }) {
				unknown = append(unknown, name)
			}
		}
	}
	if len(unknown) > 0 {
		return nil, refusef("--pair: no result is of %s; names are those that results have", strings.Join(unknown, ", "))
	}
	groupMeasured(f, all, out)
	type task struct {
		g         *reportGroup
		model, to *measured
		of        measure
	}
	var tasks []task
	for _, g := range out.groups {
		if g.suite == suitePairs { // a game is a comparison already
			continue
		}
		paired := false
		add := func(model, than *measured) {
			for _, x := range g.measures {
				tasks = append(tasks, task{g: g, model: model, to: than, of: x})
			}
		}
		for _, r := range g.rows {
			if r.base != nil && r.with != nil {
				paired = true
				add(r.with, r.base)
			}
		}
		if !paired && len(g.rows) == 2 && g.rows[0].base != nil && g.rows[1].base != nil {
			add(g.rows[1].base, g.rows[0].base)
		}
	}
	done := make([]*comparison, len(tasks))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, t := range tasks {
		group.Go(func() error {
			c, err := compareTwo(ctx, t.model, t.to, t.of.name, test)
			if c != nil {
				c.title, c.format = t.of.title, t.of.format
			}
			done[i] = c
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i, t := range tasks {
		if done[i] != nil {
			t.g.comparisons = append(t.g.comparisons, *done[i])
		}
	}
	if len(out.groups) == 0 {
		out.warn("no model has both an original and an ExPO; --pair MODEL=EXPO names those whose names do not tell")
	}
	return out, nil
}

// compareTwo is the difference of two models in a metric, a's minus b's: over
// the samples of both, if there are any, otherwise of the two figures. nil if
// one of them lacks the metric.
func compareTwo(ctx context.Context, a, b *measured, metric string, test *lcTest) (*comparison, error) {
	x, ok := a.metric(metric)
	y, both := b.metric(metric)
	if !ok || !both {
		return nil, nil
	}
	c := &comparison{with: a, base: b, model: a.model, than: b.model, metric: metric, value: x.Value - y.Value, apart: x.Value - y.Value, stdErr: math.NaN(), p: math.NaN()}
	switch {
	case metric == wrMetric:
		if p, q, ok := sharedJudgments(a, b); ok {
			c.value, c.stdErr, c.n = alpacaeval.PairedDifference(p, q)
			c.paired = true
			c.method = fmt.Sprintf("paired over %d instructions, normal", c.n)
		}
	case metric == lcMetric:
		return c, test.compare(ctx, c, a, b)
	case a.scores != nil && b.scores != nil:
		p, q := turnsOf(a.scores, metric), turnsOf(b.scores, metric)
		d := mtbench.Compare(p, q, 0)
		if d.Mean.N > 0 {
			c.value, c.stdErr, c.n, c.ci, c.p, c.paired = d.Mean.Value, d.Mean.StdErr, d.Mean.N, d.Mean.CI, d.P, true
			c.method = fmt.Sprintf("paired over %d questions, bootstrap; p by flipping signs", c.n)
			return c, nil
		}
	}
	if !c.paired {
		c.stdErr = math.Hypot(x.StdErr, y.StdErr)
		c.method = "not paired: no samples of both; errors added as if they were independent"
		if math.IsNaN(c.stdErr) {
			c.method = "not tested: no samples, and no standard errors of both"
		}
	}
	if c.stdErr >= 0 && !math.IsInf(c.stdErr, 0) && !math.IsNaN(c.value) {
		c.ci = &eval.Interval{Level: 0.95, Low: c.value - z95*c.stdErr, High: c.value + z95*c.stdErr, Method: c.method}
		c.p = 1
		if c.stdErr > 0 {
			c.p = math.Erfc(math.Abs(c.value) / c.stdErr / math.Sqrt2)
		} else if c.value != 0 {
			c.p = 0
		}
	}
	return c, nil
}

// turnsOf keeps the ratings of one turn, for its metric.
func turnsOf(s *mtbench.Scores, metric string) mtbench.Scores {
	out := *s
	out.Questions = slices.Clone(s.Questions)
	for i := range out.Questions {
		switch metric {
		case "turn1":
			out.Questions[i].Turns[1] = math.NaN()
		case "turn2":
			out.Questions[i].Turns[0] = math.NaN()
		}
	}
	return out
}

// sharedJudgments are the judgments of two models as sharedRows gives them. Rows
// that were counted off without a look at their instructions belong together
// only if none of either is missing.
func sharedJudgments(a, b *measured) (p, q *alpacaeval.Judged, ok bool) {
	if a.judged == nil || b.judged == nil {
		return nil, nil, false
	}
	if (a.counted || b.counted) && len(a.judged.Rows) != len(b.judged.Rows) && !(hasTexts(a.judged) && hasTexts(b.judged)) {
		return nil, nil, false
	}
	return sharedRows(a.judged, b.judged)
}

func hasTexts(j *alpacaeval.Judged) bool {
	return !slices.ContainsFunc(j.Rows, func(r alpacaeval.Comparison) bool { return r.Instruction == "" })
}

// sharedRows gives two sets' rows places by which they can be matched: by
// instruction, if both have those, otherwise as they are. It fails if they have
// no places, or none in common.
func sharedRows(a, b *alpacaeval.Judged) (p, q *alpacaeval.Judged, ok bool) {
	places := map[string]int{}
	if hasTexts(a) && hasTexts(b) {
		placed := func(j *alpacaeval.Judged) *alpacaeval.Judged {
			out := *j
			out.Rows = slices.Clone(j.Rows)
			for i, r := range out.Rows {
				n, ok := places[r.Instruction]
				if !ok {
					n = len(places)
					places[r.Instruction] = n
				}
				out.Rows[i].Index = n
			}
			return &out
		}
		p, q = placed(a), placed(b)
	} else {
		p, q = a, b
	}
	_, _, n := alpacaeval.PairedDifference(p, q)
	return p, q, n > 0
}

// wins count instructions by who of two models was preferred to the baseline; a
// draw is no win.
type wins struct {
	Both    int `json:"both"`
	ExPO    int `json:"only_expo"`
	Base    int `json:"only_original"`
	Neither int `json:"neither"`
	N       int `json:"n"`
}

// pairedRow is an instruction that was judged for both models, with the
// probabilities that they are preferred.
type pairedRow struct{ base, with float64 }

func pairedRows(base, with *measured) []pairedRow {
	if base == nil || with == nil {
		return nil
	}
	p, q, ok := sharedJudgments(base, with)
	if !ok {
		return nil
	}
	at := map[int]float64{}
	for _, r := range p.Rows {
		if x, ok := alpacaeval.Valid(r.Preference); ok && r.Index >= 0 {
			at[r.Index] = x - 1
		}
	}
	var out []pairedRow
	for _, r := range q.Rows {
		x, ok := alpacaeval.Valid(r.Preference)
		if y, both := at[r.Index]; ok && both {
			out = append(out, pairedRow{y, x - 1})
		}
	}
	return out
}

func winsOf(rows []pairedRow) wins {
	w := wins{N: len(rows)}
	for _, r := range rows {
		switch {
		case r.base > 0.5 && r.with > 0.5:
			w.Both++
		case r.with > 0.5:
			w.ExPO++
		case r.base > 0.5:
			w.Base++
		default:
			w.Neither++
		}
	}
	return w
}

// lcTest tests differences of length-controlled win rates: both models are
// fitted again, at the strength that they were fitted with, to instructions
// that are drawn with replacement, the same for both.
type lcTest struct {
	draws int
	gamed *alpacaeval.Gamed
	ref   *alpacaeval.Reference
	name  string
}

func (t *lcTest) read(path string) error {
	var err error
	if t.gamed, err = readWith(path, alpacaeval.ReadGamed); err != nil {
		return err
	}
	t.ref, t.name = t.gamed.Reference(), filepath.Base(path)
	return nil
}

func (t *lcTest) compare(ctx context.Context, c *comparison, a, b *measured) error {
	usable := func(m *measured) bool {
		return m.judged != nil && m.fit != nil && m.fit.c > 0 && (m.fit.glm == alpacaeval.Minimal || t.gamed != nil)
	}
	switch {
	case a.judged == nil || b.judged == nil:
		c.method = "not tested: no samples of both"
		return nil
	case t.draws < 40:
		c.method = "not tested: --bootstrap draws too few"
		return nil
	case !usable(a) || !usable(b):
		c.method = "not tested: --gamed FILE is needed to fit both again"
		return nil
	}
	// Rows are matched by what they share, and keep their places among the
	// difficulties.
	p, q := map[int]alpacaeval.Comparison{}, map[int]alpacaeval.Comparison{}
	var shared []int
	if x, y, ok := sharedJudgments(a, b); ok {
		for _, side := range []struct {
			to          map[int]alpacaeval.Comparison
			keys, value *alpacaeval.Judged
		}{{p, x, a.judged}, {q, y, b.judged}} {
			for k, r := range side.value.Rows {
				if r.Index >= 0 && (t.ref == nil || r.Index < len(t.ref.Difficulty)) {
					side.to[side.keys.Rows[k].Index] = r
				}
			}
		}
		for _, i := range slices.Sorted(maps.Keys(p)) {
			if _, ok := q[i]; ok {
				shared = append(shared, i)
			}
		}
	}
	if len(shared) < 2 {
		c.method = "not tested: no instruction is judged for both"
		return nil
	}
	values := make([]float64, t.draws)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for d := range values {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			r := rand.New(rand.NewPCG(1, uint64(d)))
			x := &alpacaeval.Judged{Model: a.model, Rows: make([]alpacaeval.Comparison, len(shared))}
			y := &alpacaeval.Judged{Model: b.model, Rows: make([]alpacaeval.Comparison, len(shared))}
			for k := range shared {
				i := shared[r.IntN(len(shared))]
				x.Rows[k], y.Rows[k] = p[i], q[i]
			}
			rate := func(j *alpacaeval.Judged, fit *lcFit) (float64, error) {
				lc, err := alpacaeval.LengthControlled(j, t.ref, alpacaeval.LCOptions{GLM: fit.glm, C: fit.c, Gamed: t.gamed})
				return lc.WinRate, err
			}
			u, err := rate(x, a.fit)
			if err != nil {
				return err
			}
			v, err := rate(y, b.fit)
			values[d] = u - v
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	mean, squares, below := 0.0, 0.0, 0
	for _, x := range values {
		mean += x / float64(len(values))
	}
	for _, x := range values {
		squares += (x - mean) * (x - mean)
		if x <= 0 {
			below++
		}
	}
	slices.Sort(values)
	tail := len(values) / 40
	c.n, c.paired = len(shared), true
	c.stdErr = math.Sqrt(squares / float64(len(values)-1))
	c.method = fmt.Sprintf("paired over %d instructions: both fitted again in %d bootstrap draws, seed 1, %s", c.n, t.draws, t.name)
	if t.name == "" {
		c.method = fmt.Sprintf("paired over %d instructions: both fitted again in %d bootstrap draws, seed 1", c.n, t.draws)
	}
	c.ci = &eval.Interval{Level: 0.95, Low: values[tail], High: values[len(values)-1-tail], Method: c.method}
	c.p = min(1, 2*float64(1+min(below, len(values)-below))/float64(1+len(values)))
	return nil
}
