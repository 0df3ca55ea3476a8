package kernel

// Rounding is where the formula is rounded.
type Rounding uint8

const (
	Once       Rounding = iota // float32 arithmetic ([Mix32]), then [Narrow]
	PerOp                      // to bfloat16 after each operation ([MixPerOp32]), then Narrow
	Stochastic                 // float32 arithmetic, then [NarrowStochastic]
)

// String is "once", "per-op" or "stochastic".
func (r Rounding) String() string {
	switch r {
	case Once:
		return "once"
	case PerOp:
		return "per-op"
	case Stochastic:
		return "stochastic"
	}
	return "invalid"
}

// Mixer is the work on one tensor: out = aligned + Alpha·(aligned − sft).
type Mixer struct {
	Aligned, SFT, Out Format
	Alpha             float32
	Rounding          Rounding
	Key               uint64 // of the random bits; Stochastic only
}

// Run computes n = len(dst)/m.Out.Bytes() elements of a tensor from a, the
// aligned side, and s, the SFT side. first is the index of the first of them
// inside the tensor; only Stochastic looks at it. What they are like is added to
// st unless it is nil.
//
// Each element is widened to float32 ([Widen]); [Mix32], or [MixPerOp32] for
// PerOp, gives a float32, which Narrow or NarrowStochastic stores. As an
// exception, for Once and Stochastic the stored bytes of a are copied where
// m.Out == m.Aligned and either m.Alpha == 0 or both sides are equal as float32
// values; this keeps −0, the digits of F64 and, for Alpha == 0, the payload of
// NaN. Every other NaN is stored as Narrow does.
//
// m.Out is BF16, F16, F32 or F64; m.Aligned and m.SFT are any format but None.
// dst must not overlap a or s. Nothing needs to be aligned. Run panics if a or s
// is too short or a format is not one of these.
func (m *Mixer) Run(dst, a, s []byte, first int64, st *Stats) {
	needOut("Mixer", m.Out)
	n := len(dst) / m.Out.Bytes()
	need("Mixer", "a", a, n, m.Aligned)
	need("Mixer", "s", s, n, m.SFT)
	dst = dst[:n*m.Out.Bytes()]
	stream, direct := false, false
	if len(dst) >= streamMin {
		stream, direct = m.canStream(dst)
	}
	switch {
	case direct:
		m.run(dst, a, s, first, st, true)
		fastFence()
	case stream:
		m.runBuffered(dst, a, s, first, st)
		fastFence()
	default:
		m.run(dst, a, s, first, st, false)
	}
}

// streamMin is the size of dst in bytes from which the result is written past
// the caches, where it would only take the place of the inputs, and without
// reading the lines of dst that are about to be overwritten.
const streamMin = 2 << 20

// run does a Run, one sub-block after the other.
func (m *Mixer) run(dst, a, s []byte, first int64, st *Stats, stream bool) {
	wo, wa, ws := m.Out.Bytes(), m.Aligned.Bytes(), m.SFT.Bytes()
	for len(dst) > 0 {
		n := min(len(dst)/wo, block)
		m.block(dst[:n*wo], a[:n*wa], s[:n*ws], first, st, stream)
		dst, a, s, first = dst[n*wo:], a[n*wa:], s[n*ws:], first+int64(n)
	}
}

// runBuffered is run for what cannot be written past the caches directly: each
// sub-block is computed in a buffer that stays in the first-level cache, and
// copied from there.
func (m *Mixer) runBuffered(dst, a, s []byte, first int64, st *Stats) {
	var buf [block * 8]byte
	wo, wa, ws := m.Out.Bytes(), m.Aligned.Bytes(), m.SFT.Bytes()
	for len(dst) > 0 {
		n := min(len(dst)/wo, block)
		m.block(buf[:n*wo], a[:n*wa], s[:n*ws], first, st, false)
		fastCopy(dst[:n*wo], buf[:n*wo])
		dst, a, s, first = dst[n*wo:], a[n*wa:], s[n*ws:], first+int64(n)
	}
}

// block computes one sub-block. The three slices have its exact size.
func (m *Mixer) block(dst, a, s []byte, first int64, st *Stats, stream bool) {
	n := len(dst) / m.Out.Bytes()
	if st == nil {
		done := m.fastBlock(dst, a, s, nil, stream)
		m.stages(dst, a, s, done, n, first, nil)
		return
	}
	var t sums
	done := m.fastBlock(dst, a, s, &t, stream)
	m.stages(dst, a, s, done, n, first, &t)
	if !t.flush(st, n) {
		// Not only the sums: with statistics, fastBlock may leave NaNs that are
		// not canonical.
		if stream {
			fastFence() // what is written twice is to be written in this order
		}
		t = sums{careful: true}
		m.stages(dst, a, s, 0, n, first, &t)
		t.flush(st, n)
	}
}

// chunk is how many elements go through the stages together: three float32
// arrays of that size, with the bytes they come from, fit a first-level cache of
// 32 KiB. It divides block.
const chunk = 1024

// keeps reports whether bytes of a are copied where the sides are equal.
func (m *Mixer) keeps() bool { return m.Out == m.Aligned && m.Rounding != PerOp }

// stages computes the elements from i up to n of a sub-block, stage by stage,
// and adds them to t unless it is nil.
func (m *Mixer) stages(dst, a, s []byte, i, n int, first int64, t *sums) {
	if i == n {
		return
	}
	var fa, fs, fr [chunk]float32
	wo, wa, ws := m.Out.Bytes(), m.Aligned.Bytes(), m.SFT.Bytes()
	copied := m.keeps() && m.Alpha == 0
	for i < n {
		j := min(i+chunk, n)
		dst, a, s := dst[i*wo:j*wo], a[i*wa:j*wa], s[i*ws:j*ws]
		va, vs, vr := fa[:j-i], fs[:j-i], fr[:j-i]
		if copied {
			copy(dst, a)
			if t == nil {
				i = j
				continue
			}
		}
		Widen(va, a, m.Aligned)
		Widen(vs, s, m.SFT)
		if copied {
			copy(vr, va)
		} else {
			if m.Rounding == PerOp {
				MixPerOp32(vr, va, vs, m.Alpha)
			} else {
				Mix32(vr, va, vs, m.Alpha)
			}
			if m.Rounding == Stochastic {
				NarrowStochastic(dst, vr, m.Out, m.Key, first+int64(i))
			} else {
				Narrow(dst, vr, m.Out)
			}
			if m.Out == F64 && m.keeps() {
				keepF64(dst, a, va, vs)
			}
			if t != nil && m.Out.Bytes() < 4 {
				Widen(vr, dst, m.Out)
			}
		}
		if t != nil {
			t.measure(va, vs, vr)
		}
		i = j
	}
}

// keepF64 copies the elements of a whose two sides are equal after widening. In
// the narrower formats a copy and a conversion there and back are the same.
func keepF64(dst, a []byte, va, vs []float32) {
	for i, x := range va {
		if x == vs[i] {
			copy(dst[8*i:8*i+8], a[8*i:8*i+8])
		}
	}
}
