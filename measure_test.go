package expo_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"expo"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// naive measures one tensor, or several, with plain sums.
type naive struct {
	elements, equal, moved, swallowed, nan, inf, inputNaN, inputInf, overflow int64
	delta2, aligned2, stepDelta, nominal                                      float64
}

func (n *naive) add(aligned, sft, out []float32, alpha float64) {
	finite := func(x float32) bool { return x-x == 0 }
	for i := range out {
		a, s, o := aligned[i], sft[i], out[i]
		n.elements++
		switch {
		case a != a || s != s:
			n.inputNaN++
		case !finite(a) || !finite(s):
			n.inputInf++
		}
		if o != o {
			n.nan++
		} else if !finite(o) {
			n.inf++
		}
		if finite(a) && finite(s) && !finite(o) {
			n.overflow++
		}
		if a == s {
			n.equal++
		}
		d := a - s
		if !finite(a) || !finite(s) || !finite(o) || !finite(d) {
			continue
		}
		if a != s && o == a {
			n.swallowed++
		}
		n.delta2 += float64(d) * float64(d)
		n.aligned2 += float64(a) * float64(a)
		n.stepDelta += float64(o-a) * float64(d)
		n.nominal += alpha * float64(d) * float64(d)
	}
}

func (n *naive) check(t *testing.T, name string, got expo.Statistics) {
	t.Helper()
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"elements", float64(got.Elements), float64(n.elements)},
		{"‖δ‖", got.DeltaNorm, math.Sqrt(n.delta2)},
		{"‖θ‖", got.AlignedNorm, math.Sqrt(n.aligned2)},
		{"relative norm", got.RelativeNorm, math.Sqrt(n.delta2 / n.aligned2)},
		{"unchanged", got.Unchanged, float64(n.equal) / float64(n.elements)},
		{"swallowed", got.Swallowed, float64(n.swallowed) / float64(n.elements-n.equal)},
		{"effective α", got.EffectiveAlpha, n.stepDelta / n.delta2},
		{"nominal α", got.NominalAlpha, n.nominal / n.delta2},
		{"NaN", float64(got.NaN), float64(n.nan)},
		{"Inf", float64(got.Inf), float64(n.inf)},
		{"input NaN", float64(got.InputNaN), float64(n.inputNaN)},
		{"input Inf", float64(got.InputInf), float64(n.inputInf)},
		{"overflow", float64(got.Overflow), float64(n.overflow)},
	} {
		if !(math.Abs(c.got-c.want) <= 1e-10*math.Abs(c.want)) {
			t.Errorf("%s: %s is %g, want %g", name, c.what, c.got, c.want)
		}
	}
}

// TestStatistics compares the record's statistics with plain sums, for several
// α, roundings and types, over tensors longer than a block.
func TestStatistics(t *testing.T) {
	rules := []expo.Rule{{Pattern: "h.*", Alpha: -0.5}, {Pattern: "norm.*", Alpha: 0}}
	for _, tt := range []struct {
		d   tensor.DType
		opt expo.Options
	}{
		{tensor.BF16, expo.Options{Alpha: 0.3, Rules: rules}},
		{tensor.BF16, expo.Options{Alpha: 0.3, DType: tensor.F32}},
		{tensor.F32, expo.Options{Alpha: 0.3, DType: tensor.F16, Rounding: expo.Stochastic, Rules: rules}},
		{tensor.F16, expo.Options{Alpha: 0.5, Rounding: expo.PerOp}},
	} {
		sft, aligned := large(tt.d, 3)
		dir, w := write(t, disk(t, sft, aligned), tt.opt, expo.WriteOptions{Jobs: 2, NoDigest: true})
		out := open(t, dir)
		var total naive
		for _, a := range aligned.Tensors {
			alpha := tt.opt.Alpha
			for _, r := range tt.opt.Rules {
				if strings.HasPrefix(a.Name, r.Pattern[:2]) {
					alpha = r.Alpha
				}
			}
			x, _ := out.Tensor(a.Name)
			av, sv, xv := checkpointtest.Values(a), checkpointtest.Values(sft.Tensor(a.Name)), checkpointtest.Values(x)
			var one naive
			one.add(av, sv, xv, alpha)
			one.check(t, a.Name, w.Record.Statistics.Tensors[a.Name])
			total.add(av, sv, xv, alpha)
		}
		total.check(t, "total", w.Record.Statistics.Total)
	}
}

// TestNotFinite counts what is not finite, on either side and in the result.
func TestNotFinite(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	max := float32(3e38)
	a := []float32{1, nan, 2, inf, inf, 1, max, 70000, 0.5}
	s := []float32{1.5, 1, nan, 1, inf, -inf, -max, 69000, 0.25}
	for _, dtype := range []tensor.DType{0, tensor.F16} {
		sm, am := single(checkpointtest.Floats("w", tensor.F32, []int{9}, s)), single(checkpointtest.Floats("w", tensor.F32, []int{9}, a))
		dir, w := write(t, disk(t, sm, am), expo.Options{Alpha: 0.5, DType: dtype, AllowOverflow: true}, expo.WriteOptions{})
		x, _ := open(t, dir).Tensor("w")
		var want naive
		want.add(a, s, checkpointtest.Values(x), 0.5)
		want.check(t, dtype.String(), w.Record.Statistics.Total)
		if want.overflow == 0 || want.inputNaN != 2 || want.inputInf != 3 {
			t.Errorf("the test itself: %+v", want)
		}
	}
	// What is taken from the aligned model counts here, and nowhere else.
	am := single(checkpointtest.Floats("w", tensor.F32, []int{1}, []float32{1}))
	am.Set(checkpointtest.Floats("own", tensor.F32, []int{4}, []float32{nan, inf, 1e9, 2}))
	sm := single(checkpointtest.Floats("w", tensor.F32, []int{1}, []float32{2}))
	_, w := write(t, disk(t, sm, am), expo.Options{Alpha: 0.5, DType: tensor.F16, Missing: expo.MissingAligned, AllowOverflow: true}, expo.WriteOptions{})
	want := expo.Statistics{NaN: 1, Inf: 2, InputNaN: 1, InputInf: 1, Overflow: 1, NominalAlpha: 0.5}
	if got := w.Record.Statistics.Tensors["own"]; got != want {
		t.Errorf("own: %+v, want %+v", got, want)
	}
	if got := w.Record.Statistics.Total; got.Elements != 1 || got.NaN != 1 || got.Overflow != 1 {
		t.Errorf("total: %+v", got)
	}
}

// TestOverflow checks that values that do not fit float16 are refused without
// leaving anything behind, and accepted when asked for.
func TestOverflow(t *testing.T) {
	s := single(checkpointtest.Floats("w", tensor.BF16, []int{3}, []float32{60000, 1, -65000}))
	a := single(checkpointtest.Floats("w", tensor.BF16, []int{3}, []float32{64000, 1, -65000}))
	p := disk(t, s, a)
	parent := t.TempDir()
	dir := filepath.Join(parent, "out")
	opt := expo.Options{Alpha: 1, DType: tensor.F16}
	_, err := expo.Write(t.Context(), dir, p, opt, expo.WriteOptions{})
	if !errors.Is(err, expo.ErrOverflow) || !strings.Contains(err.Error(), "expo: 1 finite") || !strings.Contains(err.Error(), "[w]") {
		t.Errorf("error %v, want ErrOverflow of 1 value in w", err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	opt.AllowOverflow = true
	w, err := expo.Write(t.Context(), dir, p, opt, expo.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.Record.Statistics.Total; got.Overflow != 1 || got.Inf != 1 {
		t.Errorf("%+v, want 1 overflow", got)
	}
	if x, _ := open(t, dir).Tensor("w"); !math.IsInf(float64(checkpointtest.Values(x)[0]), 1) {
		t.Errorf("w is %v", checkpointtest.Values(x))
	}
	// In other types infinities count but are no reason to refuse: an aligned
	// model may be that close to the edge.
	s = single(checkpointtest.Floats("w", tensor.F32, []int{1}, []float32{1e38}))
	a = single(checkpointtest.Floats("w", tensor.F32, []int{1}, []float32{3e38}))
	_, w2 := write(t, disk(t, s, a), expo.Options{Alpha: 1}, expo.WriteOptions{})
	if got := w2.Record.Statistics.Total.Overflow; got != 1 {
		t.Errorf("F32: %d overflows, want 1", got)
	}
}

func TestHonest(t *testing.T) {
	for _, tt := range []struct {
		nominal, effective, delta float64
		want                      bool
	}{
		{0.3, 0.3, 1, true}, {0.3, 0.25, 1, true}, {0.3, 0.23, 1, false}, {0.3, 0.35, 1, true}, {0.3, 0.37, 1, false},
		{1, 0.8, 1, true}, {1, 1.2, 1, true}, {1, 0.799, 1, false}, {1, 1.201, 1, false},
		{-0.3, -0.3, 1, true}, {-0.3, 0.3, 1, false}, {0.3, 0, 1, false}, {0.3, 0, 0, true}, {0, 0.5, 1, true},
	} {
		s := expo.Statistics{NominalAlpha: tt.nominal, EffectiveAlpha: tt.effective, DeltaNorm: tt.delta}
		if got := s.Honest(); got != tt.want {
			t.Errorf("Honest of %g for %g, ‖δ‖ %g = %v", tt.effective, tt.nominal, tt.delta, got)
		}
	}
}

// oneUlp is a BF16 pair that differs by one unit in the last place, which
// α = 0.3 cannot move.
func oneUlp(t *testing.T) expo.Pair {
	r := rand.New(rand.NewPCG(5, 6))
	const n = 200_000
	x, y := make([]float32, n), make([]float32, n)
	for i := range x {
		x[i] = float32(1 + r.IntN(120)) // exact, and ulps of 2⁻⁷ to 2⁻¹
		y[i] = math.Float32frombits(math.Float32bits(x[i]) + 1<<16)
	}
	return disk(t, single(checkpointtest.Floats("w", tensor.BF16, []int{n}, x)), single(checkpointtest.Floats("w", tensor.BF16, []int{n}, y)))
}

// TestAlternatives checks what is said when rounding swallows α: what the
// other outputs would keep, close to what they keep when asked for.
func TestAlternatives(t *testing.T) {
	p := oneUlp(t)
	_, w := write(t, p, expo.Options{Alpha: 0.3}, expo.WriteOptions{})
	st := w.Record.Statistics
	if st.Total.EffectiveAlpha > 0.05 || st.Total.Swallowed < 0.9 || st.Total.Honest() {
		t.Fatalf("the test itself: %+v", st.Total)
	}
	if len(st.Alternatives) != 4 || st.SampledElements != st.Total.Elements {
		t.Fatalf("%d alternatives on %d elements: %+v", len(st.Alternatives), st.SampledElements, st.Alternatives)
	}
	for _, o := range st.Alternatives {
		opt := expo.Options{Alpha: 0.3}
		switch o.Output {
		case "bf16":
			if o.EffectiveAlpha > 0.05 || o.Noise < 0.9 || o.Noise > 1.1 {
				t.Errorf("bf16: %+v", o)
			}
		case "f16":
			opt.DType = tensor.F16
		case "f32":
			opt.DType = tensor.F32
			if math.Abs(o.EffectiveAlpha-0.3) > 1e-5 || o.Noise > 1e-4 || o.Swallowed != 0 {
				t.Errorf("f32: %+v", o)
			}
		case "stochastic":
			opt.Rounding = expo.Stochastic
			if math.Abs(o.EffectiveAlpha-0.3) > 0.01 || o.Noise < 0.5 {
				t.Errorf("stochastic: %+v", o)
			}
		}
		if o.Alpha != 0.3 && math.Abs(o.Alpha-0.3) > 1e-12 {
			t.Errorf("%s: nominal α %g", o.Output, o.Alpha)
		}
		_, asked := write(t, p, opt, expo.WriteOptions{NoDigest: true})
		got := asked.Record.Statistics.Total
		if math.Abs(got.EffectiveAlpha-o.EffectiveAlpha) > 1e-9 || math.Abs(got.Swallowed-o.Swallowed) > 1e-12 {
			t.Errorf("%s: promised %+v, and %+v came", o.Output, o, got)
		}
	}
	// Nothing is measured again where α arrived.
	_, w = write(t, p, expo.Options{Alpha: 0.3, DType: tensor.F32}, expo.WriteOptions{})
	if w.Record.Statistics.Alternatives != nil || w.Record.Statistics.SampledElements != 0 {
		t.Errorf("f32 output: alternatives %+v", w.Record.Statistics.Alternatives)
	}
	// With several α the noise is measured against each tensor's own.
	sft, aligned := large(tensor.F32, 1)
	_, w = write(t, disk(t, sft, aligned), expo.Options{Alpha: 1e-4, DType: tensor.BF16, Rules: []expo.Rule{{Pattern: "h.*", Alpha: -40}}}, expo.WriteOptions{NoDigest: true})
	for _, o := range w.Record.Statistics.Alternatives {
		if o.Output == "f32" && o.Noise > 1e-3 {
			t.Errorf("two α: %+v", o)
		}
	}
}

// TestStatisticsIndependent checks that the record does not depend on how the
// work was divided.
func TestStatisticsIndependent(t *testing.T) {
	sft, aligned := large(tensor.BF16, 4)
	p := disk(t, sft, aligned)
	for _, rounding := range roundings {
		opt := expo.Options{Alpha: 0.3, Rounding: rounding, Seed: 7}
		base, w := write(t, p, opt, expo.WriteOptions{Jobs: 1})
		dir, _ := write(t, p, opt, expo.WriteOptions{Jobs: 3})
		sameTree(t, dir, base)
		for _, size := range []int64{1, 5000, 1 << 20} {
			dir, sharded := write(t, p, opt, expo.WriteOptions{Jobs: 3, ShardSize: size})
			sameTensors(t, open(t, dir), open(t, base))
			if !reflect.DeepEqual(sharded.Record.Statistics, w.Record.Statistics) {
				t.Errorf("%v, shards of %d bytes: other statistics", rounding, size)
			}
		}
	}
}
