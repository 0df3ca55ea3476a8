package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// streamCopy writes the copy that bypasses the caches.
func streamCopy() {
	for _, x := range isas {
		TEXT("stream"+x.name, NOSPLIT, "func(dst, src *byte, n int)")
		Pragma("noescape")
		Doc(fmt.Sprintf("stream%s copies n ≥ 128 bytes with non-temporal stores.", x.name))
		dst, src, n := param("dst"), param("src"), param("n")

		// Bytes up to the first cache line of dst, by an ordinary store of a
		// whole line: what it writes too far is written again.
		Comment("Up to the next line of dst")
		x.line(src, dst, false)
		skip := GP64()
		MOVQ(dst, skip)
		NEGQ(skip)
		ANDQ(U32(63), skip)
		ADDQ(skip, src)
		ADDQ(skip, dst)
		SUBQ(skip, n)

		SUBQ(U32(64), n)
		Label("loop")
		x.line(src, dst, true)
		ADDQ(U32(64), src)
		ADDQ(U32(64), dst)
		SUBQ(U32(64), n)
		JGE(LabelRef("loop"))

		Comment("The last line, backwards from the end")
		ADDQ(n, src)
		ADDQ(n, dst)
		x.line(src, dst, false)
		VZEROUPPER()
		RET()
	}
	TEXT("lineOffset", NOSPLIT, "func(p *byte) int")
	Pragma("noescape")
	Doc("lineOffset is the distance of p from the start of its cache line.")
	p := param("p")
	ANDQ(U32(63), p)
	Store(p, ReturnIndex(0))
	RET()

	TEXT("storeFence", NOSPLIT, "func()")
	Pragma("noescape")
	Doc("storeFence makes non-temporal stores visible before whatever is stored later.")
	SFENCE()
	RET()
}

// line copies 64 bytes. The destination of a non-temporal store is aligned.
func (x isa) line(src, dst reg.Register, nonTemporal bool) {
	width := 4 * x.floats()
	for i := 0; i < 64; i += width {
		v := x.vec()
		from, to := Mem{Base: src, Disp: i}, Mem{Base: dst, Disp: i}
		switch {
		case x.wide:
			VMOVDQU32(from, v)
		default:
			VMOVDQU(from, v)
		}
		switch {
		case nonTemporal:
			VMOVNTDQ(v, to)
		case x.wide:
			VMOVDQU32(v, to)
		default:
			VMOVDQU(v, to)
		}
	}
}
