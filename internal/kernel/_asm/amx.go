package main

import (
	"encoding/binary"
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// amx writes the tiles of MatMul for AMX-BF16, whose instructions the assembler
// does not know: see "Intel 64 and IA-32 Architectures Software Developer's
// Manual", volume 2, https://www.intel.com/sdm.
func amx() {
	packPairs()
	tilesAMX(2)
	tilesAMX(1)
	identify()
}

// A tmm is one of the eight tile registers. The first four are sums, two are
// for w, two for x.
type tmm byte

func sumTile(a, b int) tmm { return tmm(2*a + b) }
func wTile(a int) tmm      { return tmm(4 + a) }
func xTile(b int) tmm      { return tmm(6 + b) }

// The prefixes of VEX that tell AMX instructions apart.
const (
	noPrefix = iota
	prefix66
	prefixF3
	prefixF2
)

// emit writes an instruction as bytes.
func emit(text string, code ...byte) {
	Comment(text)
	word := func(opcode string, v Op) { Instruction(&ir.Instruction{Opcode: opcode, Operands: []Op{v}}) }
	for len(code) >= 4 {
		word("LONG", U32(binary.LittleEndian.Uint32(code)))
		code = code[4:]
	}
	for _, b := range code {
		word("BYTE", U8(b))
	}
}

// vex is the three bytes of VEX.128.prefix.0F38.W0. r, x and b are the registers
// that ModRM and SIB name, v the one beside them, 0 if there is none.
func vex(prefix, r, x, b, v byte) []byte {
	return []byte{0xC4, (^r>>3&1)<<7 | (^x>>3&1)<<6 | (^b>>3&1)<<5 | 2, (^v&15)<<3 | prefix}
}

// strided is an instruction that moves a tile whose rows lie index bytes apart.
func strided(name string, prefix byte, t tmm, base, index reg.GPPhysical) {
	b, i := byte(base.PhysicalIndex()), byte(index.PhysicalIndex())
	if b&7 == 5 || i == 4 {
		panic("base or index that is encoded otherwise")
	}
	code := append(vex(prefix, byte(t), i, b, 0), 0x4B, byte(t)<<3|4, i&7<<3|b&7)
	emit(fmt.Sprintf("%s tmm%d, (%s)(%s*1)", name, t, base.Asm(), index.Asm()), code...)
}

func tileLoad(t tmm, base, stride reg.GPPhysical) { strided("TILELOADD", prefixF2, t, base, stride) }

func tileStore(t tmm, base, stride reg.GPPhysical) {
	strided("TILESTORED", prefixF3, t, base, stride)
}

func tileZero(t tmm) {
	emit(fmt.Sprintf("TILEZERO tmm%d", t), append(vex(prefixF2, byte(t), 0, 0, 0), 0x49, 3<<6|byte(t)<<3)...)
}

func tileRelease() { emit("TILERELEASE", append(vex(noPrefix, 0, 0, 0, 0), 0x49, 3<<6)...) }

func loadTileConfig(base reg.GPPhysical) {
	b := byte(base.PhysicalIndex())
	if b&7 == 4 || b&7 == 5 {
		panic("base that is encoded otherwise")
	}
	emit("LDTILECFG ("+base.Asm()+")", append(vex(noPrefix, 0, 0, b, 0), 0x49, b&7)...)
}

// dotTiles adds the products of pairs in a and b to c: TDPBF16PS c, a, b in the
// order of the manual.
func dotTiles(c, a, b tmm) {
	emit(fmt.Sprintf("TDPBF16PS tmm%d, tmm%d, tmm%d", c, a, b),
		append(vex(prefixF3, byte(c), 0, byte(a), byte(b)), 0x5C, 3<<6|byte(c)<<3|byte(a))...)
}

// transpose exchanges rows and columns of the 16 × 16 elements of 32 bits in
// Z0 to Z15. It needs four more registers.
func transpose() {
	z := physical
	t := z[16:20]
	for i := 0; i < 16; i += 4 {
		VUNPCKLPS(z[i+1], z[i], t[0])
		VUNPCKHPS(z[i+1], z[i], t[1])
		VUNPCKLPS(z[i+3], z[i+2], t[2])
		VUNPCKHPS(z[i+3], z[i+2], t[3])
		VUNPCKLPD(t[2], t[0], z[i])
		VUNPCKHPD(t[2], t[0], z[i+1])
		VUNPCKLPD(t[3], t[1], z[i+2])
		VUNPCKHPD(t[3], t[1], z[i+3])
	}
	// Now quarter q of register 4i+j holds rows 4i to 4i+3 of column 4q+j.
	for j := range 4 {
		VSHUFF32X4(U8(0x44), z[4+j], z[j], t[0])
		VSHUFF32X4(U8(0xEE), z[4+j], z[j], t[1])
		VSHUFF32X4(U8(0x44), z[12+j], z[8+j], t[2])
		VSHUFF32X4(U8(0xEE), z[12+j], z[8+j], t[3])
		VSHUFF32X4(U8(0x88), t[2], t[0], z[j])
		VSHUFF32X4(U8(0xDD), t[2], t[0], z[4+j])
		VSHUFF32X4(U8(0x88), t[3], t[1], z[8+j])
		VSHUFF32X4(U8(0xDD), t[3], t[1], z[12+j])
	}
}

// packPairs writes what arranges activations.
func packPairs() {
	TEXT("packPairsAVX512", NOSPLIT, "func(dst *byte, step int, src *byte, ss int, blocks int)")
	Pragma("noescape")
	Doc("packPairsAVX512 takes 16 rows of src, ss bytes apart, and writes the pairs of elements that",
		"stand one below the other side by side: pair k of all rows at step·k of dst, 64 bytes, which",
		"the next ones may overlap. A block is 16 pairs.")
	dst, step, src, ss, blocks := param("dst"), param("step"), param("src"), param("ss"), param("blocks")
	p, ss3 := GP64(), GP64()
	LEAQ(Mem{Base: ss, Index: ss, Scale: 2}, ss3)
	Label("block")
	MOVQ(src, p)
	for i := 0; i < 16; i += 4 {
		VMOVUPS(Mem{Base: p}, physical[i])
		VMOVUPS(Mem{Base: p, Index: ss, Scale: 1}, physical[i+1])
		VMOVUPS(Mem{Base: p, Index: ss, Scale: 2}, physical[i+2])
		VMOVUPS(Mem{Base: p, Index: ss3, Scale: 1}, physical[i+3])
		if i < 12 {
			LEAQ(Mem{Base: p, Index: ss, Scale: 4}, p)
		}
	}
	transpose()
	for i := range 16 {
		VMOVUPS(physical[i], Mem{Base: dst})
		ADDQ(step, dst)
	}
	ADDQ(U8(64), src)
	SUBQ(U8(1), blocks)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// tilesAMX writes the products of ra tiles of w, 16 rows each, with the groups of
// 16 vectors of x.
func tilesAMX(ra int) {
	name := fmt.Sprintf("tiles%dAMX", ra)
	TEXT(name, NOSPLIT, "func(config *byte, w *byte, ws int, tail *byte, x *byte, xgroup, width, blocks, groups, m, share, ahead int, begin, end bool, out *float32, os, mask int, c *float32, cs, ca, cb int, scratch *byte)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s multiplies groups of %d rows of w, ws bytes apart, with m vectors x by TDPBF16PS,", name, 16*ra),
		"over blocks of 32 elements and then, if tail is not nil, one more of which tail has 64 bytes for",
		"each row. x is packed: rows of width bytes for each pair of elements, xgroup bytes from 16",
		"vectors to the next. config says how tiles lie in the registers, which are empty again at the",
		"end. Without begin the sums go on from those in c; with end they go to out, os bytes from a",
		"vector to the next and one behind the other for rows of w, only those in mask of each 16;",
		"otherwise back to c, as tiles of 16 rows cs bytes apart. Tiles of c are ca bytes apart along w",
		"and cb along x. scratch is 4096 bytes. What lies ahead bytes from the rows of a group is",
		"prefetched, share × 4 rows with each one or two groups of x.")

	// local variables beside the parameters, which are changed, too
	local := AllocLocal(7 * 8)
	slot := func(i int) Mem { m := local; m.Disp += 8 * i; return m }
	xAt, outAt, cAt, left, ahead, quads, share := slot(0), slot(1), slot(2), slot(3), slot(4), slot(5), slot(6)

	wp := []reg.GPPhysical{reg.RAX, reg.RBX}
	xp := []reg.GPPhysical{reg.RDX, reg.RSI}
	ws, ws3, width, xstep := reg.RCX, reg.R12, reg.RDI, reg.R13
	k, next, t, p := reg.R8, reg.R9, reg.R10, reg.R11
	k1 := reg.K1

	MOVQ(resolve("mask"), reg.RAX)
	KMOVW(reg.EAX, k1)
	MOVQ(resolve("config"), reg.RAX)
	loadTileConfig(reg.RAX)

	move := func(from, to Mem) {
		MOVQ(from, reg.RAX)
		MOVQ(reg.RAX, to)
	}
	Label("group")
	move(resolve("x"), xAt)
	move(resolve("out"), outAt)
	move(resolve("c"), cAt)
	move(resolve("m"), left)
	MOVQ(resolve("w"), reg.RAX)
	ADDQ(resolve("ahead"), reg.RAX)
	MOVQ(reg.RAX, ahead)
	MOVQ(U32(4*ra), quads)

	Label("columns")
	// How many rows to prefetch this time: share × 4, if there are so many left.
	MOVQ(resolve("share"), t)
	MOVQ(quads, p)
	CMPQ(t, p)
	CMOVQGT(p, t)
	MOVQ(t, share)
	SUBQ(t, quads)
	CMPQ(left, U8(16))
	JGT(LabelRef("two"))
	for _, nb := range []int{1, 2} {
		at := func(s string) string { return fmt.Sprintf("%s%d", s, nb) }
		if nb == 2 {
			Label("two")
		}
		each := func(f func(a, b int)) {
			for a := range ra {
				for b := range nb {
					f(a, b)
				}
			}
		}
		// tiles of c
		kept := func(move func(t tmm, base, stride reg.GPPhysical)) {
			MOVQ(resolve("cs"), t)
			MOVQ(cAt, reg.RAX)
			for a := range ra {
				MOVQ(reg.RAX, reg.RDX)
				for b := range nb {
					move(sumTile(a, b), reg.RDX, t)
					if b < nb-1 {
						ADDQ(resolve("cb"), reg.RDX)
					}
				}
				if a < ra-1 {
					ADDQ(resolve("ca"), reg.RAX)
				}
			}
		}
		CMPB(resolve("begin"), U8(0))
		JNE(LabelRef(at("zero")))
		kept(tileLoad)
		JMP(LabelRef(at("start")))
		Label(at("zero"))
		each(func(a, b int) { tileZero(sumTile(a, b)) })
		Label(at("start"))

		MOVQ(resolve("ws"), ws)
		LEAQ(Mem{Base: ws, Index: ws, Scale: 2}, ws3)
		MOVQ(resolve("w"), wp[0])
		if ra == 2 {
			MOVQ(ws, t)
			SHLQ(U8(4), t)
			LEAQ(Mem{Base: wp[0], Index: t, Scale: 1}, wp[1])
		}
		MOVQ(resolve("width"), width)
		MOVQ(width, xstep)
		SHLQ(U8(4), xstep)
		MOVQ(xAt, xp[0])
		if nb == 2 {
			MOVQ(resolve("xgroup"), xp[1])
			ADDQ(xp[0], xp[1])
		}
		multiply := func(stride reg.GPPhysical) {
			for a := range ra {
				tileLoad(wTile(a), wp[a], stride)
				for b := range nb {
					if a == 0 {
						tileLoad(xTile(b), xp[b], width)
					}
					dotTiles(sumTile(a, b), wTile(a), xTile(b))
				}
			}
		}
		MOVQ(ahead, next)
		MOVQ(resolve("blocks"), k)
		TESTQ(k, k)
		JZ(LabelRef(at("tail")))
		Label(at("block"))
		multiply(ws)
		MOVQ(share, t)
		TESTQ(t, t)
		JZ(LabelRef(at("fetched")))
		MOVQ(next, p)
		Label(at("fetch"))
		PREFETCHT1(Mem{Base: p})
		PREFETCHT1(Mem{Base: p, Index: ws, Scale: 1})
		PREFETCHT1(Mem{Base: p, Index: ws, Scale: 2})
		PREFETCHT1(Mem{Base: p, Index: ws3, Scale: 1})
		LEAQ(Mem{Base: p, Index: ws, Scale: 4}, p)
		SUBQ(U8(1), t)
		JNZ(LabelRef(at("fetch")))
		Label(at("fetched"))
		ADDQ(U8(64), next)
		for a := range ra {
			ADDQ(U8(64), wp[a])
		}
		for b := range nb {
			ADDQ(xstep, xp[b])
		}
		SUBQ(U8(1), k)
		JNZ(LabelRef(at("block")))

		Label(at("tail"))
		MOVQ(resolve("tail"), wp[0])
		TESTQ(wp[0], wp[0])
		JZ(LabelRef(at("multiplied")))
		if ra == 2 {
			LEAQ(Mem{Base: wp[0], Disp: 1024}, wp[1])
		}
		MOVQ(U32(64), t)
		multiply(t)

		Label(at("multiplied"))
		// The rows to prefetch next.
		MOVQ(share, t)
		IMULQ(ws, t)
		SHLQ(U8(2), t)
		ADDQ(t, ahead)
		CMPB(resolve("end"), U8(0))
		JNE(LabelRef(at("end")))
		kept(tileStore)
		JMP(LabelRef(at("next")))
		Label(at("end"))
		MOVQ(resolve("scratch"), reg.RAX)
		MOVQ(U32(64), t)
		for b := range nb {
			for a := range ra {
				tileStore(sumTile(a, b), reg.RAX, t)
				if a < ra-1 || b < nb-1 {
					ADDQ(U32(1024), reg.RAX)
				}
			}
		}
		MOVQ(U32(nb), reg.R13)
		JMP(LabelRef("finish"))

		Label(at("next"))
		MOVQ(resolve("xgroup"), reg.RAX)
		MOVQ(resolve("cb"), reg.RBX)
		MOVQ(resolve("os"), reg.RCX)
		if nb == 2 {
			SHLQ(U8(1), reg.RAX)
			SHLQ(U8(1), reg.RBX)
		}
		SHLQ(U8(3+nb), reg.RCX)
		ADDQ(reg.RAX, xAt)
		ADDQ(reg.RBX, cAt)
		ADDQ(reg.RCX, outAt)
		SUBQ(U8(16*nb), left)
		JG(LabelRef("columns"))
		JMP(LabelRef("grouped"))
	}

	finish(ra, outAt, left)
	CMPQ(left, U8(16))
	JLE(LabelRef("next1"))
	JMP(LabelRef("next2"))

	Label("grouped")
	MOVQ(resolve("ws"), reg.RAX)
	SHLQ(U8(3+ra), reg.RAX)
	ADDQ(reg.RAX, resolve("w"))
	ADDQ(U32(64*ra), resolve("out"))
	MOVQ(resolve("ca"), reg.RAX)
	if ra == 2 {
		SHLQ(U8(1), reg.RAX)
	}
	ADDQ(reg.RAX, resolve("c"))
	MOVQ(resolve("tail"), reg.RAX)
	TESTQ(reg.RAX, reg.RAX)
	JZ(LabelRef("tailless"))
	ADDQ(U32(1024*ra), resolve("tail"))
	Label("tailless")
	SUBQ(U8(1), resolve("groups"))
	JNZ(LabelRef("group"))
	tileRelease()
	VZEROUPPER()
	RET()
}

// finish writes the tiles in scratch, rows of w × vectors, to out, vectors × rows
// of w. R13 is how many groups of vectors there are, ra tiles each.
func finish(ra int, outAt, left Mem) {
	src, out, os, m := reg.RAX, reg.RBX, reg.RCX, reg.RDX
	n, tiles, dst, most, groups := reg.RSI, reg.RDI, reg.R8, reg.R9, reg.R13
	k1, k2 := reg.K1, reg.K2
	Label("finish")
	MOVQ(resolve("scratch"), src)
	MOVQ(outAt, out)
	MOVQ(resolve("os"), os)
	MOVQ(left, m)
	Label("finishGroup")
	MOVQ(U32(16), most)
	MOVQ(U32(ra), tiles)
	Label("finishTile")
	MOVQ(m, n)
	CMPQ(n, most)
	CMOVQGT(most, n)
	MOVQ(out, dst)
	CMPQ(n, U8(4))
	JGT(LabelRef("transposed"))

	// Few vectors: pick the elements of each.
	VMOVDQU32(table("everyRow", 16, func(i int) uint32 { return uint32(64 * i) }), reg.Z1)
	MOVQ(src, reg.R10)
	Label("pick")
	KXNORW(k2, k2, k2)
	VPXORD(reg.Z0, reg.Z0, reg.Z0)
	VGATHERDPS(Mem{Base: reg.R10, Index: reg.Z1, Scale: 1}, k2, reg.Z0)
	VMOVUPS(reg.Z0, k1, Mem{Base: dst})
	ADDQ(U8(4), reg.R10)
	ADDQ(os, dst)
	SUBQ(U8(1), n)
	JNZ(LabelRef("pick"))
	JMP(LabelRef("tileFinished"))

	Label("transposed")
	for i := range 16 {
		VMOVUPS(Mem{Base: src, Disp: 64 * i}, physical[i])
	}
	transpose()
	for i := range 16 {
		VMOVUPS(physical[i], k1, Mem{Base: dst})
		if i < 15 {
			SUBQ(U8(1), n)
			JZ(LabelRef("tileFinished"))
			ADDQ(os, dst)
		}
	}

	Label("tileFinished")
	ADDQ(U32(1024), src)
	ADDQ(U8(64), out)
	SUBQ(U8(1), tiles)
	JNZ(LabelRef("finishTile"))
	MOVQ(os, reg.R10)
	SHLQ(U8(4), reg.R10)
	LEAQ(Mem{Base: out, Index: reg.R10, Scale: 1, Disp: -64 * ra}, out)
	SUBQ(U8(16), m)
	SUBQ(U8(1), groups)
	JNZ(LabelRef("finishGroup"))
}

// identify writes what asks the processor about AMX.
func identify() {
	TEXT("palette", NOSPLIT, "func() (tiles, tile, row, rows uint32)")
	Doc("palette is what the first palette of tiles has: how many, and the bytes of each, the bytes of a",
		"row, and the rows. It is for processors that have AMX.")
	MOVL(U32(0x1D), reg.EAX)
	MOVL(U32(1), reg.ECX)
	CPUID()
	MOVL(reg.EBX, reg.EDX)
	SHRL(U8(16), reg.EDX)
	Store(reg.EDX, Return("tiles"))
	SHRL(U8(16), reg.EAX)
	Store(reg.EAX, Return("tile"))
	ANDL(U32(0xFFFF), reg.EBX)
	Store(reg.EBX, Return("row"))
	ANDL(U32(0xFFFF), reg.ECX)
	Store(reg.ECX, Return("rows"))
	RET()

	TEXT("enabledState", NOSPLIT, "func() uint32")
	Doc("enabledState is the low half of XCR0, the parts of a processor's state that the system keeps",
		"for programs. It is for processors and systems that have OSXSAVE.")
	MOVL(U32(0), reg.ECX)
	XGETBV()
	Store(reg.EAX, ReturnIndex(0))
	RET()
}
