package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkMixer reports traffic: the bytes of both inputs and of the output.
func BenchmarkMixer(b *testing.B) {
	cases := []struct {
		name string
		m    Mixer
	}{
		{"bf16", Mixer{Aligned: BF16, SFT: BF16, Out: BF16}},
		{"f16", Mixer{Aligned: F16, SFT: F16, Out: F16}},
		{"f32", Mixer{Aligned: F32, SFT: F32, Out: F32}},
		{"mixed", Mixer{Aligned: BF16, SFT: F32, Out: F16}},
		{"perop", Mixer{Aligned: BF16, SFT: BF16, Out: BF16, Rounding: PerOp}},
		{"stochastic", Mixer{Aligned: BF16, SFT: BF16, Out: BF16, Rounding: Stochastic, Key: 1}},
	}
	for _, c := range cases {
		m := c.m
		m.Alpha = 0.3
		b.Run(c.name, func(b *testing.B) {
			for _, impl := range Implementations() {
				b.Run(impl, func(b *testing.B) {
					restore, err := Use(impl)
					if err != nil {
						b.Fatal(err)
					}
					defer restore()
					for _, stats := range []bool{true, false} {
						name := "nostats"
						if stats {
							name = "stats"
						}
						b.Run(name, func(b *testing.B) {
							for _, size := range []int{256 << 10, 32 << 20} {
								b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
									benchmarkMixer(b, &m, size, stats)
								})
							}
						})
					}
				})
			}
		})
	}
}

func benchmarkMixer(b *testing.B, m *Mixer, size int, stats bool) {
	n := size / m.Out.Bytes()
	dst, a, s := make([]byte, size), make([]byte, n*m.Aligned.Bytes()), make([]byte, n*m.SFT.Bytes())
	plausible(a, s, m.Aligned, m.SFT)
	var st *Stats
	if stats {
		st = new(Stats)
	}
	m.Run(dst, a, s, 0, st) // touch the pages
	b.SetBytes(int64(len(dst) + len(a) + len(s)))
	for b.Loop() {
		m.Run(dst, a, s, 0, st)
	}
}

// plausible fills a and s with weights as models have them: normal with
// deviation 0.02, a third of them equal on both sides.
func plausible(a, s []byte, fa, fs Format) {
	rng := rand.New(rand.NewPCG(1, 2))
	va, vs := make([]float32, block), make([]float32, block)
	for i := range va {
		x := rng.NormFloat64() * 0.02
		va[i], vs[i] = float32(x), float32(x+rng.NormFloat64()*1e-4)
		if i%3 == 0 {
			vs[i] = va[i]
		}
	}
	wa, ws := fa.Bytes()*block, fs.Bytes()*block
	Narrow(a[:wa], va, fa)
	Narrow(s[:ws], vs, fs)
	for i := wa; i < len(a); i += wa {
		copy(a[i:], a[:wa])
	}
	for i := ws; i < len(s); i += ws {
		copy(s[i:], s[:ws])
	}
}

// BenchmarkCopy is what the machine does when there is nothing to compute:
// traffic is what is read and what is written.
func BenchmarkCopy(b *testing.B) {
	for _, size := range []int{256 << 10, 32 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			dst, src := make([]byte, size), make([]byte, size)
			for i := range src {
				src[i] = byte(i) // or all pages of src are one
			}
			copy(dst, src)
			b.SetBytes(2 * int64(size))
			for b.Loop() {
				copy(dst, src)
			}
		})
	}
}

// BenchmarkStage reports the stages by themselves, per element.
func BenchmarkStage(b *testing.B) {
	x, y, z := make([]float32, block), make([]float32, block), make([]float32, block)
	raw, other := make([]byte, 8*block), make([]byte, 8*block)
	names := map[Format]string{BF16: "bf16", F16: "f16", F32: "f32", F64: "f64", F8E4M3: "f8e4m3"}
	for _, impl := range Implementations() {
		b.Run(impl, func(b *testing.B) {
			under(b, impl)
			stage := func(name string, f func()) {
				b.Run(name, func(b *testing.B) {
					for b.Loop() {
						f()
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/block, "ns/elem")
				})
			}
			for _, f := range outputs {
				plausible(raw[:f.Bytes()*block], other[:f.Bytes()*block], f, f)
				Widen(x, raw, f)
				Widen(y, other, f)
				stage("widen/"+names[f], func() { Widen(x, raw, f) })
				stage("narrow/"+names[f], func() { Narrow(raw, x, f) })
			}
			stage("widen/"+names[F8E4M3], func() { Widen(z, raw, F8E4M3) })
			stage("mix", func() { Mix32(z, x, y, 0.3) })
			stage("perop", func() { MixPerOp32(z, x, y, 0.3) })
			stage("stochastic/bf16", func() { NarrowStochastic(raw, x, BF16, 1, 2) })
			stage("stochastic/f16", func() { NarrowStochastic(raw, x, F16, 1, 2) })
			Mix32(z, x, y, 0.3)
			var st Stats
			stage("measure", func() { Measure(&st, x, y, z) })
		})
	}
}
