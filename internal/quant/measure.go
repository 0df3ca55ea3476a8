package quant

import (
	"fmt"
	"math"
	"slices"
)

// NotFinite is the index of the first element of x that is infinite or NaN, or −1.
func NotFinite(x []float32) int {
	const infinite = 0x7F800000
	n, most := fastLargest(x)
	for _, v := range x[n:] {
		most = max(most, math.Float32bits(v)&0x7FFFFFFF)
	}
	if most < infinite {
		return -1
	}
	return slices.IndexFunc(x, func(v float32) bool { return math.Float32bits(v)&infinite == infinite })
}

// Compare is Σ(out − x)² and Σx² over the elements of x, of which out has as many
// or more. Differences, products and sums are float64, each rounded; element i goes
// to accumulator i mod 4, and the four are added in pairs.
func Compare(out, x []float32) (error2, norm2 float64) {
	var e, n [4]float64
	out = out[:len(x)]
	k := fastCompare(&e, &n, out, x)
	for ; k < len(x); k++ {
		v := float64(x[k])
		d := float64(out[k]) - v
		e[k&3] += float64(d * d)
		n[k&3] += float64(v * v)
	}
	return (e[0] + e[1]) + (e[2] + e[3]), (n[0] + n[1]) + (n[2] + n[3])
}

// CompareWeighted is Compare where a column has a weight: Σw·(out − x)² and Σw·x²
// over rows of len(weights) elements. The arithmetic is that of Compare. It panics
// unless x has whole rows.
func CompareWeighted(out, x, weights []float32) (error2, norm2 float64) {
	if len(x) > 0 && (len(weights) == 0 || len(x)%len(weights) != 0) {
		panic(fmt.Sprintf("quant: CompareWeighted: %d elements do not fill rows of %d", len(x), len(weights)))
	}
	var e, n [4]float64
	out = out[:len(x)]
	column := 0
	for k, v := range x {
		w, v := float64(weights[column]), float64(v)
		d := float64(out[k]) - v
		e[k&3] += float64(w * float64(d*d))
		n[k&3] += float64(w * float64(v*v))
		if column++; column == len(weights) {
			column = 0
		}
	}
	return (e[0] + e[1]) + (e[2] + e[3]), (n[0] + n[1]) + (n[2] + n[3])
}

// Project is Σ(out − a)·δ and Σδ², where δ = a − s, over the elements of a, of
// which out and s have as many or more. The arithmetic is that of Compare.
func Project(out, a, s []float32) (along, delta2 float64) {
	var p, n [4]float64
	out, s = out[:len(a)], s[:len(a)]
	k := fastProject(&p, &n, out, a, s)
	for ; k < len(a); k++ {
		v := float64(a[k])
		d := v - float64(s[k])
		p[k&3] += float64((float64(out[k]) - v) * d)
		n[k&3] += float64(d * d)
	}
	return (p[0] + p[1]) + (p[2] + p[3]), (n[0] + n[1]) + (n[2] + n[3])
}
