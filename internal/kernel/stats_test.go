package kernel

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestMeasureElement(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	const big = math.MaxFloat32
	tests := []struct {
		name      string
		a, s, out float32
		want      Stats
	}{
		{"plain", 3, 1, 4, Stats{Delta2: 4, Aligned2: 9, Step2: 1, StepDelta: 2}},
		{"against the delta", 3, 1, 2, Stats{Delta2: 4, Aligned2: 9, Step2: 1, StepDelta: -2}},
		{"equal", 3, 3, 3, Stats{Equal: 1, Aligned2: 9}},
		{"equal, moved", 3, 3, 4, Stats{Equal: 1, Aligned2: 9, Step2: 1}},
		{"equal zeros", 0, float32(math.Copysign(0, -1)), 0, Stats{Equal: 1}},
		{"swallowed", 3, 1, 3, Stats{Swallowed: 1, Delta2: 4, Aligned2: 9}},
		{"equal infinities", inf, inf, inf, Stats{Equal: 1, Inf: 1, InputInf: 1}},
		{"opposite infinities", inf, -inf, nan, Stats{NaN: 1, InputInf: 1}},
		{"infinite SFT", 1, inf, 1, Stats{InputInf: 1}},
		{"NaN", nan, nan, nan, Stats{NaN: 1, InputNaN: 1}},
		{"NaN and infinity", inf, nan, 2, Stats{InputNaN: 1}},
		{"overflow of a-s", big, -big, inf, Stats{Inf: 1, Overflow: 1}},
		{"overflow of a-s, kept", big, -big, big, Stats{}},
		{"overflow of out", 1, 0, -inf, Stats{Inf: 1, Overflow: 1}},
		{"NaN from finite", 1, 0, nan, Stats{NaN: 1, Overflow: 1}},
		{"overflow of out-a", big, big / 2, -big, Stats{}},
		{"smallest", 0x1p-149, 0, 0x1p-148, Stats{Delta2: 0x1p-298, Aligned2: 0x1p-298, Step2: 0x1p-298, StepDelta: 0x1p-298}},
		{"largest", big, 0, 0, Stats{Delta2: big * big, Aligned2: big * big, Step2: big * big, StepDelta: -big * big}},
	}
	everywhere(t, func(t *testing.T) {
		for _, tt := range tests {
			for _, n := range []int{1, 64} { // a power of two, for exact sums
				a, s, out := make([]float32, n), make([]float32, n), make([]float32, n)
				for i := range n {
					a[i], s[i], out[i] = tt.a, tt.s, tt.out
				}
				var got, want Stats
				Measure(&got, a, s, out)
				tt.want.Elements = 1
				for range n {
					want.Add(tt.want)
				}
				want.Delta2, want.Aligned2 = tt.want.Delta2*float64(n), tt.want.Aligned2*float64(n)
				want.Step2, want.StepDelta = tt.want.Step2*float64(n), tt.want.StepDelta*float64(n)
				if got != want {
					t.Errorf("%s, %d times:\n got %+v\nwant %+v", tt.name, n, got, want)
				}
			}
		}
	})
}

// TestMeasureRandom compares bit for bit, the sums in their documented order.
func TestMeasureRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for kind := range kinds {
		a, s := values32(rng, kind, 3*block)
		out := make([]float32, len(a))
		for i := range out {
			switch rng.IntN(3) {
			case 0:
				out[i] = a[i]
			case 1:
				out[i] = mixRef(a[i], s[i], 0.3)
			case 2:
				out[i] = float32(roundRef(float64(mixRef(a[i], s[i], 0.3)), BF16))
			}
		}
		everywhere(t, func(t *testing.T) {
			for _, n := range lengths() {
				at := n % 9
				got, want := Stats{Delta2: 1}, Stats{Delta2: 1}
				Measure(&got, a[at:at+n], s[at:at+n], out[at:at+n])
				measureRef(&want, a[at:at+n], s[at:at+n], out[at:at+n])
				if got != want {
					t.Fatalf("kind %d, %d elements:\n got %+v\nwant %+v", kind, n, got, want)
				}
			}
		})
	}
}

// TestMeasureOneBad puts one infinity at each place of a long ordinary block: no
// sum may notice, every count must.
func TestMeasureOneBad(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	a, s := values32(rng, ordinary, 200)
	out := make([]float32, len(a))
	Mix32(out, a, s, 0.3)
	everywhere(t, func(t *testing.T) {
		for i := range a {
			for _, p := range [][]float32{a, s, out} {
				was := p[i]
				for _, bad := range []float32{float32(math.Inf(-1)), float32(math.NaN())} {
					p[i] = bad
					var got, want Stats
					Measure(&got, a, s, out)
					measureRef(&want, a, s, out)
					if got != want {
						t.Fatalf("%v at %d:\n got %+v\nwant %+v", bad, i, got, want)
					}
				}
				p[i] = was
			}
		}
	})
}

// TestStatsAdd makes sure that no field is forgotten.
func TestStatsAdd(t *testing.T) {
	var s, o Stats
	vs, vo := reflect.ValueOf(&s).Elem(), reflect.ValueOf(&o).Elem()
	for i := range vs.NumField() {
		if vs.Field(i).CanInt() {
			vs.Field(i).SetInt(int64(i + 1))
			vo.Field(i).SetInt(int64(100 * (i + 1)))
		} else {
			vs.Field(i).SetFloat(float64(i + 1))
			vo.Field(i).SetFloat(float64(100 * (i + 1)))
		}
	}
	s.Add(o)
	for i := range vs.NumField() {
		got := 0.0
		if vs.Field(i).CanInt() {
			got = float64(vs.Field(i).Int())
		} else {
			got = vs.Field(i).Float()
		}
		if want := float64(101 * (i + 1)); got != want {
			t.Errorf("%s is %v, want %v", vs.Type().Field(i).Name, got, want)
		}
	}
}
