package alpacaeval

import "math"

// expTable holds 2^(i/64).
type expTable [64]float64

func newExpTable() *expTable {
	t := new(expTable)
	for i := range t {
		t[i] = math.Exp2(float64(i) / 64)
	}
	return t
}

const (
	expRound = 0x1.8p52              // adding it rounds to a whole number
	expScale = 64 / math.Ln2         // to 64ths of a power of two
	expHigh  = 0x1.62e42fefap-1 / 64 // ln 2 / 64 in two parts
	expLow   = 0x1.cf79abc9e3b39p-40 / 64
)

// exp sets e_i to e^x_i, for |x_i| < 700 within 5e−16 of it, and for others as
// math.Exp does. It is what a fit spends its time on.
func (t *expTable) exp(e, x []float64) {
	e = e[:len(x)]
	for i, v := range x {
		if !(v > -700 && v < 700) {
			e[i] = math.Exp(v)
			continue
		}
		shifted := v*expScale + expRound
		k := int64(math.Float64bits(shifted)) << 12 >> 12 // the whole number, in the low bits
		n := shifted - expRound
		r := (v - n*expHigh) - n*expLow // |r| ≤ ln 2 / 128
		p := r + r*r*(0.5+r*(1.0/6+r*(1.0/24+r*(1.0/120))))
		s := t[k&63]
		e[i] = math.Float64frombits(math.Float64bits(s+s*p) + uint64(k>>6)<<52)
	}
}
