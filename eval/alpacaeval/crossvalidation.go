package alpacaeval

import (
	"math"
	"slices"

	"expo/eval/judge"
)

// nearTie bounds how far apart the mean scores of two C may be for the choice
// between them to depend on where liblinear stops. On the published annotations
// its scores differ from those of the optimum by up to 5.4e−6, much the same at
// every C; where both disagree about the best, that is by up to 3.6e−6.
const nearTie = 5e-6

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
				mean[g] += p.score(w, test, f.powers) / foldCount
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
	f.fused = len(p.x) == 3 && f.cut(len(train))
	for g, c := range grid {
		if !f.newton(len(train), c, 2e-3) {
			return nil, false
		}
		out[g] = slices.Clone(f.w)
	}
	return out, true
}

// newton goes from f.w to the optimum at strength c, with rows weighted before
// c, until a step is smaller than near, and tells whether it arrived: what is
// left is of the order of near².
func (f *fit) newton(n int, c, near float64) bool {
	const steps, goal = 30, 1e-10
	for range steps {
		if !f.fused || !f.slopeAt3() {
			f.exponentials(n)
			f.differentiate(n)
		}
		for j := range f.grad {
			f.grad[j] *= c
			for k := range f.gram[j] {
				f.gram[j][k] *= c
			}
		}
		if !f.jump() {
			copy(f.u, f.w)
			for j := range f.idx {
				f.idx[j] = j
			}
			f.descend(len(f.w), 1, goal)
		}
		step := 0.0
		for j := range f.w {
			step = max(step, math.Abs(f.u[j]-f.w[j]))
		}
		if !(step < 20) {
			return false
		}
		copy(f.w, f.u)
		if step < near {
			return true
		}
	}
	return false
}

// jump minimizes the quadratic model around w over u in one go, if no weight
// changes its sign or leaves zero for good, and tells whether that is so.
func (f *fit) jump() bool {
	var h [3][4]float64 // the equations of the weights that move
	var at [3]int
	var sign [3]float64
	n := 0
	for j, w := range f.w {
		switch {
		case w > 0 || w == 0 && f.grad[j] < -1:
			sign[j] = 1
		case w < 0 || w == 0 && f.grad[j] > 1:
			sign[j] = -1
		default:
			continue
		}
		at[n] = j
		n++
	}
	for r := range n {
		j := at[r]
		for c := range n {
			h[r][c] = f.gram[j][at[c]]
		}
		h[r][r] += nu
		h[r][3] = -(f.grad[j] + sign[j])
	}
	for r := range n { // the matrix is positive definite: no pivots
		if !(h[r][r] > 0) {
			return false
		}
		for below := r + 1; below < n; below++ {
			m := h[below][r] / h[r][r]
			for c := r; c < 4; c++ {
				h[below][c] -= m * h[r][c]
			}
		}
	}
	copy(f.u, f.w)
	for r := n - 1; r >= 0; r-- {
		for c := r + 1; c < n; c++ {
			h[r][3] -= h[r][c] * h[c][3]
		}
		h[r][3] /= h[r][r]
		f.u[at[r]] += h[r][3]
	}
	for j, u := range f.u {
		if sign[j] != 0 {
			if !(u*sign[j] > 0) {
				return false
			}
			continue
		}
		g := f.grad[j]
		for r := range n {
			g += f.gram[j][at[r]] * h[r][3]
		}
		if !(math.Abs(g) <= 1) {
			return false
		}
	}
	return true
}

// score is the weighted log-likelihood of rows, divided by their number.
// Probabilities are kept at least 1e−15 from 0 and 1.
func (p *problem) score(w []float64, rows []int, powers *expTable) float64 {
	const least, near = 1e-15, 34
	sum, product, weight := 0.0, 1.0, 0.0
	for i, r := range rows {
		z := 0.0
		for j := range w {
			z += w[j] * p.x[j][r]
		}
		a, b := p.a[r], p.b[r]
		if !(math.Abs(z) < near) {
			q := min(max(sigmoid(z), least), 1-least)
			sum += a*math.Log(q) + b*math.Log(1-q)
			continue
		}
		// a log q + b (log q − z), the logarithms of rows with the same weight
		// taken together: log q is −log(1 + e^−z).
		if c := a + b; math.Abs(c-weight) > 1e-12*weight || i%run == 0 {
			sum -= weight * math.Log(product)
			product, weight = 1, c
		}
		product *= 1 + powers.one(-z)
		sum -= b * z
	}
	return (sum - weight*math.Log(product)) / float64(max(len(rows), 1))
}
