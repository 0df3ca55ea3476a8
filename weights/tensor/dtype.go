package tensor

import (
	"fmt"
	"math/bits"

	"expo/internal/kernel"
)

// DType is the element type of a tensor. Its constants carry the names that
// safetensors writes into its headers.
type DType uint8

// The element types that safetensors 0.8 knows, in the order in which its
// writer sorts tensors inside a file, first to last.
const (
	Invalid DType = iota
	U64
	I64
	F64
	C64
	F32
	U32
	I32
	BF16
	F16
	U16
	I16
	F8E5M2FNUZ
	F8E4M3FNUZ
	F8E8M0
	F8E4M3
	F8E5M2
	I8
	U8
	F6E3M2
	F6E2M3
	F4
	BOOL
	numDTypes
)

type dtypeInfo struct {
	name   string
	bits   int
	config string // the name that config.json and torch use
	format kernel.Format
}

var dtypes = [numDTypes]dtypeInfo{
	Invalid:    {"INVALID", 0, "", kernel.None},
	U64:        {"U64", 64, "uint64", kernel.None},
	I64:        {"I64", 64, "int64", kernel.None},
	F64:        {"F64", 64, "float64", kernel.F64},
	C64:        {"C64", 64, "complex64", kernel.None},
	F32:        {"F32", 32, "float32", kernel.F32},
	U32:        {"U32", 32, "uint32", kernel.None},
	I32:        {"I32", 32, "int32", kernel.None},
	BF16:       {"BF16", 16, "bfloat16", kernel.BF16},
	F16:        {"F16", 16, "float16", kernel.F16},
	U16:        {"U16", 16, "uint16", kernel.None},
	I16:        {"I16", 16, "int16", kernel.None},
	F8E5M2FNUZ: {"F8_E5M2FNUZ", 8, "float8_e5m2fnuz", kernel.None},
	F8E4M3FNUZ: {"F8_E4M3FNUZ", 8, "float8_e4m3fnuz", kernel.None},
	F8E8M0:     {"F8_E8M0", 8, "float8_e8m0fnu", kernel.None},
	F8E4M3:     {"F8_E4M3", 8, "float8_e4m3fn", kernel.F8E4M3},
	F8E5M2:     {"F8_E5M2", 8, "float8_e5m2", kernel.F8E5M2},
	I8:         {"I8", 8, "int8", kernel.None},
	U8:         {"U8", 8, "uint8", kernel.None},
	F6E3M2:     {"F6_E3M2", 6, "float6_e3m2fn", kernel.None},
	F6E2M3:     {"F6_E2M3", 6, "float6_e2m3fn", kernel.None},
	F4:         {"F4", 4, "float4_e2m1fn_x2", kernel.None},
	BOOL:       {"BOOL", 8, "bool", kernel.None},
}

// String is the name in a safetensors header, such as "BF16" or "F8_E4M3".
func (d DType) String() string {
	if d < numDTypes {
		return dtypes[d].name
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// ConfigName is the name that config.json uses under "dtype" or
// "torch_dtype", such as "bfloat16".
func (d DType) ConfigName() string {
	if d < numDTypes {
		return dtypes[d].config
	}
	return ""
}

// Bits is the width of one element: 64, 32, 16, 8, and 6 or 4 for the
// sub-byte types.
func (d DType) Bits() int {
	if d < numDTypes {
		return dtypes[d].bits
	}
	return 0
}

// Format is the kernel's name for the type, or kernel.None when the type has
// no arithmetic here (integers, booleans, complex and the rarer FP8, FP6 and
// FP4 variants).
func (d DType) Format() kernel.Format {
	if d < numDTypes {
		return dtypes[d].format
	}
	return kernel.None
}

// Float reports whether elements of the type can be converted to float32.
func (d DType) Float() bool { return d.Format() != kernel.None }

// ParseDType finds a type by its safetensors name; it is case-sensitive, as
// the official reader is.
func ParseDType(name string) (DType, error) {
	for d := Invalid + 1; d < numDTypes; d++ {
		if dtypes[d].name == name {
			return d, nil
		}
	}
	return Invalid, fmt.Errorf("tensor: unknown dtype %q", name)
}

// ParseConfigDType finds a type by the name that config.json uses
// ("bfloat16", also with the prefix "torch.").
func ParseConfigDType(name string) (DType, error) {
	if len(name) > 6 && name[:6] == "torch." {
		name = name[6:]
	}
	for d := Invalid + 1; d < numDTypes; d++ {
		if dtypes[d].config == name {
			return d, nil
		}
	}
	return Invalid, fmt.Errorf("tensor: unknown dtype %q", name)
}

// Elements is the product of shape: 1 for a scalar (no dimensions), 0 if any
// dimension is 0. It fails on a negative dimension and where the dimensions
// other than 0 have a product of 2⁶³ or more.
func Elements(shape []int) (int64, error) {
	n, zero := uint64(1), false
	for _, dim := range shape {
		if dim < 0 {
			return 0, fmt.Errorf("tensor: negative dimension in shape %v", clip(shape))
		}
		if dim == 0 {
			zero = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(dim))
		if hi != 0 || lo > 1<<63-1 {
			return 0, fmt.Errorf("tensor: shape %v has more elements than an int64 counts", clip(shape))
		}
		n = lo
	}
	if zero {
		return 0, nil
	}
	return int64(n), nil
}

// Size is the number of bytes of a tensor of the given type and shape. It
// fails where Elements does, when the product overflows, and when a tensor of
// a sub-byte type would not end on a byte.
func Size(d DType, shape []int) (int64, error) {
	n, err := Elements(shape)
	if err != nil {
		return 0, err
	}
	hi, lo := bits.Mul64(uint64(n), uint64(d.Bits()))
	if hi != 0 || lo > 1<<63-1 {
		return 0, fmt.Errorf("tensor: %v of shape %v has more bytes than an int64 counts", d, clip(shape))
	}
	if lo%8 != 0 {
		return 0, fmt.Errorf("tensor: %v of shape %v does not end on a byte", d, clip(shape))
	}
	return int64(lo / 8), nil
}

// clip keeps an error line short when a hostile header has a million
// dimensions.
func clip(shape []int) []int { return shape[:min(len(shape), 16)] }
