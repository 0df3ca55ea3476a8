package alpacaeval

import "math"

// expTable holds 2^(i/256).
type expTable [256]float64

// powers never changes.
var powers = newExpTable()

func newExpTable() (t expTable) {
	for i := range t {
		t[i] = math.Exp2(float64(i) / 256)
	}
	return t
}

const (
	expRound = 0x1.8p52               // adding it rounds to a whole number
	expScale = 256 / math.Ln2         // to 256ths of a power of two
	expHigh  = 0x1.62e42fep-1 / 256   // ln 2 / 256 in two parts, this one short
	expLow   = math.Ln2/256 - expHigh // enough for exact products
)

// expMost is the largest exponent that one is good for.
const expMost = 700

// one is e^x, for |x| ≤ expMost within 1e−15 of it. It has to stay small
// enough to be inlined.
func (t *expTable) one(x float64) float64 {
	n := x*expScale + expRound
	k := math.Float64bits(n) // ends with the whole number
	n -= expRound
	x = x - n*expHigh - n*expLow // |x| ≤ ln 2 / 512
	s := t[k&255]
	return math.Float64frombits(math.Float64bits(s+s*x*(1+x*(0.5+x*(1.0/6+x*(1.0/24))))) + k>>8<<52)
}
