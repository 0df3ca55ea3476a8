//go:build !purego

package kernel

// fastSiLUMulBackward does all of it or nothing: what is no whole vector goes
// through one, so that an element's place does not show.
func fastSiLUMulBackward(gate, up, dy []float32) int {
	if inUse == portable {
		return 0
	}
	f := func(gate, up, dy *float32, n int) {
		if inUse >= avx512 {
			siluBackwardAVX512(gate, up, dy, n)
		} else {
			siluBackwardAVX2(gate, up, dy, n)
		}
	}
	n := wholeVectors(len(gate))
	if n > 0 {
		f(&gate[0], &up[0], &dy[0], n)
	}
	if n < len(gate) {
		var g, u, d [16]float32
		copy(g[:], gate[n:])
		copy(u[:], up[n:])
		copy(d[:], dy[n:])
		f(&g[0], &u[0], &d[0], 16)
		copy(gate[n:], g[:])
		copy(up[n:], u[:])
		copy(dy[n:], d[:])
	}
	return len(gate)
}

func fastRMSBackward(dx, dw, x, dy, t []float32, s, c float32) int {
	n := wholeVectors(len(x))
	switch {
	case n == 0:
	case inUse >= avx512:
		rmsBackwardAVX512(&dx[0], &dw[0], &x[0], &dy[0], &t[0], s, c, n)
	default:
		rmsBackwardAVX2(&dx[0], &dw[0], &x[0], &dy[0], &t[0], s, c, n)
	}
	return n
}

func fastSoftmaxBackward(d, p []float32, c float32) int {
	n := wholeVectors(len(d))
	switch {
	case n == 0:
	case inUse >= avx512:
		softmaxBackwardAVX512(&d[0], &p[0], c, n)
	default:
		softmaxBackwardAVX2(&d[0], &p[0], c, n)
	}
	return n
}

func fastAdamW(o *AdamW, w, m, v, g []float32) int {
	n := wholeVectors(len(w))
	fields := [7]float32{o.Scale, o.Decay, o.Beta1, o.Beta2, o.Rate, o.Root, o.Epsilon}
	switch {
	case n == 0:
	case inUse >= avx512:
		adamWAVX512(&w[0], &m[0], &v[0], &g[0], &fields, 1-o.Beta1, 1-o.Beta2, n)
	default:
		adamWAVX2(&w[0], &m[0], &v[0], &g[0], &fields, 1-o.Beta1, 1-o.Beta2, n)
	}
	return n
}
