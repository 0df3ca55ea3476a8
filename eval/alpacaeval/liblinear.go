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
	x    [][]float64 // columns, (features, rows)
	a, b []float64   // (rows), none below 0

	e        []float64 // e^z, (rows)
	q        []float64 // change of z, (rows)
	grown    []float64 // e^(z + q), (rows)
	w, u     []float64 // (features)
	v        []float64 // their difference, (features)
	norm     float64   // |w|
	grad     []float64 // (features)
	gram     [][]float64
	idx      []int
	next     slope // where the step that was taken led
	ahead    bool  // it has been set as grad and gram
	fused    bool  // the rows are cut into segments
	segments []segment
	powers   *expTable
	random   *judge.Twister
}

const (
	solverTolerance = 1e-4
	solverSteps     = 100
	innerCycles     = 1000
	searchSteps     = 20
	nu              = 1e-12
	sufficient      = 0.01
)

// newFit makes room for problems of up to rows rows.
func newFit(features, rows int) *fit {
	f := &fit{
		x: make([][]float64, features),
		a: make([]float64, rows), b: make([]float64, rows),
		e: make([]float64, rows), q: make([]float64, rows), grown: make([]float64, rows),
		w: make([]float64, features), u: make([]float64, features), v: make([]float64, features), grad: make([]float64, features),
		gram: make([][]float64, features), idx: make([]int, features), powers: newExpTable(),
	}
	for j := range features {
		f.x[j] = make([]float64, rows)
		f.gram[j] = make([]float64, features)
	}
	return f
}

// solve fits the first n rows. The order in which coordinates are visited
// comes from seed. The result is f.w.
func (f *fit) solve(n int, seed uint32) {
	f.random = judge.NewTwister(seed)
	features := len(f.w)
	copies, success, failure := 0, 0, 0
	for r := range n {
		if f.a[r] > 0 {
			success++
		}
		if f.b[r] > 0 {
			failure++
		}
		f.e[r] = 1
	}
	copies = success + failure
	for j := range features {
		f.w[j], f.u[j], f.idx[j] = 0, 0, j
	}
	f.norm, f.ahead = 0, false
	f.fused = features == 3 && f.cut(n)
	if copies == 0 {
		return
	}
	tolerance := solverTolerance * float64(max(min(success, failure), 1)) / float64(copies)
	inner, first := 1.0, 0.0
	worst := math.Inf(1)
	for step := range solverSteps {
		if !f.ahead {
			f.differentiate(n)
		}
		f.ahead = false
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
		f.search(n)
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

// differentiate computes gradient and Hessian of the loss at w.
func (f *fit) differentiate(n int) {
	features := len(f.w)
	for j := range features {
		f.grad[j] = 0
		clear(f.gram[j])
	}
	if features == 3 {
		f.slope3(n)
		return
	}
	for r, e := range f.e[:n] {
		c := f.a[r] + f.b[r]
		t := 1 / (1 + e)
		g, d := f.b[r]-c*t, c*e*t*t
		for j := range features {
			xj := f.x[j][r]
			f.grad[j] += xj * g
			for k := 0; k <= j; k++ {
				f.gram[j][k] += xj * d * f.x[k][r]
			}
		}
	}
	f.mirror()
}

func (f *fit) mirror() {
	for j := range f.gram {
		for k := range j {
			f.gram[k][j] = f.gram[j][k]
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
// fallen enough.
func (f *fit) search(n int) {
	delta, norm := 0.0, 0.0
	for j := range f.w {
		delta += f.grad[j] * (f.u[j] - f.w[j])
		norm += math.Abs(f.u[j])
		f.v[j] = f.u[j] - f.w[j]
	}
	delta += norm - f.norm
	failed, growth, fused := 0.0, 0.0, false
	if f.fused {
		failed, growth, fused = f.try3()
	}
	if !fused {
		f.product(f.q, f.v, n)
		failed = 0
		for r, q := range f.q[:n] {
			failed += f.b[r] * q
		}
	}
	for trial := range searchSteps {
		if fused && trial == 1 { // it did not keep q
			f.product(f.q, f.v, n)
			for r := range f.q[:n] {
				f.q[r] *= 0.5
			}
		}
		if !fused || trial > 0 {
			f.powers.exp(f.grown[:n], f.q[:n])
			growth = f.growth(n)
		}
		if change := norm - f.norm + failed - sufficient*delta + growth; change <= 0 {
			f.norm = norm
			copy(f.w, f.u)
			f.e, f.grown = f.grown, f.e
			if fused && trial == 0 {
				f.set(&f.next)
				f.ahead = true
			}
			return
		}
		norm = 0
		for j := range f.w {
			f.u[j] = (f.w[j] + f.u[j]) * 0.5
			norm += math.Abs(f.u[j])
		}
		delta *= 0.5
		failed *= 0.5
		if !fused || trial > 0 {
			for r := range f.q[:n] {
				f.q[r] *= 0.5
			}
		}
	}
	f.exponentials(n)
}

// growth turns grown from e^q into e^(z + q) and gives
// Σ c log((1 + e^(z+q)) / (e^q + e^(z+q))). Where the weights c = a + b of
// neighbours are the same, as they are but for rounding, their factors are
// multiplied before the logarithm is taken.
func (f *fit) growth(n int) float64 {
	sum := 0.0
	e, grown, a, b := f.e[:n], f.grown[:n], f.a[:n], f.b[:n]
	for r := 0; r < n; {
		c := a[r] + b[r]
		end := min(r+run, n)
		over, under := 1.0, 1.0
		from := r
		for ; r < end && math.Abs(a[r]+b[r]-c) <= 1e-12*c; r++ {
			grow := grown[r]
			g := e[r] * grow
			grown[r] = g
			over *= 1 + g
			under *= grow + g
		}
		if inRange(over, under) {
			sum += c * math.Log(over/under)
			continue
		}
		for i := from; i < r; i++ { // too large for a product
			sum += c * math.Log((1+grown[i])/(grown[i]/e[i]+grown[i]))
		}
	}
	return sum
}

// product sets z to x·w, (n).
func (f *fit) product(z, w []float64, n int) {
	z = z[:n]
	if len(w) == 3 {
		x0, x1, x2 := f.x[0][:n], f.x[1][:n], f.x[2][:n]
		w0, w1, w2 := w[0], w[1], w[2]
		for r := range z {
			z[r] = w0*x0[r] + w1*x1[r] + w2*x2[r]
		}
		return
	}
	for r := range z {
		z[r] = 0
		for j := range w {
			z[r] += w[j] * f.x[j][r]
		}
	}
}

// exponentials sets e to e^z at w.
func (f *fit) exponentials(n int) {
	f.product(f.q, f.w, n)
	f.powers.exp(f.e[:n], f.q[:n])
}
