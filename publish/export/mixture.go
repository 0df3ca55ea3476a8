package export

import "expo/weights/gguf"

// mix gives each tensor its type in a file of type t, as llama.cpp's
// llama_tensor_get_type does
// (https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp). layers
// is the number of layers, weighed whether there is an importance matrix.
func mix(ts []part, t Type, layers int, large, weighed bool) []gguf.Type {
	tied := true
	for _, p := range ts {
		tied = tied && p.role != roleHead
	}
	out := make([]gguf.Type, len(ts))
	values, downs := 0, 0
	for i, p := range ts {
		if p.vector {
			out[i] = gguf.F32
			continue
		}
		if !t.quantized() {
			out[i] = types[t].base
			continue
		}
		typ := types[t].base
		switch {
		case p.role == roleHead || p.role == roleTokens && tied:
			// What the logits come from is worth more bits.
			if size := typ.BlockSize(); p.cols%size != 0 {
				typ = gguf.Q8_0
			} else if t != Q8_0 {
				typ = gguf.Q6_K
			}
		case p.role == roleValue:
			switch {
			case (t == Q4_K_M || t == Q5_K_M) && useMore(values, layers):
				typ = gguf.Q6_K
			case t == Q4_K_S && values < 4:
				typ = gguf.Q5_K
			}
			// Eight heads of queries share one of values there, so it is small.
			if large && typ == gguf.Q4_K {
				typ = gguf.Q5_K
			}
			values++
		case p.role == roleDown:
			switch {
			case (t == Q4_K_M || t == Q5_K_M) && useMore(downs, layers):
				typ = gguf.Q6_K
			case t == Q4_K_S && downs < layers/8:
				typ = gguf.Q5_K
			case t == Q4_0 && weighed && downs < layers/8:
				// The first of them go wrong at times in types without an offset,
				// which without an importance matrix do better there.
				typ = gguf.Q4_1
			case t == Q5_0 && weighed && downs < layers/8:
				typ = gguf.Q5_1
			}
			downs++
		}
		out[i] = fallback(typ, p.cols)
	}
	return out
}

// useMore tells the layers that get more bits: the first and last eighths, and
// every third of the others.
func useMore(i, n int) bool {
	return i < n/8 || i >= 7*n/8 || (i-n/8)%3 == 2
}

// fallback is the type in place of typ for rows that do not fill its blocks.
func fallback(typ gguf.Type, cols int) gguf.Type {
	if cols%typ.BlockSize() == 0 {
		return typ
	}
	switch typ {
	case gguf.Q4_K:
		typ = gguf.Q5_0
	case gguf.Q5_K:
		typ = gguf.Q5_1
	case gguf.Q6_K:
		typ = gguf.Q8_0
	}
	if cols%typ.BlockSize() != 0 {
		return gguf.F16
	}
	return typ
}
