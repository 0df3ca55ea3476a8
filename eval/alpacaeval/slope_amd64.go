//go:build !purego

package alpacaeval

import (
	"math"

	"golang.org/x/sys/cpu"
)

// wide is how many rows the best loop that this machine can run does at once,
// 0 if there is none.
var wide = func() int {
	switch x := &cpu.X86; {
	case x.HasAVX512F:
		return 8
	case x.HasAVX2 && x.HasFMA:
		return 4
	}
	return 0
}()

// fastSlope sets s to the sums over the first rows and tells how many it did.
func fastSlope(s *slope, r *rows, w *[3]float64) int {
	n := len(r.c) &^ 7
	if n == 0 || wide == 0 {
		return 0
	}
	_, _, _ = r.x[0][n-1], r.x[1][n-1], r.x[2][n-1]
	if wide == 8 {
		slopeAVX512(s, &r.x[0][0], &r.x[1][0], &r.x[2][0], &r.c[0], n, w, &slopeConstants)
	} else {
		slopeAVX2(s, &r.x[0][0], &r.x[1][0], &r.x[2][0], &r.c[0], n, w, &slopeConstants)
	}
	return n
}

// slopeAVX2 sets s to the sums over n rows, a multiple of 4 above 0.
//
//go:noescape
func slopeAVX2(s *slope, x0, x1, x2, c *float64, n int, w *[3]float64, constants *[20][4]float64)

// slopeAVX512 sets s to the sums over n rows, a multiple of 8 above 0.
//
//go:noescape
func slopeAVX512(s *slope, x0, x1, x2, c *float64, n int, w *[3]float64, constants *[20][4]float64)

// slopeConstants are what the assembly needs, four times each.
var slopeConstants = func() (out [20][4]float64) {
	const high = 0x1.62e42fefap-1 // ln 2 in two parts, this one short enough for exact products
	list := []float64{expMost, -expMost, 1 / math.Ln2, expRound, high, math.Ln2 - high}
	for k, factorial := 13, 6227020800.0; k >= 0; k-- { // e^x = Σ x^k / k!
		list = append(list, 1/factorial)
		factorial /= max(float64(k), 1)
	}
	for i, v := range list {
		out[i] = [4]float64{v, v, v, v}
	}
	return out
}()
