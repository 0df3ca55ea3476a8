package alpacaeval

import (
	"math"
	"slices"

	"expo/eval/judge"
)

// nearTie bounds how far apart the mean scores of two C may be for the choice
// between them to depend on where liblinear stops. Its scores differ from those
// of the optimum by up to 5.4e−6 on the published annotations.
const nearTie = 2.5e-5

// choose picks C by the mean log-likelihood of five held-out folds, as
// sklearn's LogisticRegressionCV does with weighted scores. The scores of the
// optimum, which is quick to follow from one C to the next, tell which C can be
// the best; among those, liblinear's own fits decide.
func (p *problem) choose(rule Folds) float64 {
	grid := Grid()
	fold := rule.deal(p.n)
	var in []int
	if mean, ok := p.scores(fold, grid, p.followOptimum); ok {
		best := slices.Max(mean)
		for g := range grid {
			if mean[g] >= best-nearTie {
				in = append(in, g)
			}
		}
	} else {
		for g := range grid {
			in = append(in, g)
		}
	}
	if len(in) == 1 {
		return grid[in[0]]
	}
	mean, _ := p.scores(fold, grid, func(f *fit, train []int, grid []float64) ([][]float64, bool) {
		return p.solveThese(f, train, grid, in), true
	})
	best := in[0]
	for _, g := range in {
		if mean[g] > mean[best] {
			best = g
		}
	}
	return grid[best]
}

// scores are the mean held-out scores; fits gives the weights at every C of the
// rows in train, nil where they are not wanted, and whether it could.
func (p *problem) scores(fold []int, grid []float64, fits func(f *fit, train []int, grid []float64) ([][]float64, bool)) ([]float64, bool) {
	mean := make([]float64, len(grid))
	f := newFit(len(p.x), p.n)
	train, test := make([]int, 0, p.n), make([]int, 0, p.n)
	for k := range foldCount {
		train, test = train[:0], test[:0]
		for r, in := range fold {
			if in == k {
				test = append(test, r)
			} else {
				train = append(train, r)
			}
		}
		for j := range p.x {
			for i, r := range train {
				f.x[j][i] = p.x[j][r]
			}
		}
		ws, ok := fits(f, train, grid)
		if !ok {
			return nil, false
		}
		for g, w := range ws {
			if w != nil {
				mean[g] += p.score(w, test) / foldCount
			}
		}
	}
	return mean, true
}

// solveThese fits as liblinear does, at some C of the grid.
func (p *problem) solveThese(f *fit, train []int, grid []float64, in []int) [][]float64 {
	out := make([][]float64, len(grid))
	for _, g := range in {
		for i, r := range train {
			f.a[i], f.b[i] = grid[g]*p.a[r], grid[g]*p.b[r]
		}
		f.solve(len(train), gridSeeds[g])
		out[g] = slices.Clone(f.w)
	}
	return out
}

// followOptimum goes from the optimum at one C to that at the next by Newton's
// method.
func (p *problem) followOptimum(f *fit, train []int, grid []float64) ([][]float64, bool) {
	out := make([][]float64, len(grid))
	f.random = judge.NewTwister(gridSeeds[0])
	clear(f.w)
	for i, r := range train {
		f.a[i], f.b[i] = p.a[r], p.b[r]
	}
	for g, c := range grid {
		if !f.newton(len(train), c) {
			return nil, false
		}
		out[g] = slices.Clone(f.w)
	}
	return out, true
}

// newton goes from f.w to the optimum at strength c, with rows weighted before
// c, and tells whether it arrived.
func (f *fit) newton(n int, c float64) bool {
	const steps, goal, near = 30, 1e-10, 1e-4
	for range steps {
		f.exponentials(n)
		f.differentiate(n)
		for j := range f.grad {
			f.grad[j] *= c
			for k := range f.gram[j] {
				f.gram[j][k] *= c
			}
		}
		copy(f.u, f.w)
		for j := range f.idx {
			f.idx[j] = j
		}
		f.descend(len(f.w), 1, goal)
		step := 0.0
		for j := range f.w {
			step = max(step, math.Abs(f.u[j]-f.w[j]))
		}
		if !(step < 20) {
			return false
		}
		copy(f.w, f.u)
		if step < near { // what is left is of the order of its square
			return true
		}
	}
	return false
}

// score is the weighted log-likelihood of rows, divided by their number.
// Probabilities are kept at least 1e−15 from 0 and 1.
func (p *problem) score(w []float64, rows []int) float64 {
	const least = 1e-15
	sum := 0.0
	for _, r := range rows {
		z := 0.0
		for j := range w {
			z += w[j] * p.x[j][r]
		}
		if math.Abs(z) < 34 { // log(1 − q) = log q − z, and no bound is near
			q := -math.Log1p(math.Exp(-z))
			sum += p.a[r]*q + p.b[r]*(q-z)
			continue
		}
		q := min(max(sigmoid(z), least), 1-least)
		sum += p.a[r]*math.Log(q) + p.b[r]*math.Log(1-q)
	}
	return sum / float64(max(len(rows), 1))
}
