package expo_test

import (
	"fmt"
	"math"
	"testing"

	"expo"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// between is a pair of F32 tensors whose result at α = 1 is v everywhere.
func between(t *testing.T, v float32, n int) expo.Pair {
	a, s := make([]float32, n), make([]float32, n)
	for i := range a {
		a[i], s[i] = v/2, 0
	}
	return memoryPair(t, single(checkpointtest.Floats("w", tensor.F32, []int{n}, s)), single(checkpointtest.Floats("w", tensor.F32, []int{n}, a)))
}

// TestUnbiased checks that a value between two neighbours comes out as either,
// with the probability that makes the mean right, over elements and over
// seeds. All counts lie within 5 standard deviations.
func TestUnbiased(t *testing.T) {
	for _, tt := range []struct {
		out tensor.DType
		v   float32
	}{
		{tensor.BF16, 1 + 0.3/128}, {tensor.BF16, 1 + 0.5/128}, {tensor.BF16, -1 - 0.01/128}, {tensor.BF16, 0.02}, {tensor.BF16, 3e-39},
		{tensor.F16, 1 + 0.3/1024}, {tensor.F16, -0.02}, {tensor.F16, 1e-7}, {tensor.F16, 60001},
	} {
		f := formats[tt.out]
		u := f.unit(float64(tt.v))
		low := math.Trunc(float64(tt.v)/u) * u
		share := math.Abs(float64(tt.v)-math.Abs(low)*math.Copysign(1, float64(tt.v))) / u
		check := func(what string, up, n int) {
			t.Helper()
			if sigma := math.Sqrt(float64(n) * share * (1 - share)); math.Abs(float64(up)-float64(n)*share) > 5*sigma+1e-9 {
				t.Errorf("%v of %g, %s: %d of %d went up, want %.1f ± %.1f", tt.out, tt.v, what, up, n, float64(n)*share, sigma)
			}
		}
		count := func(c []float64) (up int) {
			for _, x := range c {
				switch x {
				case low:
				case low + math.Copysign(u, float64(tt.v)):
					up++
				default:
					t.Fatalf("%v of %g is %g, which is no neighbour", tt.out, tt.v, x)
				}
			}
			return up
		}
		const n, seeds = 100_000, 1500
		p := between(t, tt.v, n)
		opt := expo.Options{Alpha: 1, Rounding: expo.Stochastic, DType: tt.out, Seed: 1}
		check("elements", count(decode(tt.out, bytesOf(t, extrapolate(t, p, opt), "w"))), n)
		p = between(t, tt.v, 8)
		up := 0
		for seed := range seeds {
			opt.Seed = uint64(seed)
			up += count(decode(tt.out, bytesOf(t, extrapolate(t, p, opt), "w")))
		}
		check("seeds", up, 8*seeds)
	}
}

// TestStochasticDependsOn checks that seed and name decide, and neither the
// model nor the tensor's place in it.
func TestStochasticDependsOn(t *testing.T) {
	vals := make([]float32, 1000)
	for i := range vals {
		vals[i] = (1 + 0.5/128) / 2 // twice that lies between two neighbours
	}
	zero := make([]float32, 1000)
	model := func(v []float32, names ...string) checkpointtest.Model {
		var m checkpointtest.Model
		for _, n := range names {
			m.Set(checkpointtest.Floats(n, tensor.F32, []int{1000}, v))
		}
		return m
	}
	run := func(seed uint64, names ...string) func(name string) string {
		c := extrapolate(t, memoryPair(t, model(zero, names...), model(vals, names...)), expo.Options{Alpha: 1, Rounding: expo.Stochastic, DType: tensor.BF16, Seed: seed})
		return func(name string) string { return string(bytesOf(t, c, name)) }
	}
	one := run(1, "a", "b")
	if one("a") == one("b") {
		t.Error("two names have the same bits")
	}
	if one("a") == run(2, "a", "b")("a") {
		t.Error("two seeds have the same bits")
	}
	if other := run(1, "c", "b", "a"); one("a") != other("a") || one("b") != other("b") {
		t.Error("the bits depend on the other tensors")
	}
	// Neighbouring seeds and elements share no pattern: about half the bits of
	// any two differ.
	for seed := range uint64(4) {
		x, y := run(seed, "a")("a"), run(seed+1, "a")("a")
		differ, shifted := 0, 0
		for i := 0; i < len(x); i += 2 {
			if x[i:i+2] != y[i:i+2] {
				differ++
			}
			if i > 0 && x[i:i+2] != x[i-2:i] {
				shifted++
			}
		}
		for what, n := range map[string]int{"seeds": differ, "elements": shifted} {
			if n < 400 || n > 600 {
				t.Errorf("neighbouring %s: %d of 1000 differ", what, n)
			}
		}
	}
}

// TestStochasticPartition checks that the bits do not depend on how the tensor
// is read.
func TestStochasticPartition(t *testing.T) {
	sft, aligned := large(tensor.F32, 2)
	c := extrapolate(t, memoryPair(t, sft, aligned), expo.Options{Alpha: 0.3, Rounding: expo.Stochastic, DType: tensor.BF16, Seed: 3})
	x, _ := c.Tensor("embed.weight")
	full := checkpointtest.Bytes(x)
	for _, step := range []int{1, 7, 4096, 65536, 131073, 1 << 20} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			limit := min(len(full), 600*step)
			got := make([]byte, limit)
			for off := 0; off < limit; off += step {
				if err := tensor.ReadFull(x.Data, got[off:min(off+step, limit)], int64(off)); err != nil {
					t.Fatal(err)
				}
			}
			if string(got) != string(full[:limit]) {
				t.Errorf("steps of %d bytes give other bytes", step)
			}
		})
	}
}
