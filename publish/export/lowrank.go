package export

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
)

// A matrix is row-major float32.
type matrix struct {
	rows, cols int
	v          []float32
}

func newMatrix(rows, cols int) matrix { return matrix{rows, cols, make([]float32, rows*cols)} }

// row is a row of m.
func (m matrix) row(i int) []float32 { return m.v[i*m.cols:][:m.cols] }

// oversample is how many directions more than asked for are followed, and rounds
// how often they are turned towards the largest singular values.
const (
	oversample = 10
	rounds     = 3
)

// lowRank approximates d by b·a, b of (rows, rank) and a of (rank, cols), and gives
// Σd² and how much of it the product keeps. The factors share the singular values
// evenly; where d has fewer than rank, the rest is zeros.
//
// The method is the randomized subspace iteration of Halko, Martinsson and Tropp,
// "Finding structure with randomness" (2011, https://arxiv.org/abs/0909.4061),
// algorithm 4.4, started from the same directions every time.
func lowRank(d matrix, rank, jobs int) (b, a matrix, norm2, kept2 float64) {
	for _, x := range d.v {
		norm2 += float64(x) * float64(x)
	}
	b, a = newMatrix(d.rows, rank), newMatrix(rank, d.cols)
	n := min(rank+oversample, d.rows, d.cols)
	if norm2 == 0 || n == 0 {
		return b, a, norm2, 0
	}
	rng := rand.New(rand.NewPCG(uint64(d.rows), uint64(d.cols)))
	right := newMatrix(d.cols, n)
	for i := range right.v {
		right.v[i] = float32(rng.NormFloat64())
	}
	left := newMatrix(d.rows, n)
	for range rounds {
		times(left, d, right, jobs)
		orthonormal(left)
		timesTransposed(right, d, left, jobs)
		orthonormal(right)
	}
	times(left, d, right, jobs)
	orthonormal(left)
	timesTransposed(right, d, left, jobs) // rightᵀ is leftᵀ·d

	// The singular values of that, and how to turn left towards their vectors.
	values, vectors := symmetricEigen(gram(right), n)
	for k := range min(rank, n) {
		v := vectors[k]
		if values[k] <= norm2*1e-14 {
			break
		}
		kept2 += values[k]
		root := math.Sqrt(math.Sqrt(values[k]))
		for i := range d.rows {
			b.v[i*rank+k] = float32(turned(left.row(i), v) * root)
		}
		for j := range d.cols {
			a.v[k*d.cols+j] = float32(turned(right.row(j), v) / root)
		}
	}
	return b, a, norm2, min(kept2, norm2)
}

func turned(x []float32, v []float64) (sum float64) {
	for i, w := range v {
		sum += float64(x[i]) * w
	}
	return sum
}

// split calls f for stretches of 0…n−1, on several goroutines.
func split(n, jobs int, f func(first, end int)) {
	var wg sync.WaitGroup
	step := (n + jobs - 1) / jobs
	for first := 0; first < n; first += step {
		wg.Go(func() { f(first, min(first+step, n)) })
	}
	wg.Wait()
}

// times sets out to d·x.
func times(out, d, x matrix, jobs int) {
	split(out.rows, jobs, func(first, end int) {
		for i := first; i < end; i++ {
			o, row := out.row(i), d.row(i)
			clear(o)
			j := 0
			for ; j+4 <= len(row); j += 4 {
				add4(o, x.v[j*x.cols:], row[j], row[j+1], row[j+2], row[j+3])
			}
			for ; j < len(row); j++ {
				for k, v := range x.row(j) {
					o[k] += float32(row[j] * v)
				}
			}
		}
	})
}

// timesTransposed sets out to dᵀ·x. Each column of d is one goroutine's, so that
// the order of the sums is that of d's rows whatever the number of goroutines.
func timesTransposed(out, d, x matrix, jobs int) {
	split(out.rows, jobs, func(first, end int) {
		clear(out.v[first*out.cols : end*out.cols])
		i := 0
		for ; i+4 <= d.rows; i += 4 {
			r0, r1, r2, r3 := d.row(i), d.row(i+1), d.row(i+2), d.row(i+3)
			for j := first; j < end; j++ {
				add4(out.row(j), x.v[i*x.cols:], r0[j], r1[j], r2[j], r3[j])
			}
		}
		for ; i < d.rows; i++ {
			for j := first; j < end; j++ {
				c, o := d.row(i)[j], out.row(j)
				for k, v := range x.row(i) {
					o[k] += float32(c * v)
				}
			}
		}
	})
}

// add4 adds four rows of x, each times a number, to o.
func add4(o, x []float32, c0, c1, c2, c3 float32) {
	n := len(o)
	x0, x1, x2, x3 := x[:n], x[n:][:n], x[2*n:][:n], x[3*n:][:n]
	for k := range o {
		o[k] += (float32(c0*x0[k]) + float32(c1*x1[k])) + (float32(c2*x2[k]) + float32(c3*x3[k]))
	}
}

// orthonormal makes the columns of x orthonormal, or 0 where one is a sum of those
// before it: the method of Gram and Schmidt, twice, in float64.
func orthonormal(x matrix) {
	cols := make([][]float64, x.cols)
	for k := range cols {
		c := make([]float64, x.rows)
		for i := range c {
			c[i] = float64(x.v[i*x.cols+k])
		}
		before := math.Sqrt(dot(c, c))
		for range 2 {
			for _, p := range cols[:k] {
				s := dot(c, p)
				for i, v := range p {
					c[i] -= s * v
				}
			}
		}
		length := math.Sqrt(dot(c, c))
		for i := range c {
			if length > before*1e-9 {
				c[i] /= length
			} else {
				c[i] = 0
			}
		}
		cols[k] = c
		for i, v := range c {
			x.v[i*x.cols+k] = float32(v)
		}
	}
}

func dot(a, b []float64) (sum float64) {
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

// gram is xᵀ·x.
func gram(x matrix) []float64 {
	n := x.cols
	g := make([]float64, n*n)
	for i := range x.rows {
		row := x.row(i)
		for j, a := range row {
			for k, b := range row[:j+1] {
				g[j*n+k] += float64(a) * float64(b)
			}
		}
	}
	for j := range n {
		for k := range j {
			g[k*n+j] = g[j*n+k]
		}
	}
	return g
}

// symmetricEigen gives the eigenvalues of a symmetric matrix of n rows, largest
// first, and their vectors, by Jacobi's rotations.
func symmetricEigen(m []float64, n int) (values []float64, vectors [][]float64) {
	m = slices.Clone(m)
	v := make([]float64, n*n) // rows are vectors
	total := 0.0
	for i := range n {
		v[i*n+i] = 1
		for j := range n {
			total += m[i*n+j] * m[i*n+j]
		}
	}
	for range 60 {
		off := 0.0
		for p := range n {
			for q := p + 1; q < n; q++ {
				off += m[p*n+q] * m[p*n+q]
				rotate(m, v, n, p, q)
			}
		}
		if off <= total*1e-28 {
			break
		}
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(m[b*n+b], m[a*n+a]) })
	for _, i := range order {
		values = append(values, m[i*n+i])
		vectors = append(vectors, v[i*n:][:n])
	}
	return values, vectors
}

// rotate turns rows and columns p and q so that the element between them is 0.
func rotate(m, v []float64, n, p, q int) {
	apq := m[p*n+q]
	if apq == 0 {
		return
	}
	theta := (m[q*n+q] - m[p*n+p]) / (2 * apq)
	t := 1 / (math.Abs(theta) + math.Sqrt(theta*theta+1))
	if theta < 0 {
		t = -t
	}
	c := 1 / math.Sqrt(t*t+1)
	s := t * c
	for k := range n {
		a, b := m[k*n+p], m[k*n+q]
		m[k*n+p], m[k*n+q] = c*a-s*b, s*a+c*b
	}
	for k := range n {
		a, b := m[p*n+k], m[q*n+k]
		m[p*n+k], m[q*n+k] = c*a-s*b, s*a+c*b
	}
	for k := range n {
		a, b := v[p*n+k], v[q*n+k]
		v[p*n+k], v[q*n+k] = c*a-s*b, s*a+c*b
	}
}
