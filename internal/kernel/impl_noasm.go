//go:build !amd64 || purego

package kernel

// There is nothing here but the portable loops.

func best() implementation { return portable }

func fastWiden(dst []float32, src []byte, f Format) int               { return 0 }
func fastNarrow(dst []byte, src []float32, f Format) int              { return 0 }
func fastStochasticBF16(dst []byte, src []float32, base uint64) int   { return 0 }
func fastMix(r, a, s []float32, alpha float32) int                    { return 0 }
func fastMixPerOp(r, a, s []float32, alpha float32) int               { return 0 }
func (t *sums) fastMeasure(a, s, out []float32) int                   { return 0 }
func (m *Mixer) fastBlock(dst, a, s []byte, t *sums, stream bool) int { return 0 }
func (m *Mixer) canStream(dst []byte) (ok, direct bool)               { return false, false }
func fastCopy(dst, src []byte)                                        { copy(dst, src) }
func fastFence()                                                      {}
