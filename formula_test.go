package expo_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"expo"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

var (
	inputs    = []tensor.DType{tensor.BF16, tensor.F16, tensor.F32, tensor.F64, tensor.F8E4M3, tensor.F8E5M2}
	roundings = []expo.Rounding{expo.Once, expo.PerOp, expo.Stochastic}
)

// sample draws a tensor of which a part is arbitrary codes (NaN, infinities,
// subnormals, both zeros), the rest weights.
func sample(r *rand.Rand, d tensor.DType, n int) tensor.Tensor {
	vals := make([]float32, n)
	for i := range vals {
		vals[i] = float32(0.02 * r.NormFloat64())
	}
	w := d.Bits() / 8
	b := checkpointtest.Bytes(checkpointtest.Floats("w", d, []int{n}, vals))
	for i := range n / 2 {
		var code [8]byte
		binary.LittleEndian.PutUint64(code[:], r.Uint64())
		copy(b[i*w:], code[:w])
	}
	return checkpointtest.Raw("w", d, []int{n}, b)
}

// partner gives a tensor of another type that is near t, equal in every fourth
// element, and zero of either sign in some.
func partner(r *rand.Rand, t tensor.Tensor, d tensor.DType) tensor.Tensor {
	vals := checkpointtest.Values(t)
	for i, v := range vals {
		switch r.IntN(8) {
		case 0, 1:
		case 2:
			vals[i] = float32(math.Copysign(0, r.NormFloat64()))
		case 3:
			vals[i] = float32(r.NormFloat64())
		default:
			vals[i] = v * float32(1+0.01*r.NormFloat64())
		}
	}
	return checkpointtest.Floats("w", d, t.Shape, vals)
}

// TestFormula compares every pair of input types, rounding and output type
// with the reference, on values that real weights never have among others.
func TestFormula(t *testing.T) {
	const n, seed = 512, 9
	r := rand.New(rand.NewPCG(1, 2))
	for _, aligned := range inputs {
		for _, sft := range inputs {
			s := sample(r, sft, n)
			a := partner(r, s, aligned)
			if r.IntN(2) == 0 {
				a = sample(r, aligned, n)
				s = partner(r, a, sft)
			}
			p := memoryPair(t, single(s), single(a))
			av, sv := decode(aligned, checkpointtest.Bytes(a)), decode(sft, checkpointtest.Bytes(s))
			for _, rounding := range roundings {
				for _, dtype := range []tensor.DType{tensor.Invalid, tensor.BF16, tensor.F16, tensor.F32} {
					for _, alpha := range []float64{0.3, -1, 2.5, 1. / 3} {
						c := extrapolate(t, p, expo.Options{Alpha: alpha, Rounding: rounding, Seed: seed, DType: dtype})
						got, _ := c.Tensor("w")
						out := dtype
						if out == tensor.Invalid {
							out = aligned
							if rounding == expo.PerOp || aligned.Bits() == 8 {
								out = tensor.BF16
							}
						}
						if got.DType != out {
							t.Fatalf("%v, %v %v: output is %v, want %v", aligned, rounding, dtype, got.DType, out)
						}
						b := checkpointtest.Bytes(got)
						for i, v := range decode(out, b) {
							want := reference(av[i], sv[i], alpha, rounding, aligned, out, key(seed, "w"), i)
							if !same(v, want) {
								t.Errorf("%v, aligned %v %g, sft %v %g, α %g, to %v: element %d is %g, want %g", rounding, aligned, av[i], sft, sv[i], alpha, out, i, v, want)
								break
							}
							if v != v && !canonical(out, b, i) {
								t.Errorf("%v to %v: NaN of element %d is %x", rounding, out, i, b[i*out.Bits()/8:(i+1)*out.Bits()/8])
								break
							}
						}
					}
				}
			}
		}
	}
}

// canonical reports whether element i is the one NaN that is written.
func canonical(d tensor.DType, b []byte, i int) bool {
	switch b = b[i*d.Bits()/8:]; d {
	case tensor.BF16:
		return binary.LittleEndian.Uint16(b) == 0x7FC0
	case tensor.F16:
		return binary.LittleEndian.Uint16(b) == 0x7E00
	case tensor.F32:
		return binary.LittleEndian.Uint32(b) == 0x7FC00000
	}
	return binary.LittleEndian.Uint64(b) == 0x7FF8000000000000
}

// TestNaN checks that NaN of either side comes out as NaN, whatever the
// rounding and the type.
func TestNaN(t *testing.T) {
	nan := float32(math.NaN())
	for _, d := range inputs {
		a := checkpointtest.Floats("w", d, []int{3}, []float32{nan, 1, nan})
		s := checkpointtest.Floats("w", d, []int{3}, []float32{1, nan, nan})
		for _, rounding := range roundings {
			c := extrapolate(t, memoryPair(t, single(s), single(a)), expo.Options{Alpha: 0.5, Rounding: rounding})
			got, _ := c.Tensor("w")
			for i, v := range checkpointtest.Values(got) {
				if v == v {
					t.Errorf("%v, %v: element %d is %v", d, rounding, i, v)
				}
			}
		}
	}
}

// TestEqualElements checks that where both sides are equal the stored bits
// stay, also of −0 and infinity, and of doubles beyond float32's digits.
func TestEqualElements(t *testing.T) {
	inf := float32(math.Inf(1))
	vals := []float32{float32(math.Copysign(0, -1)), 0, 1, -1, 0.0234375, -0.375, inf, -inf}
	for _, d := range inputs {
		if d == tensor.F8E4M3 {
			vals = vals[:6] // has no infinity
		}
		for _, rounding := range []expo.Rounding{expo.Once, expo.Stochastic} {
			x := checkpointtest.Floats("w", d, []int{len(vals)}, vals)
			c := extrapolate(t, memoryPair(t, single(x), single(x)), expo.Options{Alpha: 0.3, Rounding: rounding, Seed: 4})
			got, _ := c.Tensor("w")
			for i, v := range decode(got.DType, checkpointtest.Bytes(got)) {
				if !same(v, float64(vals[i])) {
					t.Errorf("%v, %v: element %d is %g, want %g", d, rounding, i, v, vals[i])
				}
			}
			if got.DType == d && string(checkpointtest.Bytes(got)) != string(checkpointtest.Bytes(x)) {
				t.Errorf("%v, %v: other bytes", d, rounding)
			}
		}
	}
	b := binary.LittleEndian.AppendUint64(nil, math.Float64bits(math.Pi))
	x := checkpointtest.Raw("w", tensor.F64, []int{1}, b)
	c := extrapolate(t, memoryPair(t, single(x), single(x)), expo.Options{Alpha: 0.3})
	if got := bytesOf(t, c, "w"); string(got) != string(b) {
		t.Errorf("π became %x, want %x", got, b)
	}
}

// TestPerOpZero checks the case in which the authors' program differs: an
// unchanged −0 becomes +0, also for α = 0, which is no copy there.
func TestPerOpZero(t *testing.T) {
	x := checkpointtest.Floats("w", tensor.BF16, []int{2}, []float32{float32(math.Copysign(0, -1)), 1})
	for _, tt := range []struct{ alpha, want float64 }{{0, 0}, {0.3, 0}, {-0.3, math.Copysign(0, -1)}} {
		c := extrapolate(t, memoryPair(t, single(x), single(x)), expo.Options{Alpha: tt.alpha, Rounding: expo.PerOp})
		got := decode(tensor.BF16, bytesOf(t, c, "w"))
		if !same(got[0], tt.want) || got[1] != 1 {
			t.Errorf("α %g: %g, want [%g 1]", tt.alpha, got, tt.want)
		}
	}
}

// TestBackToSFT checks that α = −1 gives the SFT model on weights such as
// training leaves them.
func TestBackToSFT(t *testing.T) {
	for _, d := range []tensor.DType{tensor.BF16, tensor.F16, tensor.F32} {
		s, a := checkpointtest.Pair(5, d)
		p := memoryPair(t, s, a)
		sameTensors(t, extrapolate(t, p, expo.Options{Alpha: -1}), p.SFT)
	}
	s, a := large(tensor.BF16, 3)
	p := memoryPair(t, s, a)
	sameTensors(t, extrapolate(t, p, expo.Options{Alpha: -1}), p.SFT)
}

func TestSameModel(t *testing.T) {
	for _, d := range []tensor.DType{tensor.BF16, tensor.F16, tensor.F32, tensor.F64} {
		s, _ := checkpointtest.Pair(6, d)
		s.Set(checkpointtest.Floats("model.norm.weight", d, []int{2}, []float32{float32(math.Copysign(0, -1)), 0}))
		p := memoryPair(t, s, s)
		for _, rounding := range []expo.Rounding{expo.Once, expo.Stochastic} {
			t.Run(fmt.Sprint(d, rounding), func(t *testing.T) {
				sameTensors(t, extrapolate(t, p, expo.Options{Alpha: 0.7, Rounding: rounding}), p.Aligned)
			})
		}
	}
}
