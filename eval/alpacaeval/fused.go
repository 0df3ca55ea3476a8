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

// segment is rows next to each other with the same weight c = a + b, but for
// rounding, and the same third column: gamed rows have 0 there, a model's 1.
type segment struct {
	from, to int
	c        float64
	one      bool
	b0, b1   float64 // Σ b x of the first two columns
	b2       float64 // Σ b
}

// cut finds the segments of n rows; ok is false if there are too many for
// the loops below to be worth it.
func (f *fit) cut(n int) (ok bool) {
	f.segments = f.segments[:0]
	for r := 0; r < n; {
		if len(f.segments) == 4 {
			return false
		}
		s := segment{from: r, c: f.a[r] + f.b[r], one: f.x[2][r] == 1}
		if !s.one && f.x[2][r] != 0 {
			return false
		}
		for r < n && math.Abs(f.a[r]+f.b[r]-s.c) <= 1e-12*s.c && f.x[2][r] == f.x[2][s.from] {
			s.b0 += f.b[r] * f.x[0][r]
			s.b1 += f.b[r] * f.x[1][r]
			s.b2 += f.b[r]
			r++
		}
		s.to = r
		f.segments = append(f.segments, s)
	}
	return true
}

// slopeAt3 is exponentials and differentiate for three columns, but for e,
// which it does not keep. It tells whether no exponent was too large for it.
func (f *fit) slopeAt3() bool {
	w0, w1, w2 := f.w[0], f.w[1], f.w[2]
	powers := f.powers
	var s slope
	for i := range f.segments {
		seg := &f.segments[i]
		x0, x1 := f.x[0][seg.from:seg.to], f.x[1][seg.from:seg.to]
		z2 := 0.0
		if seg.one {
			z2 = w2
		}
		var t0, t1, t2, h00, h10, h11, h20, h21, h22 float64
		for r, v0 := range x0 {
			v1 := x1[r]
			z := w0*v0 + w1*v1 + z2
			if !(z > -expMost && z < expMost) {
				return false
			}
			t := 1 / (1 + powers.one(z))
			d := t - t*t
			d0, d1 := v0*d, v1*d
			t0 += v0 * t
			t1 += v1 * t
			t2 += t
			h00 += d0 * v0
			h10 += d0 * v1
			h11 += d1 * v1
			h20 += d0
			h21 += d1
			h22 += d
		}
		s.add(seg, t0, t1, t2, h00, h10, h11, h20, h21, h22)
	}
	f.set(&s)
	return true
}

// add adds the sums over a segment of t = 1/(1 + e^z) and d = t − t², times
// the columns: the gradient is Σ (b − c t) x, the Hessian Σ c d x xᵀ.
func (s *slope) add(seg *segment, t0, t1, t2, h00, h10, h11, h20, h21, h22 float64) {
	c := seg.c
	s.g0 += seg.b0 - c*t0
	s.g1 += seg.b1 - c*t1
	s.h00 += c * h00
	s.h10 += c * h10
	s.h11 += c * h11
	if seg.one {
		s.g2 += seg.b2 - c*t2
		s.h20 += c * h20
		s.h21 += c * h21
		s.h22 += c * h22
	}
}

// try3 is the first trial of search for three columns: grown = e^(z + x·v),
// Σ b x·v, growth, and the slope where the step would lead, which is kept for
// the case that it is taken. It tells whether no exponent was too large for it.
func (f *fit) try3() (failed, growth float64, ok bool) {
	f.next = slope{}
	for i := range f.segments {
		seg := &f.segments[i]
		var g float64
		if seg.one {
			failed += f.v[0]*seg.b0 + f.v[1]*seg.b1 + f.v[2]*seg.b2
			g, ok = f.tryOnes(seg)
		} else {
			failed += f.v[0]*seg.b0 + f.v[1]*seg.b1
			g, ok = f.tryZeros(seg)
		}
		if !ok {
			return 0, 0, false
		}
		growth += g
	}
	return failed, growth, true
}

// run is how many factors are multiplied before a logarithm is taken.
const run = 16

func (f *fit) tryOnes(seg *segment) (growth float64, ok bool) {
	w0, w1, w2 := f.v[0], f.v[1], f.v[2]
	powers := f.powers
	var t0, t1, t2, h00, h10, h11, h20, h21, h22 float64
	for from := seg.from; from < seg.to; from += run {
		to := min(from+run, seg.to)
		e, grown, x0, x1 := f.e[from:to], f.grown[from:to], f.x[0][from:to], f.x[1][from:to]
		over, under := 1.0, 1.0
		for r, v0 := range x0 {
			v1 := x1[r]
			q := w0*v0 + w1*v1 + w2
			if !(q > -expMost && q < expMost) {
				return 0, false
			}
			grow := powers.one(q)
			e := e[r] * grow
			grown[r] = e
			over *= 1 + e
			under *= grow + e
			t := 1 / (1 + e)
			d := t - t*t
			d0, d1 := v0*d, v1*d
			t0 += v0 * t
			t1 += v1 * t
			t2 += t
			h00 += d0 * v0
			h10 += d0 * v1
			h11 += d1 * v1
			h20 += d0
			h21 += d1
			h22 += d
		}
		if !inRange(over, under) {
			return 0, false
		}
		growth += math.Log(over / under)
	}
	f.next.add(seg, t0, t1, t2, h00, h10, h11, h20, h21, h22)
	return seg.c * growth, true
}

func (f *fit) tryZeros(seg *segment) (growth float64, ok bool) {
	w0, w1 := f.v[0], f.v[1]
	powers := f.powers
	var t0, t1, h00, h10, h11 float64
	for from := seg.from; from < seg.to; from += run {
		to := min(from+run, seg.to)
		e, grown, x0, x1 := f.e[from:to], f.grown[from:to], f.x[0][from:to], f.x[1][from:to]
		over, under := 1.0, 1.0
		for r, v0 := range x0 {
			v1 := x1[r]
			q := w0*v0 + w1*v1
			if !(q > -expMost && q < expMost) {
				return 0, false
			}
			grow := powers.one(q)
			e := e[r] * grow
			grown[r] = e
			over *= 1 + e
			under *= grow + e
			t := 1 / (1 + e)
			d := t - t*t
			d0 := v0 * d
			t0 += v0 * t
			t1 += v1 * t
			h00 += d0 * v0
			h10 += d0 * v1
			h11 += v1 * d * v1
		}
		if !inRange(over, under) {
			return 0, false
		}
		growth += math.Log(over / under)
	}
	f.next.add(seg, t0, t1, 0, h00, h10, h11, 0, 0, 0)
	return seg.c * growth, true
}

// inRange tells whether products of many factors can still be trusted.
func inRange(over, under float64) bool {
	return over < math.MaxFloat64 && under < math.MaxFloat64 && under > 1e-300
}
