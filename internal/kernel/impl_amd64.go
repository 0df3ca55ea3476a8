//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

//go:generate go run -C _asm . -part convert -out ../convert_amd64.s -stubs ../convert_amd64.go -pkg kernel
//go:generate go run -C _asm . -part mix -out ../mix_amd64.s -stubs ../mix_amd64.go -pkg kernel
//go:generate go run -C _asm . -part measure -out ../measure_amd64.s -stubs ../measure_amd64.go -pkg kernel
//go:generate go run -C _asm . -part fused -out ../fused_amd64.s -stubs ../fused_amd64.go -pkg kernel
//go:generate go run -C _asm . -part copy -out ../copy_amd64.s -stubs ../copy_amd64.go -pkg kernel
//go:generate go run -C _asm . -part matmul -out ../matmul_amd64.s -stubs ../matmul_amd64.go -pkg kernel
//go:generate go run -C _asm . -part amx -out ../amx_amd64.s -stubs ../amx_amd64.go -pkg kernel
//go:generate go run -C _asm . -part matmulprobe -out ../matmulprobe_amd64.s -stubs ../matmulprobe_amd64.go -pkg kernel
//go:generate go run -C _asm . -part attention -out ../attention_amd64.s -stubs ../attention_amd64.go -pkg kernel
//go:generate go run -C _asm . -part activation -out ../activation_amd64.s -stubs ../activation_amd64.go -pkg kernel

// best is the best implementation that this machine can run.
func best() implementation {
	x := &cpu.X86
	switch {
	case !x.HasAVX2 || !x.HasFMA || !x.HasF16C || !x.HasPOPCNT:
		return portable
	case !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512DQ || !x.HasAVX512VL:
		return avx2
	case !x.HasAVX512BF16:
		return avx512
	case !amxTiles:
		return avx512bf16
	}
	return amx
}

// whole is the part of n elements that the assembly takes.
func whole(n int) int {
	if inUse == portable {
		return 0
	}
	return n &^ 31
}

// Calls are direct, through a switch: with function values the compiler would
// have to assume that arguments escape, and move every scratch array to the heap.

func fastWiden(dst []float32, src []byte, f Format) int {
	n := whole(len(dst))
	if n == 0 {
		return 0
	}
	wide := inUse >= avx512
	switch {
	case f == BF16 && wide:
		widenBF16AVX512(&dst[0], &src[0], n)
	case f == BF16:
		widenBF16AVX2(&dst[0], &src[0], n)
	case f == F16 && wide:
		widenF16AVX512(&dst[0], &src[0], n)
	case f == F16:
		widenF16AVX2(&dst[0], &src[0], n)
	case f == F32 && wide:
		widenF32AVX512(&dst[0], &src[0], n)
	case f == F32:
		widenF32AVX2(&dst[0], &src[0], n)
	case f == F64 && wide:
		widenF64AVX512(&dst[0], &src[0], n)
	case f == F64:
		widenF64AVX2(&dst[0], &src[0], n)
	default:
		return 0
	}
	return n
}

func fastNarrow(dst []byte, src []float32, f Format) int {
	n := whole(len(src))
	if n == 0 {
		return 0
	}
	wide := inUse >= avx512
	switch {
	case f == BF16 && wide:
		narrowBF16AVX512(&dst[0], &src[0], n)
	case f == BF16:
		narrowBF16AVX2(&dst[0], &src[0], n)
	case f == F16 && wide:
		narrowF16AVX512(&dst[0], &src[0], n)
	case f == F16:
		narrowF16AVX2(&dst[0], &src[0], n)
	case f == F32 && wide:
		narrowF32AVX512(&dst[0], &src[0], n)
	case f == F32:
		narrowF32AVX2(&dst[0], &src[0], n)
	case f == F64 && wide:
		narrowF64AVX512(&dst[0], &src[0], n)
	case f == F64:
		narrowF64AVX2(&dst[0], &src[0], n)
	default:
		return 0
	}
	return n
}

func fastStochasticBF16(dst []byte, src []float32, base uint64) int {
	n := whole(len(src))
	if n == 0 || inUse < avx512 {
		return 0
	}
	stochasticBF16AVX512(&dst[0], &src[0], base, n)
	return n
}

func fastMix(r, a, s []float32, alpha float32) int {
	n := whole(len(r))
	switch {
	case n == 0:
	case inUse >= avx512:
		mixAVX512(&r[0], &a[0], &s[0], alpha, n)
	default:
		mixAVX2(&r[0], &a[0], &s[0], alpha, n)
	}
	return n
}

func fastMixPerOp(r, a, s []float32, alpha float32) int {
	n := whole(len(r))
	switch {
	case n == 0:
	case inUse >= avx512:
		mixPerOpAVX512(&r[0], &a[0], &s[0], alpha, n)
	default:
		mixPerOpAVX2(&r[0], &a[0], &s[0], alpha, n)
	}
	return n
}

func (t *sums) fastMeasure(a, s, out []float32) int {
	n := whole(len(a))
	switch {
	case n == 0:
	case inUse >= avx512:
		measureAVX512(&t.product, &t.counts, &a[0], &s[0], &out[0], n)
	default:
		measureAVX2(&t.product, &t.counts, &a[0], &s[0], &out[0], n)
	}
	return n
}

// fastBlock does the first elements of a sub-block in one pass over the stored
// bytes, if there is a loop for this Mixer, and returns how many. With stream,
// dst is aligned and written past the caches.
func (m *Mixer) fastBlock(dst, a, s []byte, t *sums, stream bool) int {
	n := whole(len(dst) / m.Out.Bytes())
	if n == 0 || !m.onePass() {
		return 0
	}
	alpha := quiet(m.Alpha)
	switch wide := inUse >= avx512; m.Rounding {
	case Once:
		switch {
		case t == nil:
			fusedOnce(m.Out, wide, &dst[0], &a[0], &s[0], alpha, n, stream)
		default:
			fusedOnceStats(t, m.Out, wide, &dst[0], &a[0], &s[0], alpha, n, stream)
		}
	case PerOp:
		switch {
		case t == nil && wide:
			fusedPerOpAVX512(&dst[0], &a[0], &s[0], alpha, n, stream)
		case t == nil:
			fusedPerOpAVX2(&dst[0], &a[0], &s[0], alpha, n, stream)
		case wide:
			fusedPerOpStatsAVX512(&t.product, &t.counts, &dst[0], &a[0], &s[0], alpha, n, stream)
		default:
			fusedPerOpStatsAVX2(&t.product, &t.counts, &dst[0], &a[0], &s[0], alpha, n, stream)
		}
	}
	return n
}

// onePass reports whether there is a loop from stored bytes to stored bytes.
func (m *Mixer) onePass() bool {
	if m.Aligned != m.Out || m.SFT != m.Out {
		return false
	}
	switch m.Rounding {
	case Once:
		return m.Out <= F32 && m.Alpha != 0
	case PerOp:
		return m.Out == BF16
	}
	return false
}

func fusedOnce(f Format, wide bool, dst, a, s *byte, alpha float32, n int, stream bool) {
	switch {
	case f == BF16 && wide:
		fusedBF16AVX512(dst, a, s, alpha, n, stream)
	case f == BF16:
		fusedBF16AVX2(dst, a, s, alpha, n, stream)
	case f == F16 && wide:
		fusedF16AVX512(dst, a, s, alpha, n, stream)
	case f == F16:
		fusedF16AVX2(dst, a, s, alpha, n, stream)
	case wide:
		fusedF32AVX512(dst, a, s, alpha, n, stream)
	default:
		fusedF32AVX2(dst, a, s, alpha, n, stream)
	}
}

func fusedOnceStats(t *sums, f Format, wide bool, dst, a, s *byte, alpha float32, n int, stream bool) {
	switch {
	case f == BF16 && wide:
		fusedBF16StatsAVX512(&t.product, &t.counts, dst, a, s, alpha, n, stream)
	case f == BF16:
		fusedBF16StatsAVX2(&t.product, &t.counts, dst, a, s, alpha, n, stream)
	case f == F16 && wide:
		fusedF16StatsAVX512(&t.product, &t.counts, dst, a, s, alpha, n, stream)
	case f == F16:
		fusedF16StatsAVX2(&t.product, &t.counts, dst, a, s, alpha, n, stream)
	case wide:
		fusedF32StatsAVX512(&t.product, &t.counts, dst, a, s, alpha, n, stream)
	default:
		fusedF32StatsAVX2(&t.product, &t.counts, dst, a, s, alpha, n, stream)
	}
}

// canStream reports whether there are stores that bypass the caches, and direct
// whether fastBlock may use them on dst; they need an aligned one.
func (m *Mixer) canStream(dst []byte) (ok, direct bool) {
	if inUse == portable {
		return false, false
	}
	return true, m.onePass() && lineOffset(&dst[0]) == 0
}

// fastCopy copies src to dst, bypassing the caches unless there is little of it.
func fastCopy(dst, src []byte) {
	n := len(src)
	switch dst = dst[:n]; {
	case n < 128 || inUse == portable:
		copy(dst, src)
	case inUse >= avx512:
		streamAVX512(&dst[0], &src[0], n)
	default:
		streamAVX2(&dst[0], &src[0], n)
	}
}

// fastFence has to follow stores that bypass the caches before another goroutine
// may look at what they wrote.
func fastFence() { storeFence() }
