package gguf

import (
	"fmt"

	"expo/weights/tensor"
)

// Type is the type of a tensor's elements, by the number that the file has for
// it.
type Type uint32

// The types. I8 to I64, F16 to F64 and BF16 are plain numbers, all others blocks
// with scales of their own.
const (
	F32     Type = 0
	F16     Type = 1
	Q4_0    Type = 2
	Q4_1    Type = 3
	Q5_0    Type = 6
	Q5_1    Type = 7
	Q8_0    Type = 8
	Q8_1    Type = 9
	Q2_K    Type = 10
	Q3_K    Type = 11
	Q4_K    Type = 12
	Q5_K    Type = 13
	Q6_K    Type = 14
	Q8_K    Type = 15
	IQ2_XXS Type = 16
	IQ2_XS  Type = 17
	IQ3_XXS Type = 18
	IQ1_S   Type = 19
	IQ4_NL  Type = 20
	IQ3_S   Type = 21
	IQ2_S   Type = 22
	IQ4_XS  Type = 23
	I8      Type = 24
	I16     Type = 25
	I32     Type = 26
	I64     Type = 27
	F64     Type = 28
	IQ1_M   Type = 29
	BF16    Type = 30
	TQ1_0   Type = 34
	TQ2_0   Type = 35
	MXFP4   Type = 39
	NVFP4   Type = 40
	Q1_0    Type = 41
	Q2_0    Type = 42
)

type typeInfo struct {
	name        string
	size, bytes int
	dtype       tensor.DType
}

// types is indexed by Type. Numbers without a name were never used in files, or
// are no longer read by anyone.
var types = [...]typeInfo{
	F32:     {"F32", 1, 4, tensor.F32},
	F16:     {"F16", 1, 2, tensor.F16},
	Q4_0:    {"Q4_0", 32, 18, 0},
	Q4_1:    {"Q4_1", 32, 20, 0},
	Q5_0:    {"Q5_0", 32, 22, 0},
	Q5_1:    {"Q5_1", 32, 24, 0},
	Q8_0:    {"Q8_0", 32, 34, 0},
	Q8_1:    {"Q8_1", 32, 36, 0},
	Q2_K:    {"Q2_K", 256, 84, 0},
	Q3_K:    {"Q3_K", 256, 110, 0},
	Q4_K:    {"Q4_K", 256, 144, 0},
	Q5_K:    {"Q5_K", 256, 176, 0},
	Q6_K:    {"Q6_K", 256, 210, 0},
	Q8_K:    {"Q8_K", 256, 292, 0},
	IQ2_XXS: {"IQ2_XXS", 256, 66, 0},
	IQ2_XS:  {"IQ2_XS", 256, 74, 0},
	IQ3_XXS: {"IQ3_XXS", 256, 98, 0},
	IQ1_S:   {"IQ1_S", 256, 50, 0},
	IQ4_NL:  {"IQ4_NL", 32, 18, 0},
	IQ3_S:   {"IQ3_S", 256, 110, 0},
	IQ2_S:   {"IQ2_S", 256, 82, 0},
	IQ4_XS:  {"IQ4_XS", 256, 136, 0},
	I8:      {"I8", 1, 1, tensor.I8},
	I16:     {"I16", 1, 2, tensor.I16},
	I32:     {"I32", 1, 4, tensor.I32},
	I64:     {"I64", 1, 8, tensor.I64},
	F64:     {"F64", 1, 8, tensor.F64},
	IQ1_M:   {"IQ1_M", 256, 56, 0},
	BF16:    {"BF16", 1, 2, tensor.BF16},
	TQ1_0:   {"TQ1_0", 256, 54, 0},
	TQ2_0:   {"TQ2_0", 256, 66, 0},
	MXFP4:   {"MXFP4", 32, 17, 0},
	NVFP4:   {"NVFP4", 64, 36, 0},
	Q1_0:    {"Q1_0", 128, 18, 0},
	Q2_0:    {"Q2_0", 64, 18, 0},
}

func (t Type) info() typeInfo {
	if uint64(t) < uint64(len(types)) {
		return types[t]
	}
	return typeInfo{}
}

// Known reports whether t is one of the types above. A Reader has no others.
func (t Type) Known() bool { return t.info().size > 0 }

// String is the name that ggml's tools use, such as "Q4_K".
func (t Type) String() string {
	if t.Known() {
		return t.info().name
	}
	return fmt.Sprintf("Type(%d)", uint32(t))
}

// BlockSize is the number of elements in a block: 1 for plain numbers, 0 for a
// type that is not known.
func (t Type) BlockSize() int { return t.info().size }

// BlockBytes is the number of bytes of a block.
func (t Type) BlockBytes() int { return t.info().bytes }

// DType is the type as that of a plain tensor, or tensor.Invalid for blocks.
func (t Type) DType() tensor.DType { return t.info().dtype }
