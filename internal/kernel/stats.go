package kernel

// Stats is what [Measure] counts and sums. Sums are float64.
type Stats struct {
	Elements  int64 // seen
	Equal     int64 // s == a as float32 values: infinities may be equal, NaN never
	Swallowed int64 // s != a; a, s, a-s and out finite; yet out == a

	NaN, Inf           int64 // of out
	InputNaN, InputInf int64 // a or s is NaN; neither is, and a or s is infinite
	Overflow           int64 // a and s finite, out not

	// Over the elements where a, s, δ = float32(a-s), out and float32(out-a) are
	// all finite: Σδ², Σa², Σ(out-a)², Σ(out-a)·δ.
	Delta2, Aligned2, Step2, StepDelta float64
}

// Add adds o to s, field by field.
func (s *Stats) Add(o Stats) {
	s.Elements += o.Elements
	s.Equal += o.Equal
	s.Swallowed += o.Swallowed
	s.NaN += o.NaN
	s.Inf += o.Inf
	s.InputNaN += o.InputNaN
	s.InputInf += o.InputInf
	s.Overflow += o.Overflow
	s.Delta2 += o.Delta2
	s.Aligned2 += o.Aligned2
	s.Step2 += o.Step2
	s.StepDelta += o.StepDelta
}

// Measure adds len(out) elements to st, in the order of sums that the package
// doc gives. a is the aligned side, s the SFT side, out the result as stored,
// all as float32. It panics if a or s is shorter than out.
func Measure(st *Stats, a, s, out []float32) {
	a, s = a[:len(out)], s[:len(out)]
	for len(out) > 0 {
		n := min(len(out), block)
		var t sums
		t.measure(a[:n], s[:n], out[:n])
		if !t.flush(st, n) {
			t = sums{careful: true}
			t.measure(a[:n], s[:n], out[:n])
			t.flush(st, n)
		}
		a, s, out = a[n:], s[n:], out[n:]
	}
}

const (
	block = 4096 // elements of a sub-block, the unit of the sums
	lanes = 8    // accumulators per sum
)

// sums is one sub-block on its way into a Stats.
//
// The assembly adds every element to product, finite or not. That is found out
// afterwards: a sum of squares of float32 is finite in float64 exactly if all of
// them are, finite a and δ mean finite s, and finite a and out-a finite out. So
// flush refuses such a sub-block, and the caller does it again, careful. A file
// of nothing but NaN is slow, and measured correctly.
type sums struct {
	product [4][lanes]float64
	counts  [2]int64

	nan, inf, inputNaN, inputInf, overflow int64

	careful bool // look at each element
}

// Indices of sums.product and sums.counts, which the assembly knows.
const (
	delta2, aligned2, step2, stepDelta = 0, 1, 2, 3
	equal, swallowed                   = 0, 1
)

// measure adds elements by whatever implementation is in use. The number of
// elements already in t is a multiple of lanes.
func (t *sums) measure(a, s, out []float32) {
	done := 0
	if !t.careful {
		done = t.fastMeasure(a, s, out)
	}
	t.count(a[done:], s[done:], out[done:])
}

// count is the portable definition of what is measured.
func (t *sums) count(a, s, out []float32) {
	s, out = s[:len(a)], out[:len(a)]
	for i, x := range a {
		y, z := s[i], out[i]
		d := float32(x - y)
		e := float32(z - x)
		if x == y {
			t.counts[equal]++
		}
		if x-x != 0 || d-d != 0 || e-e != 0 { // not all finite
			t.exception(x, y, z)
			continue
		}
		if x != y && x == z {
			t.counts[swallowed]++
		}
		l := i & (lanes - 1)
		t.product[delta2][l] += float64(d) * float64(d)
		t.product[aligned2][l] += float64(x) * float64(x)
		t.product[step2][l] += float64(e) * float64(e)
		t.product[stepDelta][l] += float64(e) * float64(d)
	}
}

// exception counts an element with a = x, s = y and out = z that is left out of
// the sums.
func (t *sums) exception(x, y, z float32) {
	in := true // a and s are finite
	switch {
	case x != x || y != y:
		t.inputNaN++
		in = false
	case x-x != 0 || y-y != 0:
		t.inputInf++
		in = false
	}
	switch {
	case z != z:
		t.nan++
	case z-z != 0:
		t.inf++
	default:
		return
	}
	if in {
		t.overflow++
	}
}

// flush adds a sub-block of n elements to st. It returns false, with st as it was,
// if elements got into the sums that do not belong there; never if careful.
func (t *sums) flush(st *Stats, n int) bool {
	dd, aa, ee := reduce(&t.product[delta2]), reduce(&t.product[aligned2]), reduce(&t.product[step2])
	if dd-dd != 0 || aa-aa != 0 || ee-ee != 0 {
		return false
	}
	st.Elements += int64(n)
	st.Equal += t.counts[equal]
	st.Swallowed += t.counts[swallowed]
	st.NaN += t.nan
	st.Inf += t.inf
	st.InputNaN += t.inputNaN
	st.InputInf += t.inputInf
	st.Overflow += t.overflow
	st.Delta2 += dd
	st.Aligned2 += aa
	st.Step2 += ee
	st.StepDelta += reduce(&t.product[stepDelta])
	return true
}

func reduce(l *[lanes]float64) float64 {
	return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]))
}
