package kernel

import "math"

// Activations are m vectors of n float32 values, prepared for products with
// weights of one format. Make it with NewActivations, fill it with Set.
type Activations struct {
	M, N   int
	Format Format
	f32    []float32 // (M, N): as given for F16 and F32 weights, rounded to bfloat16 for BF16 weights
	bf16   []byte    // (M, N): the same values as BF16, for BF16 weights only
}

// NewActivations makes room for up to m vectors of n values that meet weights
// of format f: BF16, F16 or F32.
func NewActivations(m, n int, f Format) *Activations {
	a := &Activations{N: n, Format: f, f32: make([]float32, m*n)}
	if f == BF16 {
		a.bf16 = make([]byte, 2*m*n)
	}
	return a
}

// Set takes m vectors of N values from x, (m, N) row-major. For BF16 weights
// they are rounded to bfloat16, to nearest even, as PyTorch's bfloat16 models
// hold them.
func (a *Activations) Set(x []float32, m int) {
	a.M = m
	x = x[:m*a.N]
	if a.Format != BF16 {
		copy(a.f32[:len(x)], x)
		return
	}
	Narrow(a.bf16[:2*len(x)], x, BF16)
	Widen(a.f32[:len(x)], a.bf16[:2*len(x)], BF16)
}

// MatMul computes out[i*stride+r] = Σ_k x[i][k]·w[r][k] for the M vectors of x
// and rows rows of w, which is (rows, x.N) row-major of format x.Format, any
// alignment. Work is divided among threads by giving each some of the rows.
//
// The sum of an element depends on its two vectors alone: not on M, not on
// rows, not on what else is computed. So a token's result is the same in any
// batch. Its order is the implementation's own, fixed for a machine; all agree
// with the exact sum to within the rounding of a float32 sum of products.
func MatMul(out []float32, stride int, x *Activations, w []byte, rows int) {
	n, width := x.N, x.Format.Bytes()
	row := make([]float32, n)
	for r := range rows {
		Widen(row, w[r*n*width:(r+1)*n*width], x.Format)
		for i := range x.M {
			out[i*stride+r] = Dot(x.f32[i*n:(i+1)*n], row)
		}
	}
}

// Dot is Σ a[k]·b[k] in float32, in 16 lanes (element k in lane k mod 16)
// that are added pairwise at the end.
func Dot(a, b []float32) float32 {
	b = b[:len(a)]
	var lane [16]float32
	for k, v := range a {
		lane[k%16] += float32(v * b[k])
	}
	for w := 8; w > 0; w /= 2 {
		for i := range w {
			lane[i] += lane[i+w]
		}
	}
	return lane[0]
}

// Axpy adds alpha·x to y, element by element.
func Axpy(y []float32, alpha float32, x []float32) {
	x = x[:len(y)]
	for i, v := range x {
		y[i] += float32(alpha * v)
	}
}

// Softmax replaces x by exp(x − max x) / Σ exp(x − max x).
func Softmax(x []float32) {
	m := float32(math.Inf(-1))
	for _, v := range x {
		m = max(m, v)
	}
	var sum float32
	for i, v := range x {
		e := float32(math.Exp(float64(v - m)))
		x[i] = e
		sum += e
	}
	for i := range x {
		x[i] /= sum
	}
}

// SiLUMul replaces gate by gate·σ(gate)·up, element by element.
func SiLUMul(gate, up []float32) {
	up = up[:len(gate)]
	for i, g := range gate {
		gate[i] = float32(float64(g)/(1+math.Exp(-float64(g)))) * up[i]
	}
}
