package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// sha256Rounds are the constants K of FIPS 180-4, section 4.2.2: the first 32
// bits of the fractional parts of the cube roots of the first 64 primes.
var sha256Rounds = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

// digestStream is one of the two messages: where it is, and its registers. The
// instructions for the rounds want the state as two vectors, {a,b,e,f} and
// {c,d,g,h} from the highest element down; w holds the last 16 words of the
// message schedule.
type digestStream struct {
	state, data  reg.Register
	abef, cdgh   reg.VecPhysical
	w            [4]reg.VecPhysical
	t            reg.VecPhysical
	abef0, cdgh0 Mem // before the block
}

// digestPair writes the compression of two messages side by side. SHA256RNDS2
// takes four cycles, and another can begin after two; within one message each
// needs the result of the one before. Everything is SSE: two messages need
// fifteen registers and the X0 that SHA256RNDS2 reads, and the two that are left
// over would be all that AVX has to offer.
func digestPair() {
	k := table("sha256Rounds", 64, func(i int) uint32 { return sha256Rounds[i] })
	order := table("bigEndianWords", 4, func(i int) uint32 { return uint32(0x00010203 + i*0x04040404) })

	TEXT("sha256PairSHA", NOSPLIT, "func(a, b *[8]uint32, p, q *byte, blocks int)")
	Pragma("noescape")
	Doc("sha256PairSHA takes blocks ≥ 1 blocks of 64 bytes at p into the state a, and as many at q into b.")
	saved := AllocLocal(4 * 16)
	streams := []*digestStream{
		{
			state: Load(Param("a"), GP64()), data: Load(Param("p"), GP64()),
			abef: reg.X1, cdgh: reg.X2, w: [4]reg.VecPhysical{reg.X3, reg.X4, reg.X5, reg.X6}, t: reg.X7,
			abef0: saved, cdgh0: saved.Offset(16),
		},
		{
			state: Load(Param("b"), GP64()), data: Load(Param("q"), GP64()),
			abef: reg.X8, cdgh: reg.X9, w: [4]reg.VecPhysical{reg.X10, reg.X11, reg.X12, reg.X13}, t: reg.X14,
			abef0: saved.Offset(32), cdgh0: saved.Offset(48),
		},
	}
	blocks := Load(Param("blocks"), GP64())
	rounds := GP64()
	LEAQ(k, rounds)
	swap := reg.X15
	MOVOU(order, swap)
	for _, s := range streams {
		s.load()
	}

	Label("block")
	for _, s := range streams {
		MOVOU(s.abef, s.abef0)
		MOVOU(s.cdgh, s.cdgh0)
	}
	for i := range 16 {
		for _, s := range streams {
			s.fourRounds(i, Mem{Base: rounds, Disp: 16 * i}, swap)
		}
	}
	for _, s := range streams {
		MOVOU(s.abef0, s.t)
		PADDD(s.t, s.abef)
		MOVOU(s.cdgh0, s.t)
		PADDD(s.t, s.cdgh)
		ADDQ(U8(64), s.data)
	}
	DECQ(blocks)
	JNZ(LabelRef("block"))
	for _, s := range streams {
		s.store()
	}
	RET()
}

// fourRounds does the rounds from 4i on, with what they need of the message
// schedule: words 4i to 4i+3 are in w[i%4], and the words that come 16 after
// those of w[(i+1)%4] are completed in its place.
func (s *digestStream) fourRounds(i int, k Mem, swap reg.VecPhysical) {
	w, next, last := s.w[i%4], s.w[(i+1)%4], s.w[(i+3)%4]
	if i < 4 {
		MOVOU(Mem{Base: s.data, Disp: 16 * i}, w)
		PSHUFB(swap, w)
	}
	MOVOA(w, reg.X0)
	PADDD(k, reg.X0)
	SHA256RNDS2(reg.X0, s.abef, s.cdgh)
	PSHUFD(U8(0x0e), reg.X0, reg.X0)
	if i >= 3 && i < 15 {
		MOVOA(w, s.t)
		PALIGNR(U8(4), last, s.t)
		PADDD(s.t, next)
		SHA256MSG2(w, next)
	}
	SHA256RNDS2(reg.X0, s.cdgh, s.abef)
	if i >= 1 && i < 13 {
		SHA256MSG1(w, last)
	}
}

// load takes a state a to h from memory.
func (s *digestStream) load() {
	MOVOU(Mem{Base: s.state}, s.abef)
	MOVOU(Mem{Base: s.state, Disp: 16}, s.cdgh)
	PSHUFD(U8(0xb1), s.abef, s.abef) // c d a b
	PSHUFD(U8(0x1b), s.cdgh, s.cdgh) // e f g h
	MOVOA(s.abef, s.t)
	PALIGNR(U8(8), s.cdgh, s.abef)
	PBLENDW(U8(0xf0), s.t, s.cdgh)
}

// store is the reverse.
func (s *digestStream) store() {
	PSHUFD(U8(0x1b), s.abef, s.abef) // f e b a
	PSHUFD(U8(0xb1), s.cdgh, s.cdgh) // d c h g
	MOVOA(s.abef, s.t)
	PBLENDW(U8(0xf0), s.cdgh, s.abef)
	PALIGNR(U8(8), s.t, s.cdgh)
	MOVOU(s.abef, Mem{Base: s.state})
	MOVOU(s.cdgh, Mem{Base: s.state, Disp: 16})
}

// shaExtensions writes the question whether the processor has the
// instructions, which no package answers on amd64.
func shaExtensions() {
	TEXT("hasSHA", NOSPLIT, "func() bool")
	Doc("hasSHA reports the SHA extensions, bit 29 of EBX of CPUID's leaf 7, on a processor that has that leaf.")
	MOVL(U32(7), reg.EAX)
	XORL(reg.ECX, reg.ECX)
	CPUID()
	SHRL(U8(29), reg.EBX)
	ANDL(U32(1), reg.EBX)
	Store(reg.BL, ReturnIndex(0))
	RET()
}
