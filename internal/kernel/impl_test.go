package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestImplementations(t *testing.T) {
	names := Implementations()
	if len(names) == 0 || names[len(names)-1] != "portable" {
		t.Fatalf("Implementations() = %q, want the last to be portable", names)
	}
	if got := inUse.String(); got != names[0] {
		t.Errorf("in use at start: %s, want the best, %s", got, names[0])
	}
	for _, name := range names {
		restore, err := Use(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := inUse.String(); got != name {
			t.Errorf("in use after Use(%q): %s", name, got)
		}
		restore()
		if got := inUse.String(); got != names[0] {
			t.Errorf("in use after restore: %s, want %s", got, names[0])
		}
	}
	if _, err := Use("abacus"); err == nil {
		t.Error(`Use("abacus"): no error`)
	}
	if slices.Contains(names, "avx2") == (best() < avx2) {
		t.Errorf("Implementations() = %q, best is %v", names, best())
	}
}

// everywhere runs f under every implementation present.
func everywhere(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	for _, name := range Implementations() {
		t.Run(name, func(t *testing.T) {
			under(t, name)
			f(t)
		})
	}
}

// under selects an implementation until the end of the test.
func under(t testing.TB, name string) {
	restore, err := Use(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(restore)
}

// lengths are those at which the loops change their course.
func lengths() []int {
	var ns []int
	for n := range 258 {
		ns = append(ns, n)
	}
	for _, n := range []int{chunk, block, block + chunk, 2 * block} {
		ns = append(ns, n-33, n-1, n, n+1, n+31, n+32)
	}
	return ns
}

// corners are float32 values at the edges of something.
var corners = []uint32{
	0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x10000, 0x18000, 0x007FFFFF, 0x00800000, // float32 subnormals and the first normal
	0x337FFFFF, 0x33000000, 0x33000001, 0x33800000, 0x33C00000, 0x387FC000, 0x387FE000, 0x387FF000, 0x38800000, 0x38801000, // F16 subnormals
	0x3F800000, 0x3F807FFF, 0x3F808000, 0x3F808001, 0x3F818000, 0x3F801000, 0x3F803000, 0x3E99999A,
	0x477FE000, 0x477FE001, 0x477FEFFF, 0x477FF000, 0x477FF001, 0x47800000, // largest F16
	0x7F7F0000, 0x7F7F0001, 0x7F7F7FFF, 0x7F7F8000, 0x7F7F8001, 0x7F7FFFFF, // largest BF16 and float32
	0x7F800000, 0x7F800001, 0x7F80FFFF, 0x7FBFFFFF, 0x7FC00000, 0x7FC01234, 0x7FFFFFFF, // infinity and NaN
}

// kinds of test values.
const (
	anyBits  = iota // uniformly random bit patterns
	ordinary        // weights, a third of them equal on both sides
	edges           // corners, of either sign
	kinds
)

// values32 makes n float32 of a kind for the two sides.
func values32(rng *rand.Rand, kind, n int) (a, s []float32) {
	a, s = make([]float32, n), make([]float32, n)
	for i := range a {
		switch kind {
		case anyBits:
			a[i], s[i] = math.Float32frombits(rng.Uint32()), math.Float32frombits(rng.Uint32())
		case ordinary:
			x := rng.NormFloat64() * 0.02
			a[i], s[i] = float32(x), float32(x+rng.NormFloat64()*1e-3)
		case edges:
			a[i] = math.Float32frombits(corners[rng.IntN(len(corners))] | rng.Uint32()&(1<<31))
			s[i] = math.Float32frombits(corners[rng.IntN(len(corners))] | rng.Uint32()&(1<<31))
		}
		if rng.IntN(3) == 0 {
			s[i] = a[i]
		}
	}
	return a, s
}

// stored makes n elements of a kind in formats fa and fs.
func stored(rng *rand.Rand, kind, n int, fa, fs Format) (a, s []byte) {
	a, s = make([]byte, n*fa.Bytes()), make([]byte, n*fs.Bytes())
	va, vs := values32(rng, kind, n)
	for i := range n {
		putRef(a[i*fa.Bytes():], va[i], fa, rng)
		putRef(s[i*fs.Bytes():], vs[i], fs, rng)
	}
	if kind == anyBits && fa == fs && n > 0 {
		for i := range a {
			a[i] = byte(rng.Uint32())
		}
		// Bytes beyond what a float32 can say, and equal elements among them.
		for i := range n {
			if rng.IntN(3) > 0 {
				for j := range fs.Bytes() {
					s[i*fs.Bytes()+j] = byte(rng.Uint32())
				}
			} else {
				copy(s[i*fs.Bytes():(i+1)*fs.Bytes()], a[i*fa.Bytes():])
			}
		}
	}
	return a, s
}

// misaligned copies b to where its address is odd.
func misaligned(b []byte, by int) []byte {
	c := make([]byte, len(b)+64)
	copy(c[by:], b)
	return c[by : by+len(b) : by+len(b)]
}

func same32(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
