package kernel

// Format is how a number is stored. All are little endian.
type Format uint8

const (
	None   Format = iota
	BF16          // 1 sign, 8 exponent, 7 mantissa bits
	F16           // IEEE binary16
	F32           // IEEE binary32
	F64           // IEEE binary64
	F8E4M3        // 1-4-3, bias 7, largest 448, NaN 0x7F and 0xFF, no infinity (float8_e4m3fn)
	F8E5M2        // 1-5-2, bias 15, infinities and NaN as IEEE
)

// Bytes is the width of one element.
func (f Format) Bytes() int { return [...]int{0, 2, 2, 4, 8, 1, 1}[f] }

// Canonical quiet NaNs, and other bit patterns by name.
const (
	nanBF16 = 0x7FC0
	nanF16  = 0x7E00
	nanF32  = 0x7FC00000
	nanF64  = 0x7FF8000000000000

	infF32  = 0x7F800000
	maxBF16 = 0x7F7F0000 // largest finite BF16, as float32
	maxF16  = 0x477FE000 // largest finite F16, 65504, as float32
	infF16  = 0x477FF000 // 65520: from here on F16 rounds to infinity
	minF16  = 0x38800000 // smallest normal F16, 2⁻¹⁴, as float32
)
