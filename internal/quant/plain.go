package quant

import "expo/internal/kernel"

// NarrowF16 stores src as F16, which ggml counts among its types, rounded to
// nearest even, in the first 2·len(src) bytes of dst. Magnitudes of 65520 and
// above become infinity.
func NarrowF16(dst []byte, src []float32) { kernel.Narrow(dst, src, kernel.F16) }

// NarrowBF16 stores src as BF16, rounded to nearest even, in the first 2·len(src)
// bytes of dst.
func NarrowBF16(dst []byte, src []float32) { kernel.Narrow(dst, src, kernel.BF16) }
