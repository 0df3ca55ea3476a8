package kernel

import "math"

// SiLUMul replaces gate by gate·σ(gate)·up, element by element, σ(g) = 1/(1 +
// exp(−g)). The portable definition computes gate·σ(gate) in float64, rounds it,
// and multiplies. The assembly is within 4 units in the last place of the exact
// result; for gates below −87, whose exponential is subnormal, within
// |gate·up|·2⁻¹⁴⁹ more. −Inf·σ(−Inf) is NaN, as in PyTorch. An element of the
// result depends on its gate and up alone, not on its place.
func SiLUMul(gate, up []float32) {
	up = up[:len(gate)]
	if fastSiLUMul(gate, up) {
		return
	}
	for i, g := range gate {
		gate[i] = float32(float64(g)/(1+math.Exp(-float64(g)))) * up[i]
	}
}

// RMSNorm sets out[i] = (x[i]·s)·w[i], each product rounded, where s = 1/√(mean
// of x² + eps) and the sum of squares is Dot(x, x), all in float32. This is the
// order of LlamaRMSNorm in transformers
// (https://github.com/huggingface/transformers/blob/main/src/transformers/models/llama/modeling_llama.py).
// out may be x. x and w are as long as out.
func RMSNorm(out, x, w []float32, eps float32) {
	x, w = x[:len(out)], w[:len(out)]
	if len(out) == 0 {
		return
	}
	mean := Dot(x, x) / float32(len(x))
	s := float32(1 / math.Sqrt(float64(mean+eps)))
	for i := fastScaleMul(out, x, w, s); i < len(out); i++ {
		out[i] = float32(x[i]*s) * w[i]
	}
}

// Rope turns x by the angles whose cosines and sines are given, pairing element
// i with element i + len(x)/2 ("rotate half", as transformers does for Llama):
// a, b become a·cos − b·sin, b·cos + a·sin, products and sums rounded. cos and
// sin have len(x)/2 elements, the first half of what transformers holds.
func Rope(x, cos, sin []float32) {
	h := len(x) / 2
	a, b, cos, sin := x[:h], x[h:2*h], cos[:h], sin[:h]
	for i := fastRope(a, b, cos, sin); i < h; i++ {
		u, v := a[i], b[i]
		a[i] = float32(u*cos[i]) - float32(v*sin[i])
		b[i] = float32(v*cos[i]) + float32(u*sin[i])
	}
}

// scaleBy is x·s, element by element.
func scaleBy(x []float32, s float32) {
	for i := fastScale(x, s); i < len(x); i++ {
		x[i] *= s
	}
}

// Argmax is the index of the first of the largest elements of x, or −1 if it is
// empty. If x holds NaN, nan is true and the index that of the first NaN, which
// is what torch.argmax returns. −0 equals +0.
func Argmax(x []float32) (index int, nan bool) {
	const block = 2048
	index = -1
	var largest float32
	for from := 0; from < len(x); from += block {
		b := x[from:min(from+block, len(x))]
		// The index within a block is only looked for if it matters.
		m, nan := maximum(b)
		if nan {
			for i, v := range b {
				if v != v {
					return from + i, true
				}
			}
		}
		if index >= 0 && m <= largest {
			continue
		}
		largest = m
		for i, v := range b {
			if v == m {
				index = from + i
				break
			}
		}
	}
	return index, false
}

// maximum is the largest of x, and whether there is a NaN.
func maximum(x []float32) (largest float32, nan bool) {
	largest, nan, done := fastMaximum(x)
	for _, v := range x[done:] {
		if v != v {
			nan = true
		}
		if v > largest {
			largest = v
		}
	}
	return largest, nan
}
