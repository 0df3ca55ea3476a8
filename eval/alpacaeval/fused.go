package alpacaeval

import "math"

// The loops of a fit with three columns, which are nearly all of its time:
// each is several loops over the rows in one, and gives what they give.

// slope is the gradient and the Hessian of the loss, summed over rows.
type slope struct {
	g0, g1, g2, h00, h10, h11, h20, h21, h22 float64
}

func (f *fit) set(s *slope) {
	f.grad[0], f.grad[1], f.grad[2] = s.g0, s.g1, s.g2
	h := f.gram
	h[0][0], h[1][0], h[1][1], h[2][0], h[2][1], h[2][2] = s.h00, s.h10, s.h11, s.h20, s.h21, s.h22
	f.mirror()
}

// slope3 is differentiate for three columns.
func (f *fit) slope3(n int) {
	e, a, b, x0, x1, x2 := f.e[:n], f.a[:n], f.b[:n], f.x[0][:n], f.x[1][:n], f.x[2][:n]
	var s slope
	for r := range e {
		c := a[r] + b[r]
		t := 1 / (1 + e[r])
		g, d := b[r]-c*t, c*e[r]*t*t
		v0, v1, v2 := x0[r], x1[r], x2[r]
		d0, d1 := v0*d, v1*d
		s.g0 += v0 * g
		s.g1 += v1 * g
		s.g2 += v2 * g
		s.h00 += d0 * v0
		s.h10 += d0 * v1
		s.h11 += d1 * v1
		s.h20 += d0 * v2
		s.h21 += d1 * v2
		s.h22 += v2 * d * v2
	}
	f.set(&s)
}

// slopeAt3 is exponentials and differentiate for three columns, but for e,
// which it does not keep. It tells whether no exponent was too large for it.
func (f *fit) slopeAt3(n int) bool {
	a, b, x0, x1, x2 := f.a[:n], f.b[:n], f.x[0][:n], f.x[1][:n], f.x[2][:n]
	w0, w1, w2 := f.w[0], f.w[1], f.w[2]
	powers := f.powers
	var s slope
	for r := range a {
		v0, v1, v2 := x0[r], x1[r], x2[r]
		z := w0*v0 + w1*v1 + w2*v2
		if !(z > -expMost && z < expMost) {
			return false
		}
		e := powers.one(z)
		c := a[r] + b[r]
		t := 1 / (1 + e)
		g, d := b[r]-c*t, c*e*t*t
		d0, d1 := v0*d, v1*d
		s.g0 += v0 * g
		s.g1 += v1 * g
		s.g2 += v2 * g
		s.h00 += d0 * v0
		s.h10 += d0 * v1
		s.h11 += d1 * v1
		s.h20 += d0 * v2
		s.h21 += d1 * v2
		s.h22 += v2 * d * v2
	}
	f.set(&s)
	return true
}

// try3 is the first trial of search for three columns: q = x·v, grown =
// e^(z+q), Σ b q, growth, and the slope where the step would lead, which is
// kept for the case that it is taken. It tells whether no exponent was too
// large for it.
func (f *fit) try3(n int) (failed, growth float64, ok bool) {
	const run = 16
	e, grown, a, b, qs := f.e[:n], f.grown[:n], f.a[:n], f.b[:n], f.q[:n]
	x0, x1, x2 := f.x[0][:n], f.x[1][:n], f.x[2][:n]
	w0, w1, w2 := f.v[0], f.v[1], f.v[2]
	powers := f.powers
	var s slope
	for r := 0; r < n; {
		c := a[r] + b[r]
		end := min(r+run, n)
		over, under := 1.0, 1.0
		for ; r < end && math.Abs(a[r]+b[r]-c) <= 1e-12*c; r++ {
			v0, v1, v2 := x0[r], x1[r], x2[r]
			q := w0*v0 + w1*v1 + w2*v2
			if !(q > -expMost && q < expMost) {
				return 0, 0, false
			}
			qs[r] = q
			failed += b[r] * q
			grow := powers.one(q)
			e := e[r] * grow
			grown[r] = e
			over *= 1 + e
			under *= grow + e
			t := 1 / (1 + e)
			c := a[r] + b[r]
			g, d := b[r]-c*t, c*e*t*t
			d0, d1 := v0*d, v1*d
			s.g0 += v0 * g
			s.g1 += v1 * g
			s.g2 += v2 * g
			s.h00 += d0 * v0
			s.h10 += d0 * v1
			s.h11 += d1 * v1
			s.h20 += d0 * v2
			s.h21 += d1 * v2
			s.h22 += v2 * d * v2
		}
		if !(over < math.MaxFloat64 && under < math.MaxFloat64 && under > 1e-300) {
			return 0, 0, false
		}
		growth += c * math.Log(over/under)
	}
	f.next = s
	return failed, growth, true
}
