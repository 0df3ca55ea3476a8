package quant

import (
	"fmt"
	"math"
)

// Format is a way to store a block of weights. Each block has its own scale.
type Format uint8

// The formats. The first five hold 32 elements in a block, the K formats 256.
// Q4_0, Q5_0, Q8_0 and Q6_K are symmetric, value = d·q; the others have an
// offset as well, value = d·q + m.
const (
	None Format = iota
	Q4_0
	Q4_1
	Q5_0
	Q5_1
	Q8_0
	Q4_K
	Q5_K
	Q6_K
	numFormats
)

// Formats are all of them.
func Formats() []Format { return []Format{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K} }

var formats = [numFormats]struct {
	name        string
	size, bytes int
}{
	None: {"None", 0, 0},
	Q4_0: {"Q4_0", 32, 18},
	Q4_1: {"Q4_1", 32, 20},
	Q5_0: {"Q5_0", 32, 22},
	Q5_1: {"Q5_1", 32, 24},
	Q8_0: {"Q8_0", 32, 34},
	Q4_K: {"Q4_K", 256, 144},
	Q5_K: {"Q5_K", 256, 176},
	Q6_K: {"Q6_K", 256, 210},
}

// String is ggml's name, such as "Q4_K".
func (f Format) String() string {
	if f < numFormats {
		return formats[f].name
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// BlockSize is the number of elements in a block: 32 or 256.
func (f Format) BlockSize() int { return f.known("BlockSize").size() }

// BlockBytes is the number of bytes of a block.
func (f Format) BlockBytes() int { return f.known("BlockBytes").bytes() }

func (f Format) size() int  { return formats[f].size }
func (f Format) bytes() int { return formats[f].bytes }

// known panics unless f is one of the formats.
func (f Format) known(who string) Format {
	if f == None || f >= numFormats {
		panic(fmt.Sprintf("quant: %s: %v is no block format", who, f))
	}
	return f
}

// blocks is the number of blocks that n elements of f fill. It panics unless
// they fill them whole.
func (f Format) blocks(who string, n int) int {
	size := f.known(who).size()
	if n < 0 || n%size != 0 {
		panic(fmt.Sprintf("quant: %s: %d elements do not fill blocks of %v, which hold %d", who, n, f, size))
	}
	return n / size
}

// RowBytes is the number of bytes of n elements of f. It panics unless n is a
// multiple of f.BlockSize().
func RowBytes(f Format, n int) int { return f.blocks("RowBytes", n) * f.bytes() }

// half is the value of an F16 pattern; a NaN becomes quiet.
func half(h uint16) float32 {
	sign, abs := uint32(h&0x8000)<<16, uint32(h&0x7FFF)
	if abs >= 0x7C00 {
		x := sign | 0x7F800000 | abs<<13
		if abs > 0x7C00 {
			x |= 0x00400000
		}
		return math.Float32frombits(x)
	}
	// Shifted into place the exponent is 112 too low, for subnormals as well:
	// the product is exact.
	return math.Float32frombits(math.Float32bits(math.Float32frombits(abs<<13)*0x1p112) | sign)
}

// canonicalNaN is the NaN that Dot and MatMul write, since which payload
// survives an operation differs between machines.
var canonicalNaN = math.Float32frombits(0x7FC00000)
