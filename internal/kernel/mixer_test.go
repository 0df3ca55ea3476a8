package kernel

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

var (
	inputs  = []Format{BF16, F16, F32, F64, F8E4M3, F8E5M2}
	outputs = []Format{BF16, F16, F32, F64}
)

func label(m *Mixer) string {
	return fmt.Sprintf("%d and %d to %d, %s, alpha %v", m.Aligned, m.SFT, m.Out, m.Rounding, m.Alpha)
}

// TestRun holds every combination of formats against the reference, bytes and
// statistics.
func TestRun(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	const n = block + 300
	for _, fa := range inputs {
		for _, fs := range inputs {
			t.Run(fmt.Sprintf("%d,%d", fa, fs), func(t *testing.T) {
				for kind := range kinds {
					a, s := stored(rng, kind, n, fa, fs)
					for _, fo := range outputs {
						for _, r := range []Rounding{Once, PerOp} {
							m := &Mixer{fa, fs, fo, alphas[rng.IntN(len(alphas))], r, 0}
							if fa == fo && rng.IntN(2) == 0 {
								m.Alpha = 0.3
							}
							wantBytes, wantStats := runRef(m, n, a, s)
							for _, name := range Implementations() {
								under(t, name)
								checkRun(t, m, name, a, s, wantBytes, wantStats)
							}
						}
					}
				}
			})
		}
	}
}

func checkRun(t *testing.T, m *Mixer, name string, a, s, wantBytes []byte, wantStats Stats) {
	t.Helper()
	var st Stats
	got := make([]byte, len(wantBytes))
	m.Run(got, a, s, 0, &st)
	if !bytes.Equal(got, wantBytes) {
		w := m.Out.Bytes()
		for i := 0; i < len(got); i += w {
			if !bytes.Equal(got[i:i+w], wantBytes[i:i+w]) {
				k := i / w
				t.Fatalf("%s under %s: element %d, a % x, s % x: got % x, want % x", label(m), name, k,
					a[k*m.Aligned.Bytes():][:m.Aligned.Bytes()], s[k*m.SFT.Bytes():][:m.SFT.Bytes()], got[i:i+w], wantBytes[i:i+w])
			}
		}
	}
	if st != wantStats {
		t.Fatalf("%s under %s:\n got %+v\nwant %+v", label(m), name, st, wantStats)
	}
	clear(got)
	m.Run(got, a, s, 0, nil)
	if !bytes.Equal(got, wantBytes) {
		t.Fatalf("%s under %s: other bytes without statistics", label(m), name)
	}
}

// mixers are those with loops of their own, and some without.
func mixers() []*Mixer {
	var ms []*Mixer
	for _, r := range []Rounding{Once, PerOp, Stochastic} {
		for _, f := range outputs {
			ms = append(ms, &Mixer{f, f, f, 0.3, r, 11})
		}
		ms = append(ms, &Mixer{BF16, F32, F16, 0.3, r, 12}, &Mixer{F8E4M3, BF16, BF16, 0.5, r, 13}, &Mixer{BF16, BF16, BF16, 0, r, 14})
	}
	return ms
}

// TestRunLengths runs every length from odd addresses under every
// implementation, and looks at what lies around dst.
func TestRunLengths(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 10))
	for _, m := range mixers() {
		kind := rng.IntN(kinds)
		all, als := stored(rng, kind, 2*block+64, m.Aligned, m.SFT)
		for _, n := range lengths() {
			var want []byte
			var wantStats Stats
			a, s := all[:n*m.Aligned.Bytes()], als[:n*m.SFT.Bytes()]
			a, s = misaligned(a, n%5), misaligned(s, n%3)
			names := Implementations()
			for i := len(names) - 1; i >= 0; i-- { // portable first
				under(t, names[i])
				buf := bytes.Repeat([]byte{0xA5}, n*m.Out.Bytes()+80)
				at := 1 + n%64
				dst := buf[at : at+n*m.Out.Bytes()]
				var st Stats
				m.Run(dst, a, s, 77, &st)
				for j, b := range buf {
					if b != 0xA5 && (j < at || j >= at+len(dst)) {
						t.Fatalf("%s under %s, %d elements: wrote at %d of %d", label(m), names[i], n, j-at, len(dst))
					}
				}
				if want == nil {
					want, wantStats = bytes.Clone(dst), st
				}
				if !bytes.Equal(dst, want) || st != wantStats {
					t.Fatalf("%s under %s, %d elements: differs from portable:\n got %+v\nwant %+v", label(m), names[i], n, st, wantStats)
				}
			}
		}
	}
}

// TestRunSplit cuts runs at random places.
func TestRunSplit(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 12))
	const n = 3*block + 17
	for _, m := range mixers() {
		a, s := stored(rng, ordinary, n, m.Aligned, m.SFT)
		wo, wa, ws := m.Out.Bytes(), m.Aligned.Bytes(), m.SFT.Bytes()
		want := make([]byte, n*wo)
		var wantStats Stats
		m.Run(want, a, s, 1000, &wantStats)
		everywhere(t, func(t *testing.T) {
			for range 4 {
				got := make([]byte, n*wo)
				var st Stats
				for i := 0; i < n; {
					j := min(n, i+rng.IntN(2*block))
					m.Run(got[i*wo:j*wo], a[i*wa:j*wa], s[i*ws:j*ws], 1000+int64(i), &st)
					i = j
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("%s: bytes depend on where the run is cut", label(m))
				}
				counts, wantCounts := st, wantStats
				for _, c := range []*Stats{&counts, &wantCounts} {
					c.Delta2, c.Aligned2, c.Step2, c.StepDelta = 0, 0, 0, 0
				}
				if counts != wantCounts {
					t.Fatalf("%s: cut:\n got %+v\nwant %+v", label(m), counts, wantCounts)
				}
				if math.Abs(st.StepDelta-wantStats.StepDelta) > 1e-12*math.Sqrt(wantStats.Step2*wantStats.Delta2) {
					t.Fatalf("%s: StepDelta %v, cut %v", label(m), wantStats.StepDelta, st.StepDelta)
				}
			}
		})
	}
}

// TestRunLarge crosses the size from which results bypass the caches, with dst
// at every kind of address.
func TestRunLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 13))
	around := []int{-1, 45, 0, 1}
	for k, m := range mixers() {
		for _, extra := range []int{around[k%4], around[(k+1)%4]} {
			n := streamMin/m.Out.Bytes() + extra
			a, s := stored(rng, ordinary, 5000, m.Aligned, m.SFT)
			a = bytes.Repeat(a, n/5000+1)
			s = bytes.Repeat(s, n/5000+1)
			if extra == 45 {
				// NaN and infinity among the ordinary.
				for range 100 {
					i := rng.IntN(len(a) - 8)
					copy(a[i:], []byte{0xFF, 0x7F, 0x80, 0x7F, 0xFF, 0xFF, 0xF0, 0xFF})
				}
			}
			buf := make([]byte, n*m.Out.Bytes()+128)
			var want []byte
			var wantStats Stats
			names := Implementations()
			for i := len(names) - 1; i >= 0; i-- {
				under(t, names[i])
				for _, at := range []int{0, 1, 16, 64} {
					if want != nil && names[i] == "portable" {
						break
					}
					clear(buf)
					dst := buf[at : at+n*m.Out.Bytes()]
					var st Stats
					m.Run(dst, a, s, 5, &st)
					if want == nil {
						want, wantStats = bytes.Clone(dst), st
					}
					if !bytes.Equal(dst, want) || st != wantStats {
						t.Fatalf("%s under %s, %d elements, at %d: differs from portable", label(m), names[i], n, at)
					}
					if names[i] != "portable" {
						m.Run(dst, a, s, 5, nil)
						if !bytes.Equal(dst, want) {
							t.Fatalf("%s under %s, %d elements, at %d: other bytes without statistics", label(m), names[i], n, at)
						}
					}
					if tail := buf[at+len(dst):]; !bytes.Equal(tail, make([]byte, len(tail))) {
						t.Fatalf("%s under %s, %d elements, at %d: wrote beyond", label(m), names[i], n, at)
					}
				}
			}
		}
	}
}

// TestRunKeeps lists what the rule on stored bytes is for.
func TestRunKeeps(t *testing.T) {
	le := func(p uint64, f Format) []byte {
		b := make([]byte, f.Bytes())
		for i := range b {
			b[i] = byte(p >> (8 * i))
		}
		return b
	}
	tests := []struct {
		name string
		m    Mixer
		a, s uint64
		want uint64
	}{
		{"-0 on both sides", Mixer{BF16, BF16, BF16, 0.3, Once, 0}, 0x8000, 0x8000, 0x8000},
		{"-0 on both sides, per-op", Mixer{BF16, BF16, BF16, 0.3, PerOp, 0}, 0x8000, 0x8000, 0},
		{"-0 on both sides, to another format", Mixer{BF16, BF16, F32, 0.3, Once, 0}, 0x8000, 0x8000, 0x80000000},
		{"-0 and 0", Mixer{F16, F16, F16, 0.3, Stochastic, 0}, 0x8000, 0, 0x8000},
		{"equal infinities", Mixer{F16, F16, F16, 0.3, Once, 0}, 0x7C00, 0x7C00, 0x7C00},
		{"equal infinities, per-op", Mixer{BF16, BF16, BF16, 0.3, PerOp, 0}, 0x7F80, 0x7F80, 0x7FC0},
		{"equal NaN", Mixer{BF16, BF16, BF16, 0.3, Once, 0}, 0x7F81, 0x7F81, 0x7FC0},
		{"NaN, alpha 0", Mixer{BF16, BF16, BF16, 0, Once, 0}, 0xFF81, 0x3F80, 0xFF81},
		{"NaN, alpha 0, stochastic", Mixer{F32, BF16, F32, 0, Stochastic, 0}, 0x7F800001, 0x3F80, 0x7F800001},
		{"NaN, alpha 0, per-op", Mixer{BF16, BF16, BF16, 0, PerOp, 0}, 0xFF81, 0x3F80, 0x7FC0},
		{"NaN, alpha 0, to another format", Mixer{BF16, BF16, F32, 0, Once, 0}, 0xFF81, 0x3F80, 0x7FC00000},
		{"SFT is NaN, alpha 0", Mixer{BF16, BF16, BF16, 0, Once, 0}, 0x3F80, 0x7FC0, 0x3F80},
		{"F64 digits, equal", Mixer{F64, F64, F64, 0.3, Once, 0}, 0x3FF0000000000001, 0x3FF0000000000001, 0x3FF0000000000001},
		{"F64 digits, equal as float32", Mixer{F64, F32, F64, 0.3, Stochastic, 0}, 0x3FF0000000000001, 0x3F800000, 0x3FF0000000000001},
		{"F64 digits, per-op", Mixer{F64, F64, F64, 0.3, PerOp, 0}, 0x3FF0000000000001, 0x3FF0000000000001, 0x3FF0000000000000},
		{"F64 digits, not equal", Mixer{F64, F64, F64, 1, Once, 0}, 0x3FF0000000000001, 0, 0x4000000000000000},
		{"F64 beyond float32, equal", Mixer{F64, F64, F64, 0.3, Once, 0}, 0x7FE0000000000000, 0x7FD0000000000000, 0x7FE0000000000000},
		{"F64 digits, alpha 0", Mixer{F64, BF16, F64, 0, Once, 0}, 0x7FF0000000000001, 0, 0x7FF0000000000001},
		{"F64 to F32, equal", Mixer{F64, F64, F32, 0.3, Once, 0}, 0x3FF0000000000001, 0x3FF0000000000001, 0x3F800000},
		{"FP8 to BF16", Mixer{F8E4M3, F8E4M3, BF16, 1, Once, 0}, 0x40, 0x38, 0x4040}, // 2+(2-1)
	}
	everywhere(t, func(t *testing.T) {
		for _, tt := range tests {
			const n = 40
			a, s := bytes.Repeat(le(tt.a, tt.m.Aligned), n), bytes.Repeat(le(tt.s, tt.m.SFT), n)
			dst := make([]byte, n*tt.m.Out.Bytes())
			for _, st := range []*Stats{nil, new(Stats)} {
				tt.m.Run(dst, a, s, 0, st)
				if want := bytes.Repeat(le(tt.want, tt.m.Out), n); !bytes.Equal(dst, want) {
					t.Errorf("%s: got % x, want % x", tt.name, dst[:tt.m.Out.Bytes()], want[:tt.m.Out.Bytes()])
				}
			}
		}
	})
}

// TestRunStochastic checks that Run is its documented stages.
func TestRunStochastic(t *testing.T) {
	rng := rand.New(rand.NewPCG(14, 14))
	const n = block + 100
	everywhere(t, func(t *testing.T) {
		for _, fo := range outputs {
			m := &Mixer{BF16, F32, fo, 0.3, Stochastic, 4711}
			a, s := stored(rng, ordinary, n, BF16, F32)
			got, want := make([]byte, n*fo.Bytes()), make([]byte, n*fo.Bytes())
			m.Run(got, a, s, 123, nil)
			va, vs := make([]float32, n), make([]float32, n)
			Widen(va, a, BF16)
			Widen(vs, s, F32)
			Mix32(va, va, vs, 0.3)
			NarrowStochastic(want, va, fo, 4711, 123)
			if fo == BF16 {
				for i := range n { // equal elements are copied, which is the same
					if x := getRef(a[2*i:], BF16); x == getRef(s[4*i:], F32) && x != getRef(want[2*i:], BF16) {
						t.Fatalf("element %d: equal sides changed", i)
					}
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("to %d: Run differs from its stages", fo)
			}
		}
	})
}

// TestRunPartial leaves alone what is not a whole element.
func TestRunPartial(t *testing.T) {
	m := &Mixer{F32, F32, F32, 1, Once, 0}
	dst := []byte{1, 2, 3, 4, 5, 6}
	m.Run(dst, make([]byte, 4), make([]byte, 4), 0, nil)
	if want := []byte{0, 0, 0, 0, 5, 6}; !bytes.Equal(dst, want) {
		t.Errorf("got % x, want % x", dst, want)
	}
	m.Run(nil, nil, nil, 0, new(Stats))
}

// TestRunAllocates nothing: scratch arrays live on the stack.
func TestRunAllocates(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		for _, m := range mixers() {
			const n = block + 33
			a, s := make([]byte, n*m.Aligned.Bytes()), make([]byte, n*m.SFT.Bytes())
			dst := make([]byte, n*m.Out.Bytes())
			var st Stats
			if got := testing.AllocsPerRun(5, func() { m.Run(dst, a, s, 0, &st) }); got != 0 {
				t.Errorf("%s: %v allocations", label(m), got)
			}
		}
	})
}

func TestRoundingString(t *testing.T) {
	for r, want := range []string{"once", "per-op", "stochastic", "invalid"} {
		if got := Rounding(r).String(); got != want {
			t.Errorf("Rounding(%d): got %q, want %q", r, got, want)
		}
	}
}
