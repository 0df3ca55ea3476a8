package reward

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"expo/internal/kernel"
)

// A linear is y = W·x + b, with W (out, in) in the format it is stored in.
type linear struct {
	in, out int
	f       kernel.Format
	data    []byte
	bias    []float32 // nil: none
}

// chunkRows is how many vectors meet a matrix at once: their prepared form
// stays in the second-level cache while the weights stream past.
const chunkRows = 256

// rowsPerPiece is how many rows of a matrix a thread takes at once.
const rowsPerPiece = 64

// apply computes y for the m vectors of x, (m, in), into out, (m, stride).
func (l *linear) apply(jobs int, out []float32, stride int, x []float32, m int) {
	size := l.in * l.f.Bytes()
	acts := kernel.NewActivations(min(m, chunkRows), l.in, l.f)
	for from := 0; from < m; from += chunkRows {
		n := min(chunkRows, m-from)
		acts.Set(x[from*l.in:(from+n)*l.in], n)
		y := out[from*stride:]
		pieces := (l.out + rowsPerPiece - 1) / rowsPerPiece
		if n*l.in*l.out < 1<<18 {
			pieces = 1 // not worth sharing
		}
		parallel(jobs, pieces, func(_, piece int) {
			lo, hi := piece*rowsPerPiece, min((piece+1)*rowsPerPiece, l.out)
			if pieces == 1 {
				hi = l.out
			}
			kernel.MatMul(y[lo:], stride, acts, l.data[lo*size:hi*size], hi-lo)
			if l.bias == nil {
				return
			}
			for i := range n {
				row := y[i*stride+lo : i*stride+hi]
				for r, b := range l.bias[lo:hi] {
					row[r] += b
				}
			}
		})
	}
}

// one computes y for one vector.
func (l *linear) one(x []float32) []float32 {
	y := make([]float32, l.out)
	l.apply(1, y, l.out, x, 1)
	return y
}

// row converts row r of the matrix.
func (l *linear) row(dst []float32, r int) {
	size := l.in * l.f.Bytes()
	kernel.Widen(dst, l.data[r*size:(r+1)*size], l.f)
}

// A norm is LayerNorm: (x − mean)/√(variance + eps)·w + b over a vector, the
// variance without Bessel's correction. Sums are float64.
type norm struct {
	w, b []float32
	eps  float64
}

func (n *norm) apply(x []float32) {
	var sum float64
	for _, v := range x {
		sum += float64(v)
	}
	mean := sum / float64(len(x))
	sum = 0
	for _, v := range x {
		d := float64(v) - mean
		sum += d * d
	}
	scale := 1 / math.Sqrt(sum/float64(len(x))+n.eps)
	for i, v := range x {
		x[i] = float32((float64(v)-mean)*scale)*n.w[i] + n.b[i]
	}
}

// An activation replaces each element of a vector by a function of it.
type activation func(x []float32)

// activations are those that configurations name, by transformers' names.
func activations(name string) (activation, bool) {
	switch name {
	case "gelu", "gelu_python":
		return gelu, true
	case "gelu_new", "gelu_pytorch_tanh", "gelu_fast":
		return each(func(x float64) float64 {
			return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
		}), true
	case "tanh":
		return each(math.Tanh), true
	case "relu":
		return each(func(x float64) float64 { return max(x, 0) }), true
	case "silu", "swish":
		return each(func(x float64) float64 { return x * sigmoid(x) }), true
	case "linear":
		return func([]float32) {}, true
	}
	return nil, false
}

func each(f func(float64) float64) activation {
	return func(x []float32) {
		for i, v := range x {
			x[i] = float32(f(float64(v)))
		}
	}
}

// The normal distribution function Φ is interpolated between a table of its
// values and slopes: cubic pieces 1/64 wide differ from it by less than 1e-9.
const (
	phiSteps = 64
	phiEnd   = 9 // Φ(−9)·9 is below 1e-18
)

var phi = func() (t [phiSteps*phiEnd + 2][2]float64) {
	for i := range t {
		x := float64(i) / phiSteps
		t[i] = [2]float64{0.5 * math.Erfc(-x/math.Sqrt2), math.Exp(-x*x/2) / math.Sqrt(2*math.Pi) / phiSteps}
	}
	return t
}()

// gelu is x·Φ(x), the exact GELU.
func gelu(x []float32) {
	for i, v := range x {
		a := math.Abs(float64(v)) * phiSteps
		if !(a < phiSteps*phiEnd) {
			if v < 0 { // −Inf among them, for which torch gives −Inf·0 = NaN
				if math.IsInf(float64(v), -1) {
					v = float32(math.NaN())
				} else {
					v = 0
				}
			}
			x[i] = v
			continue
		}
		k := int(a)
		u := a - float64(k)
		p, q := &phi[k], &phi[k+1]
		d := q[0] - p[0]
		y := p[0] + u*(p[1]+u*((3*d-2*p[1]-q[1])+u*(p[1]+q[1]-2*d)))
		if v < 0 {
			y = 1 - y
		}
		x[i] = float32(float64(v) * y)
	}
}

// parallel calls f for the items 0 to n−1 on up to jobs threads. worker, below
// jobs, tells threads apart that need memory of their own. Which thread takes
// what must not matter.
func parallel(jobs, n int, f func(worker, item int)) {
	jobs = min(jobs, n)
	if jobs <= 1 {
		for i := range n {
			f(0, i)
		}
		return
	}
	var next atomic.Int64
	work := func(worker int) {
		for {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			f(worker, i)
		}
	}
	var wg sync.WaitGroup
	for w := 1; w < jobs; w++ {
		wg.Go(func() { work(w) })
	}
	work(0)
	wg.Wait()
}

// workers is how many threads to use for an option of which 0 means all.
func workers(jobs int) int {
	if jobs > 0 {
		return jobs
	}
	return runtime.GOMAXPROCS(0)
}

// sized is *buf with n elements, whatever they are.
func sized(buf *[]float32, n int) []float32 {
	if cap(*buf) < n {
		*buf = slices.Grow((*buf)[:0], n)
	}
	return (*buf)[:n]
}
