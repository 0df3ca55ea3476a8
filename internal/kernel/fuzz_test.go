package kernel

import (
	"bytes"
	"math"
	"testing"
)

// FuzzMixer compares every implementation with the portable one, whole and cut
// in two, with and without statistics.
func FuzzMixer(f *testing.F) {
	ramp := make([]byte, 4096)
	for i := range ramp {
		ramp[i] = byte(i * i >> 3)
	}
	for i := range uint16(16) {
		f.Add(ramp[:256*(i+1)], uint32(0x3E99999A), i*1000+i, uint64(i), int64(i)<<20, i*37)
	}
	f.Add(bytes.Repeat([]byte{0xC0, 0x7F}, 300), uint32(0x3F000000), uint16(0), uint64(0), int64(0), uint16(5))
	f.Add(bytes.Repeat([]byte{0x80, 0x7F}, 300), uint32(0), uint16(43), uint64(0), int64(-1), uint16(64))
	f.Fuzz(func(t *testing.T, data []byte, alpha uint32, config uint16, key uint64, first int64, cut uint16) {
		m := &Mixer{Alpha: math.Float32frombits(alpha), Key: key}
		next := func(n int) int {
			v := int(config) % n
			config /= uint16(n)
			return v
		}
		m.Rounding = Rounding(next(3))
		m.Out = outputs[next(len(outputs))]
		m.Aligned, m.SFT = m.Out, m.Out
		if next(2) == 1 {
			m.Aligned, m.SFT = inputs[next(len(inputs))], inputs[next(len(inputs))]
		}
		wo, wa, ws := m.Out.Bytes(), m.Aligned.Bytes(), m.SFT.Bytes()
		n := len(data) / (wa + ws)
		a, s := data[:n*wa], data[n*wa:n*(wa+ws)]

		restore, err := Use("portable")
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, n*wo)
		var wantStats Stats
		m.Run(want, a, s, first, &wantStats)
		restore()

		k := 0
		if n > 0 {
			k = int(cut) % n
		}
		for _, name := range Implementations() {
			under(t, name)
			got := make([]byte, n*wo)
			var st Stats
			m.Run(got, a, s, first, &st)
			if !bytes.Equal(got, want) || st != wantStats {
				t.Fatalf("%s under %s:\n got % x %+v\nwant % x %+v", label(m), name, got, st, want, wantStats)
			}
			clear(got)
			m.Run(got[:k*wo], a, s, first, nil)
			m.Run(got[k*wo:], a[k*wa:], s[k*ws:], first+int64(k), nil)
			if !bytes.Equal(got, want) {
				t.Fatalf("%s under %s, cut at %d:\n got % x\nwant % x", label(m), name, k, got, want)
			}
		}
	})
}
