package export

import (
	"fmt"
	"strings"

	"expo/internal/quant"
	"expo/weights/gguf"
)

// Type is the type of a whole file, as llama-quantize names it: which types its
// tensors have.
type Type uint8

// The types. Names of quantized ones say how many bits a weight takes; S and M are
// mixtures that spend more bits on some tensors, M more than S.
const (
	F32 Type = iota
	F16
	BF16
	Q8_0
	Q4_0
	Q4_1
	Q5_0
	Q5_1
	Q4_K_S
	Q4_K_M
	Q5_K_S
	Q5_K_M
	Q6_K
	numTypes
)

// types has the name, the number that general.file_type has for the type, and the
// type of most matrices.
var types = [numTypes]struct {
	name     string
	fileType uint32
	base     gguf.Type
}{
	F32:    {"F32", 0, gguf.F32},
	F16:    {"F16", 1, gguf.F16},
	BF16:   {"BF16", 32, gguf.BF16},
	Q8_0:   {"Q8_0", 7, gguf.Q8_0},
	Q4_0:   {"Q4_0", 2, gguf.Q4_0},
	Q4_1:   {"Q4_1", 3, gguf.Q4_1},
	Q5_0:   {"Q5_0", 8, gguf.Q5_0},
	Q5_1:   {"Q5_1", 9, gguf.Q5_1},
	Q4_K_S: {"Q4_K_S", 14, gguf.Q4_K},
	Q4_K_M: {"Q4_K_M", 15, gguf.Q4_K},
	Q5_K_S: {"Q5_K_S", 16, gguf.Q5_K},
	Q5_K_M: {"Q5_K_M", 17, gguf.Q5_K},
	Q6_K:   {"Q6_K", 18, gguf.Q6_K},
}

// Types are all of them.
func Types() []Type {
	all := make([]Type, numTypes)
	for i := range all {
		all[i] = Type(i)
	}
	return all
}

// String is llama-quantize's name, such as "Q4_K_M".
func (t Type) String() string {
	if t < numTypes {
		return types[t].name
	}
	return fmt.Sprintf("Type(%d)", uint8(t))
}

// ParseType finds a type by its name, in letters of any case. "Q4_K" and "Q5_K"
// are short for the mixtures M.
func ParseType(name string) (Type, error) {
	upper := strings.ToUpper(name)
	if upper == "Q4_K" || upper == "Q5_K" {
		upper += "_M"
	}
	names := make([]string, numTypes)
	for t := range numTypes {
		if names[t] = types[t].name; names[t] == upper {
			return t, nil
		}
	}
	return 0, fmt.Errorf("export: unknown type %q; use one of %s", name, strings.Join(names, ", "))
}

// quantized reports whether the type has blocks.
func (t Type) quantized() bool { return t > BF16 }

// blocks are the formats of the types that have blocks.
var blocks = map[gguf.Type]quant.Format{
	gguf.Q4_0: quant.Q4_0, gguf.Q4_1: quant.Q4_1, gguf.Q5_0: quant.Q5_0, gguf.Q5_1: quant.Q5_1,
	gguf.Q8_0: quant.Q8_0, gguf.Q4_K: quant.Q4_K, gguf.Q5_K: quant.Q5_K, gguf.Q6_K: quant.Q6_K,
}
