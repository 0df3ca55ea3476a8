package expo

import (
	"fmt"
	"io"
	"sync"

	"expo/internal/kernel"
	"expo/weights/tensor"
)

// mixed is the data of an extrapolated tensor.
type mixed struct {
	step  *step
	mixer kernel.Mixer
	size  int64 // bytes
	stats *sums
}

// viewBlock is the number of elements that are read and mixed at a time: 64 KiB
// of each bfloat16 input, so that what was read is still in the core's own
// cache when it is mixed. It is a multiple of the kernel's sub-block, so
// statistics do not depend on it.
const viewBlock = 1 << 15

// scratch holds the inputs of one computation.
type scratch struct{ a, s []byte }

var scratchPool = sync.Pool{New: func() any { return new(scratch) }}

func (b *scratch) grow(a, s int64) {
	if int64(cap(b.a)) < a {
		b.a = make([]byte, a)
	}
	if int64(cap(b.s)) < s {
		b.s = make([]byte, s)
	}
	b.a, b.s = b.a[:a], b.s[:s]
}

// ReadAt computes the bytes [off, off+len(p)) of the output tensor. Neither
// end need lie on an element.
func (m *mixed) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("expo: %s: negative offset %d", printable(m.step.name), off)
	}
	want := len(p)
	if off >= m.size {
		if want == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	p = p[:min(int64(want), m.size-off)]
	w := int64(m.mixer.Out.Bytes())
	for done := 0; done < len(p); {
		pos := off + int64(done)
		first, skip := pos/w, pos%w
		if n := int64(len(p)-done) / w; skip == 0 && n > 0 {
			if err := m.compute(p[done:done+int(n*w)], first, nil); err != nil {
				return done, err
			}
			done += int(n * w)
			continue
		}
		var one [8]byte
		if err := m.compute(one[:w], first, nil); err != nil {
			return done, err
		}
		done += copy(p[done:], one[skip:w])
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

// block is ReadAt for the writer: whole elements, and measured.
func (m *mixed) block(p []byte, off int64) error {
	first := off / int64(m.mixer.Out.Bytes())
	if m.stats == nil {
		return m.compute(p, first, nil)
	}
	var st kernel.Stats
	if err := m.compute(p, first, &st); err != nil {
		return err
	}
	m.stats.add(first, st)
	return nil
}

// compute fills dst with the elements from first on. Rows that only the
// aligned model has are its own, converted.
func (m *mixed) compute(dst []byte, first int64, st *kernel.Stats) error {
	n := int64(len(dst) / m.mixer.Out.Bytes())
	if shared := m.step.common - first; m.step.sft.Data != nil && shared < n {
		shared = max(shared, 0)
		cut := shared * int64(m.mixer.Out.Bytes())
		if shared > 0 {
			if err := m.run(m.mixer, dst[:cut], first, st, true); err != nil {
				return err
			}
		}
		return m.run(m.own(), dst[cut:], first+shared, st, false)
	}
	if m.step.sft.Data == nil {
		return m.run(m.own(), dst, first, st, false)
	}
	return m.run(m.mixer, dst, first, st, true)
}

// own is the mixer that takes the aligned model's values, converted. Without a
// partner there is no formula, so PerOp's, which turns −0 into +0 and infinity
// into NaN, has no place here.
func (m *mixed) own() kernel.Mixer {
	k := m.mixer
	k.SFT, k.Alpha = k.Aligned, 0
	if k.Rounding == PerOp {
		k.Rounding = Once
	}
	return k
}

// run reads and mixes, viewBlock elements at a time.
func (m *mixed) run(k kernel.Mixer, dst []byte, first int64, st *kernel.Stats, pair bool) error {
	buf := scratchPool.Get().(*scratch)
	defer scratchPool.Put(buf)
	width := int64(k.Out.Bytes())
	for len(dst) > 0 {
		n := min(viewBlock, int64(len(dst))/width)
		if err := m.mix(&k, buf, dst[:n*width], first, st, pair); err != nil {
			return err
		}
		dst, first = dst[n*width:], first+n
	}
	return nil
}

func (m *mixed) mix(k *kernel.Mixer, buf *scratch, dst []byte, first int64, st *kernel.Stats, pair bool) error {
	n := int64(len(dst) / k.Out.Bytes())
	aw, sw := int64(k.Aligned.Bytes()), int64(k.SFT.Bytes())
	buf.grow(n*aw, n*sw)
	if err := read(m.step.aligned, buf.a, first*aw); err != nil {
		return err
	}
	if pair {
		if err := read(m.step.sft, buf.s, first*sw); err != nil {
			return err
		}
		k.Run(dst, buf.a, buf.s, first, st)
		return nil
	}
	if st == nil {
		k.Run(dst, buf.a, buf.a, first, nil)
		return nil
	}
	// There is no δ here: only what is not finite counts.
	var own kernel.Stats
	k.Run(dst, buf.a, buf.a, first, &own)
	st.NaN += own.NaN
	st.Inf += own.Inf
	st.InputNaN += own.InputNaN
	st.InputInf += own.InputInf
	st.Overflow += own.Overflow
	return nil
}

func read(t tensor.Tensor, p []byte, off int64) error {
	if err := tensor.ReadFull(t.Data, p, off); err != nil {
		return fmt.Errorf("expo: reading %s: %w", printable(t.Name), err)
	}
	return nil
}
