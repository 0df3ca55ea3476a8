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
	d := p.deal(rule)
	all := make([]int, len(grid))
	for g := range all {
		all[g] = g
	}
	in := all
	if mean, ok := d.scores(grid, all, followOptimum); ok {
		best := slices.Max(mean)
		in = in[:0]
		for g := range grid {
			if mean[g] >= best-nearTie {
				in = append(in, g)
			}
		}
	}
	if len(in) == 1 {
		return grid[in[0]]
	}
	mean, _ := d.scores(grid, in, solveThese)
	best := in[0]
	for _, g := range in {
		if mean[g] > mean[best] {
			best = g
		}
	}
	return grid[best]
}

// dealt holds the rows of a problem twice, fold after fold, so that those in a
// fold lie together, and those in all others do.
type dealt struct {
	rows
	use  []int
	from [2*foldCount + 1]int // where a fold begins
	each [foldCount]totals
}

func (p *problem) deal(rule Folds) *dealt {
	fold := rule.deal(p.n())
	d := &dealt{rows: newRows(2 * p.n()), use: p.use}
	for k := range 2 * foldCount {
		for r, in := range fold {
			if in == k%foldCount {
				d.add(p.x[0][r], p.x[1][r], p.x[2][r], p.a[r], p.b[r])
			}
		}
		d.from[k+1] = d.n()
	}
	for k := range d.each {
		fold := d.fold(k)
		d.each[k] = fold.totals()
	}
	return d
}

func (d *dealt) fold(k int) rows { return d.part(d.from[k], d.from[k+1]) }

// leave makes f be of all folds but k.
func (d *dealt) leave(f *fit, k int) {
	f.rows, f.totals = d.part(d.from[k+1], d.from[k+foldCount]), totals{}
	for i := range d.each {
		if i != k {
			f.totals.add(&d.each[i])
		}
	}
}

// scores are the mean held-out scores at some C of the grid, 0 at the others.
// fits calls score after each fit of the rows of f, and tells whether it could.
func (d *dealt) scores(grid []float64, in []int, fits func(f *fit, grid []float64, in []int, score func(g int)) bool) ([]float64, bool) {
	mean := make([]float64, len(grid))
	f := newFit(d.use)
	for k := range foldCount {
		d.leave(f, k)
		test := d.fold(k)
		if !fits(f, grid, in, func(g int) { mean[g] += test.score(f.spread(f.w)) / foldCount }) {
			return nil, false
		}
	}
	return mean, true
}

// solveThese fits as liblinear does.
func solveThese(f *fit, grid []float64, in []int, score func(g int)) bool {
	for _, g := range in {
		f.solve(grid[g], gridSeeds[g])
		score(g)
	}
	return true
}

// followOptimum goes from the optimum at one C to that at the next by Newton's
// method.
func followOptimum(f *fit, grid []float64, in []int, score func(g int)) bool {
	f.random = judge.NewTwister(gridSeeds[0])
	clear(f.w)
	for _, g := range in {
		if !f.newton(grid[g], 2e-3) {
			return false
		}
		score(g)
	}
	return true
}

// newton goes from f.w to the optimum at strength c until a step is smaller than near, and tells whether it arrived: what is
// left is of the order of near².
func (f *fit) newton(c, near float64) bool {
	const steps, goal = 30, 1e-10
	for range steps {
		s := f.slope(f.w)
		f.differentiate(&s, c)
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
func (r *rows) score(w [3]float64) float64 {
	const least, near, run = 1e-15, 34, 16
	sum, product, weight := 0.0, 1.0, 0.0
	n := len(r.c)
	x0, x1, x2, a, b := r.x[0][:n], r.x[1][:n], r.x[2][:n], r.a[:n], r.b[:n]
	for i, c := range r.c {
		z := w[0]*x0[i] + w[1]*x1[i] + w[2]*x2[i]
		if !(math.Abs(z) < near) {
			q := min(max(sigmoid(z), least), 1-least)
			sum += a[i]*math.Log(q) + b[i]*math.Log(1-q)
			continue
		}
		// a log q + b (log q − z), the logarithms of rows with the same weight
		// taken together: log q is −log(1 + e^−z).
		if math.Abs(c-weight) > 1e-12*weight || i%run == 0 {
			sum -= weight * math.Log(product)
			product, weight = 1, c
		}
		product *= 1 + powers.one(-z)
		sum -= b[i] * z
	}
	return (sum - weight*math.Log(product)) / float64(max(n, 1))
}
