package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is one of the two instruction sets.
type isa struct {
	name string // suffix of function names
	wide bool   // AVX-512 with VNNI
}

var isas = []isa{{"AVX512", true}, {"AVX2", false}}

// many is how many vectors the functions for several take.
func (x isa) many() int {
	if x.wide {
		return 4
	}
	return 2
}

// A format is a block format.
type format struct {
	name   string
	bytes  int // of a block
	qs     int // where the codes begin, or their lower 4 bits
	qh     int // where the fifth bits begin; 0 if there are none
	bias   int // binary logarithm of what is subtracted from codes
	offset bool
}

var formats32 = []format{
	{name: "Q4_0", bytes: 18, qs: 2, bias: 3},
	{name: "Q4_1", bytes: 20, qs: 4, offset: true},
	{name: "Q5_0", bytes: 22, qs: 6, qh: 2, bias: 4},
	{name: "Q5_1", bytes: 24, qs: 8, qh: 4, offset: true},
	{name: "Q8_0", bytes: 34, qs: 2, bias: 7},
}

var formatsK = []format{
	{name: "Q4_K", bytes: 144, qs: 16},
	{name: "Q5_K", bytes: 176, qs: 48, qh: 16},
	{name: "Q6_K", bytes: 210, qs: 0, qh: 128},
}

// param loads a parameter of 64 bits.
func param(name string) reg.Register { return Load(Param(name), GP64()) }

var tables = map[string]bool{}

// table is a read-only array of n 32-bit values, one per name in a file.
func table(name string, n int, f func(int) uint32) Mem {
	if !tables[name] {
		tables[name] = true
		GLOBL(name, attr.RODATA|attr.NOPTR)
		for i := range n {
			DATA(4*i, U32(f(i)))
		}
	}
	return NewDataAddr(Symbol{Name: name, Static: true}, 0)
}

// bytesTable is a table of n bytes.
func bytesTable(name string, n int, f func(int) int) Mem {
	return table(name, n/4, func(i int) uint32 {
		var v uint32
		for k := range 4 {
			v |= uint32(uint8(f(4*i+k))) << (8 * k)
		}
		return v
	})
}

// wordsTable is a table of n words of 16 bits.
func wordsTable(name string, n int, f func(int) int) Mem {
	return table(name, n/2, func(i int) uint32 {
		return uint32(uint16(f(2*i))) | uint32(uint16(f(2*i+1)))<<16
	})
}

// all is v in each of 8 elements, as memory.
func all(v uint32) Mem {
	return table(fmt.Sprintf("all%08x", v), 8, func(int) uint32 { return v })
}

// every is v in each byte, as memory of 32 bytes.
func every(v uint8) Mem { return all(uint32(v) * 0x01010101) }

// constant is a register with v in each element of 32 bits.
func constant(v uint32) reg.VecVirtual {
	r, z := GP32(), ZMM()
	MOVL(U32(v), r)
	VPBROADCASTD(r, z)
	return z
}

// load512 is a table in a register.
func load512(m Mem) reg.VecVirtual {
	z := ZMM()
	VMOVDQU32(m, z)
	return z
}

// vec is a new register of 64 or 32 bytes.
func (x isa) vec() reg.VecVirtual {
	if x.wide {
		return ZMM()
	}
	return YMM()
}

// zero clears v. Of the instructions that could, the generator knows of this one
// that it does not read v.
func zero(v reg.VecVirtual) { VXORPS(v, v, v) }

// ahead is how far before its use, in bytes, a weight is fetched.
const ahead = 4096

// A product is a function being written: rows of a matrix with one vector or with
// several.
type product struct {
	isa
	f                                      format
	n                                      int // vectors
	w, out, stride, strideThree, rows, off reg.Register
	place                                  reg.Register // of a product, with more than four vectors
	xs                                     []reg.Register
}

// begin writes the head of the function.
func (p *product) begin() {
	name, sig, doc := "dot"+p.f.name+p.name, "func(out *float32, w *byte, rows, blocks int, x *byte)", "one vector"
	if p.n > 1 {
		name = "dots" + p.f.name + p.name
		if p.n > 4 {
			name += fmt.Sprintf("By%d", p.n)
		}
		sig = "func(out *float32, stride int, w *byte, rows, blocks int"
		for v := range p.n {
			sig += fmt.Sprintf(", x%d", v)
		}
		sig += " *byte)"
		doc = fmt.Sprintf("%d vectors", p.n)
	}
	TEXT(name, NOSPLIT, sig)
	Pragma("noescape")
	Doc(fmt.Sprintf("%s multiplies rows of so many blocks with %s. Neither count is 0.", name, doc))
}

// load loads the parameters.
func (p *product) load() {
	p.w, p.out, p.rows = param("w"), param("out"), param("rows")
	if p.n == 1 {
		p.xs = []reg.Register{param("x")}
	} else {
		for v := range p.n {
			p.xs = append(p.xs, param(fmt.Sprintf("x%d", v)))
		}
		if p.n <= 4 {
			p.stride = param("stride")
		}
		if p.n == 4 {
			p.strideThree = GP64()
			LEAQ(Mem{Base: p.stride, Index: p.stride, Scale: 2}, p.strideThree)
		}
	}
	p.off = GP64()
}

// at is the memory of the v-th vector's present record.
func (p *product) at(v, disp int) Mem {
	return Mem{Base: p.xs[v], Index: p.off, Scale: 1, Disp: disp}
}

// put stores the lowest element of x, the product with the v-th vector.
func (p *product) put(x reg.VecVirtual, v int) {
	m := Mem{Base: p.out}
	if p.n > 4 {
		// A loop with so many vectors has no register left for the stride.
		p.next(v)
		VMOVSS(x.AsX(), Mem{Base: p.place})
		return
	}
	switch v {
	case 1, 2:
		m.Index, m.Scale = p.stride, uint8(4*v)
	case 3:
		m.Index, m.Scale = p.strideThree, 4
	}
	VMOVSS(x.AsX(), m)
}

// next moves place to where the v-th vector's product goes.
func (p *product) next(v int) {
	if v == 0 {
		p.place, p.stride = GP64(), param("stride")
		MOVQ(p.out, p.place)
		return
	}
	LEAQ(Mem{Base: p.place, Index: p.stride, Scale: 4}, p.place)
}

// nextRow ends the loop over rows, and the function.
func (p *product) nextRow(label string) {
	ADDQ(U8(4), p.out)
	DECQ(p.rows)
	JNZ(LabelRef(label))
	VZEROUPPER()
	RET()
}

// prefetch fetches the weights that so many bytes at w lie before.
func (p *product) prefetch(bytes int) {
	for i := 0; i < bytes; i += 64 {
		PREFETCHT0(Mem{Base: p.w, Disp: ahead + i})
	}
}
