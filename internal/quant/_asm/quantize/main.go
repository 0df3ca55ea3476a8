// Command quantize writes the amd64 assembly of package quant's quantizers. Run it
// through "go generate" in that package, which calls it once for each part.
//
// blocks32.go describes the formats of 32 elements, whose blocks are computed one
// after the other; fit.go the searches for scales, of the K formats and of all with
// weights, which work on eight or sixteen sub-blocks at once, one in each lane
// (lanes.go); measure.go what quantizing has done.
package main

import (
	"flag"
	"fmt"
	"log"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	part := flag.String("part", "", "which file to write: blocks32, fit, measure")
	flag.Parse()
	ConstraintExpr("!purego")
	switch *part {
	case "blocks32":
		blocks32()
	case "fit":
		fits()
	case "measure":
		measure()
	default:
		log.Fatalf("no part %q", *part)
	}
	Generate()
}

// param loads a parameter of 64 bits.
func param(name string) reg.Register { return Load(Param(name), GP64()) }

var tables = map[string]bool{}

// table is a read-only array of n 32-bit values.
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

// all is v in each of 8 elements, as memory.
func all(v uint32) Mem {
	return table(fmt.Sprintf("every%08x", v), 8, func(int) uint32 { return v })
}

// zero clears v.
func zero(v reg.VecVirtual) { VXORPS(v, v, v) }

// at is memory a number of bytes behind a register.
func at(base reg.Register, disp int) Mem { return Mem{Base: base, Disp: disp} }

// Comparisons, ordered and quiet.
const (
	equal   = U8(0x00)
	less    = U8(0x11)
	atLeast = U8(0x1D)
	greater = U8(0x1E)
)
