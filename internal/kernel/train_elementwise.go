package kernel

import (
	"fmt"
	"math"
)

// What training needs beside products: the ways back through SiLUMul and
// RMSNorm, and the optimizer's step. The loops in assembly give the same bits as the
// portable ones beside them, except for σ.

// SiLUMulBackward is the way back through y = gate·σ(gate)·up. It replaces gate
// by dL/dgate and up by dL/dup, given dy = dL/dy, and dy by y, which the
// products that follow need. With σ = σ(gate) and s = gate·σ, each operation
// rounded,
//
//	dgate = (dy·up)·(σ + s·(1 − σ)), dup = dy·s, y = s·up
//
// The portable definition computes σ in float64 and rounds it; that of the
// assembly is within 4 units in the last place. Results for an element depend on
// its three values alone.
func SiLUMulBackward(gate, up, dy []float32) {
	up, dy = up[:len(gate)], dy[:len(gate)]
	for i := fastSiLUMulBackward(gate, up, dy); i < len(gate); i++ {
		g, u, d := gate[i], up[i], dy[i]
		sigma := float32(1 / (1 + math.Exp(-float64(g))))
		s := float32(g * sigma)
		slope := sigma + float32(s*(1-sigma))
		gate[i], up[i], dy[i] = float32(d*u)*slope, d*s, s*u
	}
}

// RMSNormBackward is the way back through y = x·s·w, s = (mean of x² + eps)^−½.
// It adds dL/dx to dx and dL/dw to dw, given dy = dL/dy:
//
//	dx += s·w·dy − x·s³·Σ(w·dy·x)/n, dw += dy·x·s
//
// Sums are those of [Dot]. scratch is as long as x and is overwritten.
func RMSNormBackward(dx, dw, x, w, dy, scratch []float32, eps float32) {
	n := len(x)
	if n == 0 {
		return
	}
	dx, dw, w, dy, t := dx[:n], dw[:n], w[:n], dy[:n], scratch[:n]
	s := float32(1 / math.Sqrt(float64(Dot(x, x)/float32(n)+eps)))
	for i := fastScaleMul(t, dy, w, 1); i < n; i++ {
		t[i] = dy[i] * w[i]
	}
	c := Dot(t, x) / float32(n) * s * s * s
	for i := fastRMSBackward(dx, dw, x, dy, t, s, c); i < n; i++ {
		dx[i] += float32(s*t[i]) - float32(c*x[i])
		dw[i] += float32(dy[i] * float32(x[i]*s))
	}
}

// SoftmaxBackward is the way back through p = softmax(x): it replaces d, which is
// dL/dp, by dL/dx = p·(d − Σ p·d), the sum being that of [Dot].
func SoftmaxBackward(d, p []float32) {
	p = p[:len(d)]
	c := Dot(p, d)
	for i := fastSoftmaxBackward(d, p, c); i < len(d); i++ {
		d[i] = p[i] * (d[i] - c)
	}
}

// Scale multiplies x by s, element by element.
func Scale(x []float32, s float32) { scaleBy(x, s) }

// AdamW is one step of the optimizer of "Decoupled Weight Decay Regularization"
// (https://arxiv.org/abs/1711.05101), in the order of torch.optim.AdamW:
//
//	g' = Scale·g; w = w·Decay
//	m = Beta1·m + (1 − Beta1)·g'; v = Beta2·v + (1 − Beta2)·g'²
//	w = w − Rate·m/(√v·Root + Epsilon)
//
// where Rate is the learning rate over 1 − Beta1ᵗ and Root is 1/√(1 − Beta2ᵗ) for
// step t from 1 on, and Decay is 1 − learning rate · weight decay. Each operation
// is rounded to float32.
type AdamW struct {
	Scale, Decay, Beta1, Beta2, Rate, Root, Epsilon float32
}

// Step changes the weights w and the moments m and v by the gradient g, all of
// one length.
func (o *AdamW) Step(w, m, v, g []float32) {
	if len(m) != len(w) || len(v) != len(w) || len(g) != len(w) {
		panic(fmt.Sprintf("kernel: AdamW: %d weights, %d and %d moments, gradient of %d", len(w), len(m), len(v), len(g)))
	}
	c1, c2 := 1-o.Beta1, 1-o.Beta2
	for i := fastAdamW(o, w, m, v, g); i < len(w); i++ {
		x := float32(o.Scale * g[i])
		a := float32(o.Beta1*m[i]) + float32(c1*x)
		b := float32(o.Beta2*v[i]) + float32(c2*float32(x*x))
		m[i], v[i] = a, b
		root := float32(float32(math.Sqrt(float64(b)))*o.Root) + o.Epsilon
		w[i] = float32(w[i]*o.Decay) - float32(float32(o.Rate*a)/root)
	}
}

// SumSquares is Σ x² in float64, element by element.
func SumSquares(x []float32) float64 {
	var lane [8]float64
	for len(x) >= 8 {
		y := (*[8]float32)(x)
		for i := range lane {
			v := float64(y[i])
			lane[i] += float64(v * v)
		}
		x = x[8:]
	}
	for i, v := range x {
		lane[i] += float64(float64(v) * float64(v))
	}
	return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]))
}
