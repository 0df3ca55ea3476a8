package alpacaeval

import (
	"math"

	"expo/eval/judge"
)

// A fit is a logistic regression with L1 penalty on few dense columns, where
// a row may be a success and a failure in part:
//
//	minimize over w   Σ_j |w_j| + Σ_r a_r log(1 + e^−z_r) + b_r log(1 + e^z_r),   z_r = Σ_j w_j x_rj
//
// It is solved by newGLMNET as liblinear has it (Yuan, Ho and Lin 2012,
// https://www.jmlr.org/papers/v13/yuan12a.html; solver L1R_LR with sklearn's
// defaults tol = 1e−4 and max_iter = 100), which stops early: published
// figures agree with where it stops, not with the optimum.
//
// Columns being few, the inner problem is solved on their Gram matrix, which
// gives liblinear's steps up to rounding.
type fit struct {
	rows
	totals
	use    []int     // the columns that have a weight
	w, u   []float64 // (features)
	norm   float64   // |w|
	grad   []float64 // (features)
	gram   [][]float64
	idx    []int
	random *judge.Twister
}

const (
	solverTolerance = 1e-4
	solverSteps     = 100
	innerCycles     = 1000
	searchSteps     = 20
	nu              = 1e-12
	sufficient      = 0.01
)

// newFit is for fits of rows of which use are the columns that have a weight.
func newFit(use []int) *fit {
	features := len(use)
	f := &fit{
		use: use, w: make([]float64, features), u: make([]float64, features), grad: make([]float64, features),
		gram: make([][]float64, features), idx: make([]int, features),
	}
	for j := range features {
		f.gram[j] = make([]float64, features)
	}
	return f
}

// on makes f be of rows r.
func (f *fit) on(r rows) { f.rows, f.totals = r, r.totals() }

// solve fits with weights a and b of rows times c. The order in which
// coordinates are visited comes from seed. The result is f.w.
func (f *fit) solve(c float64, seed uint32) {
	f.random = judge.NewTwister(seed)
	features := len(f.w)
	for j := range features {
		f.w[j], f.u[j], f.idx[j] = 0, 0, j
	}
	f.norm = 0
	copies := f.success + f.failure
	if copies == 0 {
		return
	}
	tolerance := solverTolerance * float64(max(min(f.success, f.failure), 1)) / float64(copies)
	inner, first := 1.0, 0.0
	worst := math.Inf(1)
	s := f.slope(f.w)
	f.differentiate(&s, c)
	for step := range solverSteps {
		active, sum, most := features, 0.0, 0.0
		for s := 0; s < active; s++ {
			j := f.idx[s]
			v, drop := violation(f.w[j], f.grad[j], worst/float64(copies))
			if drop {
				active--
				f.idx[s], f.idx[active] = f.idx[active], f.idx[s]
				s--
				continue
			}
			sum += v
			most = max(most, v)
		}
		if step == 0 {
			first = sum
		}
		if sum <= tolerance*first {
			return
		}
		if f.descend(active, copies, inner*first) == 1 {
			inner /= 4
		}
		f.search(c)
		worst = most
	}
}

// violation is how far coordinate w with derivative g of the loss is from
// being optimal, and whether it can be left at zero for now.
func violation(w, g, bound float64) (v float64, drop bool) {
	plus, minus := g+1, g-1
	switch {
	case w > 0:
		return math.Abs(plus), false
	case w < 0:
		return math.Abs(minus), false
	case plus < 0:
		return -plus, false
	case minus > 0:
		return minus, false
	}
	return 0, plus > bound && minus < -bound
}

// spread gives each column its weight.
func (f *fit) spread(w []float64) (z [3]float64) {
	for j, k := range f.use {
		z[k] = w[j]
	}
	return z
}

// slope is that at weights w.
func (f *fit) slope(w []float64) slope {
	z := f.spread(w)
	return f.slopeAt(&z)
}

// differentiate sets gradient and Hessian of c times the loss.
func (f *fit) differentiate(s *slope, c float64) {
	for j, k := range f.use {
		f.grad[j] = c * (f.failed[k] - s[k])
		for i := range j + 1 {
			h := c * s.hessian(k, f.use[i])
			f.gram[j][i], f.gram[i][j] = h, h
		}
	}
}

// descend minimizes the quadratic model around w over u, by coordinate
// descent over the active coordinates, and counts its cycles.
func (f *fit) descend(active, copies int, goal float64) (cycles int) {
	open := active
	bound := math.Inf(1)
	for cycles < innerCycles {
		for j := range open {
			k := j + int(f.random.Below(uint32(open-j)))
			f.idx[j], f.idx[k] = f.idx[k], f.idx[j]
		}
		sum, most := 0.0, 0.0
		for s := 0; s < open; s++ {
			j := f.idx[s]
			h := nu + f.gram[j][j]
			g := f.grad[j] + (f.u[j]-f.w[j])*nu
			for k := range f.w {
				g += f.gram[j][k] * (f.u[k] - f.w[k])
			}
			v, drop := violation(f.u[j], g, bound/float64(copies))
			if drop {
				open--
				f.idx[s], f.idx[open] = f.idx[open], f.idx[s]
				s--
				continue
			}
			sum += v
			most = max(most, v)
			var z float64
			switch {
			case g+1 < h*f.u[j]:
				z = -(g + 1) / h
			case g-1 > h*f.u[j]:
				z = -(g - 1) / h
			default:
				z = -f.u[j]
			}
			if math.Abs(z) >= 1e-12 {
				f.u[j] += min(max(z, -10), 10)
			}
		}
		cycles++
		if sum > goal {
			bound = most
			continue
		}
		if open == active {
			break
		}
		open, bound = active, math.Inf(1)
	}
	return cycles
}

// search goes from w towards u, at most all the way, until the objective has
// fallen enough, and differentiates there.
func (f *fit) search(c float64) {
	delta, norm, before, most := 0.0, 0.0, 0.0, 0.0
	for j, k := range f.use {
		v := f.u[j] - f.w[j]
		before += f.grad[j] * v
		norm += math.Abs(f.u[j])
		most += math.Abs(v) * f.most[k]
	}
	delta = before + norm - f.norm
	for range searchSteps {
		s := f.slope(f.u)
		after := 0.0
		for j, k := range f.use {
			after += c * (f.failed[k] - s[k]) * (f.u[j] - f.w[j])
		}
		rise := riseAtMost(before, after, most) // its own sum is rarely needed
		enough := norm - f.norm - sufficient*delta
		if enough+rise > 0 {
			w, u := f.spread(f.w), f.spread(f.u)
			rise = c * f.rise(&w, &u)
		}
		if enough+rise <= 0 {
			f.norm = norm
			copy(f.w, f.u)
			f.differentiate(&s, c)
			return
		}
		norm = 0
		for j := range f.w {
			f.u[j] = (f.w[j] + f.u[j]) * 0.5
			norm += math.Abs(f.u[j])
		}
		delta *= 0.5
		before *= 0.5
		most *= 0.5
	}
}

// riseAtMost bounds by how much the loss rises over a step on which its slope
// goes from before to after, and no row's exponent changes by more than most.
// The loss is convex, so the slope at the end is a bound. The third derivative
// is at most most times the second, so the mean of both slopes is off by no more
// than most/8 times their difference.
func riseAtMost(before, after, most float64) float64 {
	return min(after, (before+after)/2+most/8*(after-before))
}
