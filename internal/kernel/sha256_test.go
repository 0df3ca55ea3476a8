package kernel

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"os"
	"strings"
	"testing"
)

// noise is n bytes that do not repeat, another text for each seed.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*6364136223846793005 + 1442695040888963407
		b[i] = byte(seed >> 56)
	}
	return b
}

// TestSHA256Pair gives two digests texts of all lengths around a block, from
// all positions in a block, unaligned.
func TestSHA256Pair(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		text := noise(1<<12, 1)
		lengths := []int{0, 1, 55, 63, 64, 65, 127, 128, 129, 191, 192, 193, 1000}
		for begunA := range 66 {
			for _, n := range lengths {
				for _, m := range lengths {
					begunB := (begunA*7 + n + m) % 130
					a, b := sha256.New(), sha256.New()
					a.Write(text[:begunA])
					b.Write(text[1 : 1+begunB])
					SHA256Pair(a, b, text[begunA:begunA+n], text[1+begunB:1+begunB+m])
					if got, want := a.Sum(nil), sha256.Sum256(text[:begunA+n]); !bytes.Equal(got, want[:]) {
						t.Fatalf("first: %d bytes after %d, beside %d after %d: %x, want %x", n, begunA, m, begunB, got, want)
					}
					if got, want := b.Sum(nil), sha256.Sum256(text[1:1+begunB+m]); !bytes.Equal(got, want[:]) {
						t.Fatalf("second: %d bytes after %d, beside %d after %d: %x, want %x", m, begunB, n, begunA, got, want)
					}
				}
			}
		}
	})
}

// TestSHA256PairKnown needs no other implementation: the messages are those of
// FIPS 180-2, appendices B.1 and B.3.
func TestSHA256PairKnown(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		a, b := sha256.New(), sha256.New()
		SHA256Pair(a, b, []byte("abc"), nil)
		for range 1000 {
			SHA256Pair(b, sha256.New(), bytes.Repeat([]byte("a"), 1000), noise(900, 2))
		}
		for _, x := range []struct {
			h    hash.Hash
			want string
		}{
			{a, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
			{b, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
		} {
			if got := hex.EncodeToString(x.h.Sum(nil)); got != x.want {
				t.Errorf("got %s, want %s", got, x.want)
			}
		}
	})
}

// foreign hides what a digest can do besides hashing.
type foreign struct{ hash.Hash }

// TestSHA256PairForeign gives it digests that are not SHA-256, or do not say
// how they stand.
func TestSHA256PairForeign(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		text := noise(1000, 3)
		for name, fresh := range map[string]func() hash.Hash{
			"SHA-512": sha512.New, "SHA-224": sha256.New224, "hidden": func() hash.Hash { return foreign{sha256.New()} },
		} {
			for _, swap := range []bool{false, true} {
				a, b, want := fresh(), sha256.New(), fresh()
				p, q := text[:900], text[30:999]
				if swap {
					SHA256Pair(b, a, q, p)
				} else {
					SHA256Pair(a, b, p, q)
				}
				want.Write(p)
				if got, want := a.Sum(nil), want.Sum(nil); !bytes.Equal(got, want) {
					t.Errorf("%s: %x, want %x", name, got, want)
				}
				if got, want := b.Sum(nil), sha256.Sum256(q); !bytes.Equal(got, want[:]) {
					t.Errorf("beside %s: %x, want %x", name, got, want)
				}
			}
		}
	})
}

// TestSHA256Pairs holds the assembly to what Linux says of the processor, and
// to be used: a crypto/sha256 that marshals otherwise would only be slower.
func TestSHA256Pairs(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		if inUse == portable && SHA256Pairs() {
			t.Error("pairs under the portable implementation")
		}
		if !SHA256Pairs() {
			t.Skip("not here")
		}
		a, b := sha256.New(), sha256.New()
		a.Write(make([]byte, 10))
		if p, q := fastSHA256Pair(a, b, make([]byte, 500), make([]byte, 64*9+1)); len(p) != 500-54-64*6 || len(q) != 64*3+1 {
			t.Errorf("%d and %d bytes are left", len(p), len(q))
		}
	})
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || best() == portable {
		t.Skip("nobody to ask")
	}
	if want := strings.Contains(string(text), " sha_ni"); SHA256Pairs() != want {
		t.Errorf("SHA256Pairs() = %v, Linux says %v", SHA256Pairs(), want)
	}
}

// FuzzSHA256Pair compares with crypto/sha256, the texts cut into calls
// anywhere.
func FuzzSHA256Pair(f *testing.F) {
	f.Add([]byte("abc"), []byte(""), uint16(0), uint16(0))
	f.Add(noise(300, 4), noise(400, 5), uint16(10), uint16(200))
	f.Add(noise(64, 6), noise(192, 7), uint16(64), uint16(0))
	f.Fuzz(func(t *testing.T, p, q []byte, cutP, cutQ uint16) {
		i, j := min(int(cutP), len(p)), min(int(cutQ), len(q))
		for _, name := range Implementations() {
			under(t, name)
			a, b := sha256.New(), sha256.New()
			SHA256Pair(a, b, p[:i], q[:j])
			SHA256Pair(b, a, q[j:], p[i:])
			if got, want := a.Sum(nil), sha256.Sum256(p); !bytes.Equal(got, want[:]) {
				t.Fatalf("%s: %x, want %x", name, got, want)
			}
			if got, want := b.Sum(nil), sha256.Sum256(q); !bytes.Equal(got, want[:]) {
				t.Fatalf("%s: second: %x, want %x", name, got, want)
			}
		}
	})
}

func BenchmarkSHA256Pair(b *testing.B) {
	p, q := noise(1<<20, 8), noise(1<<20, 9)
	for _, name := range Implementations() {
		b.Run(name, func(b *testing.B) {
			under(b, name)
			x, y := sha256.New(), sha256.New()
			b.SetBytes(int64(len(p) + len(q)))
			for b.Loop() {
				SHA256Pair(x, y, p, q)
			}
		})
	}
}
