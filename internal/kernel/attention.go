package kernel

import (
	"fmt"
	"math"
)

// Attention of one head over cached keys and values: [Scores], [Softmax],
// [WeightedSum]. The Batch functions do several queries that see the same keys,
// in less time and with the same results bit for bit: those that share a head of
// keys and values, or tokens of a prompt.
//
// A cache is fastest if the keys of a head lie one behind the other (stride =
// elements of a key).

// Scores computes out[j] = scale · Σ_d q[d]·k[j][d] for keys j. Key j begins at
// element j·stride of k, which has format f (BF16, F16 or F32) and any
// alignment; q keeps all its bits. The sum is that of [MatMul] with F32
// activations; it is rounded before it is multiplied by scale. An element of out
// depends on its key and q alone.
func Scores(out, q []float32, k []byte, f Format, keys, stride int, scale float32) {
	ScoresBatch(out, keys, q, 1, k, f, keys, stride, scale)
}

// ScoresBatch is [Scores] for queries vectors q, (queries, dimension)
// row-major. The scores of query i are at out[i*ostride:].
func ScoresBatch(out []float32, ostride int, q []float32, queries int, k []byte, f Format, keys, stride int, scale float32) {
	if queries <= 0 || keys <= 0 {
		return
	}
	d := len(q) / queries
	needCached("Scores", "k", k, f, keys, stride, d)
	if len(out) < (queries-1)*ostride+keys {
		panic(fmt.Sprintf("kernel: Scores: out has %d elements, want %d for each of %d queries", len(out), keys, queries))
	}
	p := product{
		out: out, stride: ostride, m: queries, rows: keys, n: d,
		x: q, xstride: d, w: k, wstride: stride, f: f,
	}
	if r := d % 16; r != 0 {
		// Tiles read whole vectors.
		p.xstride = d - r + 16
		p.x = make([]float32, queries*p.xstride)
		for i := range queries {
			copy(p.x[i*p.xstride:], q[i*d:(i+1)*d])
		}
	}
	p.run()
	for i := range queries {
		scaleBy(out[i*ostride:i*ostride+keys], scale)
	}
}

// WeightedSum adds Σ_j p[j]·v[j][d] to out[d] for keys j in order. Value j begins
// at element j·stride of v, of format f (BF16, F16 or F32) and any alignment.
//
// Each element of out takes its products one after the other, so cutting the
// keys into several calls changes nothing. The assembly fuses multiplication
// and addition, except in what is left of len(out) after whole vectors of 8 or
// 16.
func WeightedSum(out, p []float32, v []byte, f Format, keys, stride int) {
	WeightedSumBatch(out, 1, p, len(p), v, f, keys, stride)
}

// WeightedSumBatch is [WeightedSum] for queries sums out, (queries, dimension)
// row-major. The weights of query i are at p[i*pstride:].
func WeightedSumBatch(out []float32, queries int, p []float32, pstride int, v []byte, f Format, keys, stride int) {
	if queries <= 0 || keys <= 0 {
		return
	}
	d := len(out) / queries
	needCached("WeightedSum", "v", v, f, keys, stride, d)
	if len(p) < (queries-1)*pstride+keys {
		panic(fmt.Sprintf("kernel: WeightedSum: p has %d elements, want %d for each of %d queries", len(p), keys, queries))
	}
	done := fastWeigh(out, d, queries, p, pstride, v, f, keys, stride)
	if done == d {
		return
	}
	// Rows of float32 at a time, which costs no more than the products.
	var row [256]float32
	for from := done; from < d; from += len(row) {
		n := min(len(row), d-from)
		for j := range keys {
			Widen(row[:n], v[(j*stride+from)*f.Bytes():], f)
			for i := range queries {
				w := p[i*pstride+j]
				sum := out[i*d+from : i*d+from+n]
				for e, x := range row[:n] {
					sum[e] += float32(w * x)
				}
			}
		}
	}
}

// needCached panics unless b has keys vectors of d elements.
func needCached(op, name string, b []byte, f Format, keys, stride, d int) {
	if f != BF16 && f != F16 && f != F32 {
		panic(fmt.Sprintf("kernel: %s: no products with format %d", op, f))
	}
	need(op, name, b, (keys-1)*stride+d, f)
}

// Softmax replaces x by exp(x − max x) / Σ exp(x − max x). The result depends on
// x and the implementation alone.
//
// The assembly's exponential has a relative error below 0.75 · 2⁻²³ where the
// result is normal, and below 2⁻¹²⁶ it is right to a unit, 2⁻¹⁴⁹. It sums in 16 or 8
// lanes that are added pairwise, and multiplies by the rounded reciprocal. If x
// holds NaN or +Inf, or nothing but −Inf, all results are NaN.
func Softmax(x []float32) {
	if fastSoftmax(x) {
		return
	}
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
