//go:build !purego

package kernel

import (
	"encoding"
	"encoding/binary"
	"hash"

	"golang.org/x/sys/cpu"
)

//go:generate go run -C _asm . -part sha256 -out ../sha256_amd64.s -stubs ../sha256_amd64.go -pkg kernel

// shaPresent is asked once. A processor with AVX2 has leaf 7 of CPUID.
var shaPresent = cpu.X86.HasAVX2 && cpu.X86.HasSSE41 && cpu.X86.HasSSSE3 && hasSHA()

func canSHA256Pair() bool { return inUse != portable && shaPresent }

const sha256Block = 64

// A sha256State is a digest between two blocks, taken out of crypto/sha256 and
// put back by way of what it marshals.
type sha256State struct {
	h      [8]uint32
	length uint64 // of the message so far, in bytes
	digest encoding.BinaryUnmarshaler
	text   []byte // marshaled: magic, h, the beginning of a block, length; numbers are big endian
}

const (
	sha256Magic = "sha\x03"
	sha256Saved = len(sha256Magic) + 8*4 + sha256Block + 8
)

// take fills s from d, once d has had enough of p to stand between two blocks,
// and returns the rest of p. It fails, with p as it was, if that leaves less
// than a block or if d is not as crypto/sha256's digests are.
func (s *sha256State) take(d hash.Hash, p []byte) (rest []byte, ok bool) {
	if len(p) < 2*sha256Block || !s.read(d) {
		return p, false
	}
	if begun := s.length % sha256Block; begun > 0 {
		d.Write(p[:sha256Block-begun])
		p = p[sha256Block-begun:]
		if !s.read(d) || s.length%sha256Block != 0 {
			return p, false
		}
	}
	return p, true
}

func (s *sha256State) read(d hash.Hash) bool {
	from, ok := d.(encoding.BinaryAppender)
	if !ok {
		return false
	}
	if s.digest, ok = d.(encoding.BinaryUnmarshaler); !ok {
		return false
	}
	var err error
	if s.text, err = from.AppendBinary(s.text[:0]); err != nil || len(s.text) != sha256Saved || string(s.text[:len(sha256Magic)]) != sha256Magic {
		return false
	}
	for i := range s.h {
		s.h[i] = binary.BigEndian.Uint32(s.text[len(sha256Magic)+4*i:])
	}
	s.length = binary.BigEndian.Uint64(s.text[sha256Saved-8:])
	return true
}

// put stores s, n bytes further on, in the digest that it was taken from. If
// it fails the digest is as it was.
func (s *sha256State) put(n int) bool {
	for i, h := range s.h {
		binary.BigEndian.PutUint32(s.text[len(sha256Magic)+4*i:], h)
	}
	binary.BigEndian.PutUint64(s.text[sha256Saved-8:], s.length+uint64(n))
	return s.digest.UnmarshalBinary(s.text) == nil
}

// fastSHA256Pair hashes what both have in whole blocks, and returns the rest.
func fastSHA256Pair(a, b hash.Hash, p, q []byte) (restP, restQ []byte) {
	if !canSHA256Pair() {
		return p, q
	}
	var x, y sha256State
	p, okA := x.take(a, p)
	q, okB := y.take(b, q)
	n := min(len(p), len(q)) / sha256Block * sha256Block
	if !okA || !okB || n == 0 {
		return p, q
	}
	sha256PairSHA(&x.h, &y.h, &p[0], &q[0], n/sha256Block)
	if x.put(n) {
		p = p[n:]
	}
	if y.put(n) {
		q = q[n:]
	}
	return p, q
}
