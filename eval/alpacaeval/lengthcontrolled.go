package alpacaeval

import (
	"errors"
	"fmt"
	"math"
)

// GLM is the name of a logistic model of preferences.
type GLM string

const (
	// V1 is the leaderboard's: length, difficulty and an intercept, with the
	// gamed rows.
	V1 GLM = "length_controlled_v1"
	// NoReg is V1 without the gamed rows.
	NoReg GLM = "length_controlled_noreg"
	// Minimal has length and an intercept only: for sets of instructions of
	// which no difficulty is known.
	Minimal GLM = "length_controlled_minimal"
)

// LCOptions say how a length-controlled win rate is computed.
type LCOptions struct {
	GLM   GLM     // V1 if empty
	C     float64 // strength of the fit against the penalty; 0 chooses it by cross-validation
	Folds Folds   // of cross-validation, Introsort if empty
	Gamed *Gamed  // for V1
}

// LC is a length-controlled win rate.
type LC struct {
	WinRate float64 // percent
	// StandardError is that of the predictions' mean over instructions, in
	// percentage points. It holds neither the judge's noise nor the fit's
	// uncertainty and is no confidence interval; see [LCInterval].
	StandardError float64
	Weights       Weights
	GLM           GLM
	C             float64
	Folds         Folds // by which C was chosen; empty if it was given
	// Neighbours are the rates at the next smaller and larger C of the grid:
	// how much the choice matters.
	Neighbours []AtC
	// Predictions are the probabilities that the model is preferred at equal
	// length, for every row: alpaca_eval's glm_preference.
	Predictions []float64
	// Unusual says that the rate is further from the win rate than
	// alpaca_eval finds plausible.
	Unusual bool
}

// AtC is the rate that another C gives, in percent.
type AtC struct {
	C       float64 `json:"c"`
	WinRate float64 `json:"length_controlled_winrate"`
}

// Grid are the values of C that cross-validation chooses from:
// np.logspace(−4, 4, 10).
func Grid() []float64 {
	grid := make([]float64, 10)
	for k := range grid {
		grid[k] = math.Pow(10, -4+8*float64(k)/9)
	}
	return grid
}

// gridSeeds are the solver seeds of the fits of a fold in the order of C, the
// first numbers of numpy's RandomState(123).randint(2³¹ − 1); the first is
// also that of the final fit.
var gridSeeds = [10]uint32{843828734, 914636141, 1228959102, 1840268610, 974319580, 819844194, 220395238, 941243409, 942612051, 2109339754}

// LengthControlled computes the length-controlled win rate of rows that have
// been placed in ref. A fit at a given C is deterministic to the bit on one
// machine.
func LengthControlled(j *Judged, ref *Reference, opt LCOptions) (LC, error) {
	p, err := newProblem(j, ref, opt)
	if err != nil {
		return LC{}, err
	}
	lc := LC{GLM: p.glm, C: opt.C}
	if p.self {
		lc.Predictions = make([]float64, len(j.Rows))
		for i := range lc.Predictions {
			lc.Predictions[i] = 0.5
		}
		lc.WinRate = 50
		return lc, nil
	}
	if opt.C == 0 {
		lc.Folds = opt.Folds
		if lc.Folds == "" {
			lc.Folds = Introsort
		}
		lc.C = p.choose(lc.Folds)
	}
	f := newFit(p.use)
	f.on(p.rows)
	f.solve(lc.C, gridSeeds[0])
	lc.Weights = p.weights(f.w)
	lc.Predictions = p.predict(lc.Weights)
	lc.WinRate, lc.StandardError = percent(lc.Predictions)
	for _, c := range neighbours(lc.C) {
		f.solve(c, gridSeeds[0])
		rate, _ := percent(p.predict(p.weights(f.w)))
		lc.Neighbours = append(lc.Neighbours, AtC{c, rate})
	}
	wr := NewWinRate(j.Preferences()).WinRate
	lc.Unusual = lc.WinRate < min(wr*3/4, wr-10) || lc.WinRate > max(wr+(100-wr)/4, wr+10)
	return lc, nil
}

// neighbours are the values of the grid on both sides of c.
func neighbours(c float64) []float64 {
	var out []float64
	grid := Grid()
	for k := len(grid) - 1; k >= 0; k-- {
		if grid[k] < c*(1-1e-9) {
			out = append(out, grid[k])
			break
		}
	}
	for _, g := range grid {
		if g > c*(1+1e-9) {
			out = append(out, g)
			break
		}
	}
	return out
}

// problem holds the training rows of a fit, gamed rows first.
type problem struct {
	rows
	glm        GLM
	self       bool      // the baseline against itself: nothing to fit
	gamed      int       // rows that are gamed
	use        []int     // columns that have a weight
	difficulty []float64 // of all of the model's rows, (all); nil for Minimal
	all        int       // rows of the model, with a judgment or without
}

func newProblem(j *Judged, ref *Reference, opt LCOptions) (*problem, error) {
	p := &problem{glm: opt.GLM, all: len(j.Rows), use: []int{0, 1, 2}}
	if p.glm == "" {
		p.glm = V1
	}
	fail := func(format string, args ...any) (*problem, error) {
		return nil, fmt.Errorf("alpacaeval: %s: "+format, append([]any{j.Model}, args...)...)
	}
	switch {
	case p.glm != V1 && p.glm != NoReg && p.glm != Minimal:
		return fail("no model of preferences is called %q; use %s, %s or %s", p.glm, V1, NoReg, Minimal)
	case p.glm == V1 && opt.Gamed == nil:
		return fail("%s needs the gamed rows", V1)
	case p.glm != Minimal && ref == nil:
		return fail("%s needs difficulties", p.glm)
	case math.IsNaN(opt.C) || math.IsInf(opt.C, 0) || opt.C < 0:
		return fail("C is %v, want above 0", opt.C)
	case len(j.Rows) < 2:
		return fail("a fit needs at least 2 rows, there are %d", len(j.Rows))
	}
	if p.glm != Minimal {
		p.difficulty = make([]float64, len(j.Rows))
		for i, r := range j.Rows {
			if r.Index < 0 || r.Index >= len(ref.Difficulty) {
				return fail("row %d has no place among the %d difficulties", i, len(ref.Difficulty))
			}
			p.difficulty[i] = ref.Difficulty[r.Index]
		}
	}
	if p.glm == Minimal {
		p.use = []int{0, 2}
	}
	if p.glm == V1 {
		p.gamed = len(opt.Gamed.Preference)
	}
	p.rows = newRows(p.gamed + len(j.Rows))
	if p.glm == V1 {
		const s = gamedWeight / gamedModels
		for i, y := range opt.Gamed.Preference {
			p.add(opt.Gamed.Tanh[i], opt.Gamed.Difficulty[i], 0, s*y, s*(1-y))
		}
	}
	delta, sd := lengthDifferences(j.Rows)
	p.self = true
	for i, r := range j.Rows {
		y, ok := Valid(r.Preference)
		p.self = p.self && ok && y == 1.5 && delta[i] == 0
		if !ok {
			continue
		}
		d := 0.0
		if p.difficulty != nil {
			d = p.difficulty[i]
		}
		p.add(standardized(delta[i], sd), d, 1, y-1, 2-y)
	}
	if p.n() == p.gamed {
		return fail("no comparison has a judgment")
	}
	return p, nil
}

// lengthDifferences are baseline minus model, and their sample standard
// deviation over all rows, those without a judgment included.
func lengthDifferences(rows []Comparison) (delta []float64, sd float64) {
	delta = make([]float64, len(rows))
	mean := 0.0
	for i, r := range rows {
		delta[i] = float64(r.LenBaseline - r.LenModel)
		mean += delta[i]
	}
	n := float64(len(rows))
	mean /= n
	squares := 0.0
	for _, d := range delta {
		squares += (d - mean) * (d - mean)
	}
	return delta, math.Sqrt(squares / (n - 1))
}

// standardized is the length column: not centred. Without any spread lengths
// explain nothing.
func standardized(delta, sd float64) float64 {
	if sd == 0 {
		return 0
	}
	return math.Tanh(delta / sd)
}

func (p *problem) weights(w []float64) Weights {
	if p.glm == Minimal {
		return Weights{Tanh: w[0], Intercept: w[1]}
	}
	return Weights{Tanh: w[0], Difficulty: w[1], Intercept: w[2]}
}

// predict are the probabilities at equal length, for every row.
func (p *problem) predict(w Weights) []float64 {
	out := make([]float64, p.all)
	for i := range out {
		z := w.Intercept
		if p.difficulty != nil {
			z += w.Difficulty * p.difficulty[i]
		}
		out[i] = sigmoid(z)
	}
	return out
}

// percent is the mean of probabilities and its standard error, in percent.
func percent(p []float64) (mean, stderr float64) {
	n := float64(len(p))
	for _, x := range p {
		mean += x
	}
	mean /= n
	squares := 0.0
	for _, x := range p {
		squares += (x - mean) * (x - mean)
	}
	return 100 * mean, 100 * math.Sqrt(squares/(n-1)) / math.Sqrt(n)
}

func sigmoid(z float64) float64 { return 1 / (1 + math.Exp(-z)) }

// Weights are what a fit found: of the standardized difference in length, of
// the instruction's difficulty, and of the model itself.
type Weights struct {
	Tanh       float64 `json:"tanh_std_delta_len"`
	Difficulty float64 `json:"instruction_difficulty"`
	Intercept  float64 `json:"not_gamed_baseline"`
}

// Against is the length-controlled win rate, in percent, of the model with
// weights w against the one with weights base, and the standard error of its
// mean over instructions. No judgment is needed beyond those of the two with
// a common baseline by a common judge; that baseline has weights 0. The rates
// in both directions add up to 100.
func (w Weights) Against(base Weights, difficulty []float64) (rate, stderr float64, err error) {
	if len(difficulty) == 0 {
		return 0, 0, errors.New("alpacaeval: no difficulties")
	}
	p := make([]float64, len(difficulty))
	for i, d := range difficulty {
		p[i] = sigmoid(w.Intercept - base.Intercept + (w.Difficulty-base.Difficulty)*d)
	}
	rate, stderr = percent(p)
	return rate, stderr, nil
}
