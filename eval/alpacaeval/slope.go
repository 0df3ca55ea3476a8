package alpacaeval

import "math"

// rows are what a fit is of, column by column. In part each is a success and
// in part a failure.
type rows struct {
	x    [3][]float64 // what lengths, the difficulty and the model count by
	a, b []float64    // how much of a success and of a failure, none below 0
	c    []float64    // a + b
}

func newRows(n int) rows {
	all := make([]float64, 6*n)
	var r rows
	for i, column := range r.columns() {
		*column = all[i*n : (i+1)*n : (i+1)*n][:0]
	}
	return r
}

func (r *rows) columns() [6]*[]float64 {
	return [6]*[]float64{&r.x[0], &r.x[1], &r.x[2], &r.a, &r.b, &r.c}
}

func (r *rows) add(x0, x1, x2, a, b float64) {
	r.x[0], r.x[1], r.x[2] = append(r.x[0], x0), append(r.x[1], x1), append(r.x[2], x2)
	r.a, r.b, r.c = append(r.a, a), append(r.b, b), append(r.c, a+b)
}

func (r *rows) n() int { return len(r.c) }

// part is rows from … to − 1 of r, in the same memory.
func (r *rows) part(from, to int) rows {
	p := *r
	for _, column := range p.columns() {
		*column = (*column)[from:to]
	}
	return p
}

// totals are sums over rows that do not depend on weights.
type totals struct {
	failed           [3]float64 // Σ b x
	success, failure int        // rows that are any
	most             [3]float64 // max |x|
}

func (r *rows) totals() totals {
	var t totals
	x0, x1, x2, a := r.x[0], r.x[1][:len(r.b)], r.x[2][:len(r.b)], r.a[:len(r.b)]
	for i, b := range r.b {
		v0, v1, v2 := x0[i], x1[i], x2[i]
		t.failed[0] += b * v0
		t.failed[1] += b * v1
		t.failed[2] += b * v2
		if a[i] > 0 {
			t.success++
		}
		if b > 0 {
			t.failure++
		}
		t.most[0] = max(t.most[0], math.Abs(v0))
		t.most[1] = max(t.most[1], math.Abs(v1))
		t.most[2] = max(t.most[2], math.Abs(v2))
	}
	return t
}

func (t *totals) add(o *totals) {
	t.success += o.success
	t.failure += o.failure
	for k := range t.failed {
		t.failed[k] += o.failed[k]
		t.most[k] = max(t.most[k], o.most[k])
	}
}

// A slope is what depends on weights of the gradient Σ (b − c t) x and the
// Hessian Σ c (t − t²) x xᵀ of the loss, where t = 1/(1 + e^z): the sums Σ c t x,
// then the Hessian's lower half row by row.
type slope [9]float64

func (s *slope) hessian(j, k int) float64 { return s[3+j*(j+1)/2+k] }

// slopeAt sums over rows with weights w. It is nearly all of a fit's time.
func (r *rows) slopeAt(w *[3]float64) (s slope) {
	n := fastSlope(&s, r, w)
	for ; n < len(r.c); n += piece {
		s.add(r.part(n, min(n+piece, len(r.c))), w)
	}
	return s
}

// piece is how many rows are done at once without assembly.
const piece = 64

// add adds the sums over up to piece rows. There are two loops, as one needs
// more numbers at a time than a processor has registers.
func (s *slope) add(r rows, w *[3]float64) {
	var ts, ds [piece]float64 // c t and c (t − t²)
	n := len(r.c)
	x0, x1, x2 := r.x[0][:n], r.x[1][:n], r.x[2][:n]
	t, d := ts[:n], ds[:n]
	w0, w1, w2 := w[0], w[1], w[2]
	for i, c := range r.c {
		z := w0*x0[i] + w1*x1[i] + w2*x2[i]
		if !(z > -expMost && z < expMost) {
			z = min(max(z, -expMost), expMost)
		}
		p := 1 / (1 + powers.one(z))
		c *= p
		t[i], d[i] = c, c-c*p
	}
	t0, t1, t2, h00, h10, h11, h20, h21, h22 := s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8]
	for i, t := range t {
		d, v0, v1, v2 := d[i], x0[i], x1[i], x2[i]
		t0 += v0 * t
		t1 += v1 * t
		t2 += v2 * t
		d0, d1, d2 := v0*d, v1*d, v2*d
		h00 += d0 * v0
		h10 += d1 * v0
		h11 += d1 * v1
		h20 += d2 * v0
		h21 += d2 * v1
		h22 += d2 * v2
	}
	*s = slope{t0, t1, t2, h00, h10, h11, h20, h21, h22}
}

// rise is by how much the loss at weights u is above that at w.
func (r *rows) rise(w, u *[3]float64) float64 {
	sum := 0.0
	for i, c := range r.c {
		x0, x1, x2 := r.x[0][i], r.x[1][i], r.x[2][i]
		from := w[0]*x0 + w[1]*x1 + w[2]*x2
		to := u[0]*x0 + u[1]*x1 + u[2]*x2
		sum += c*(softplus(to)-softplus(from)) - r.a[i]*(to-from)
	}
	return sum
}

// softplus is log(1 + e^z).
func softplus(z float64) float64 { return max(z, 0) + math.Log1p(math.Exp(-math.Abs(z))) }
