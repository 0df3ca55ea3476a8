package kernel

import "fmt"

// Activations are M vectors of N float32 values, prepared for products with
// weights of one format. Make it with [NewActivations], fill it with
// [Activations.Set].
type Activations struct {
	M, N   int
	Format Format

	// Vectors are cut into parts of part elements, the last one longer by less
	// than step. A part of all vectors lies together, ld elements for each, so that
	// the level 1 cache can keep it, and the next part behind it. Up to a multiple
	// of 32, elements behind N are zero. One of the two holds them: bf16 where the
	// weights are BF16 and there is an instruction for such pairs, f32 otherwise.
	part, step, ld int
	f32            []float32
	bf16           []byte

	// For AMX they are packed instead: bf16 holds pairs of elements of width
	// vectors side by side. rows is room for the vectors on their way there.
	width int
	rows  []byte
}

// NewActivations makes room for up to m vectors of n values that meet weights
// of format f: BF16, F16 or F32. It is for the implementation in use when it is
// made.
func NewActivations(m, n int, f Format) *Activations {
	if f != BF16 && f != F16 && f != F32 {
		panic(fmt.Sprintf("kernel: NewActivations: no products with format %d", f))
	}
	a := &Activations{N: n, Format: f}
	a.ld = (n + 31) &^ 31
	if f == BF16 && packsTiles() {
		if a.ld%1024 == 0 {
			// Or element k of all vectors would compete for one set of the cache.
			a.ld += 32
		}
		a.makeTiles(m)
		return a
	}
	pairs := f == BF16 && multipliesPairs()
	a.part, a.step = partElements(pairs, n)
	parts := 1
	if n >= a.part+a.step {
		parts = (n - a.step + a.part) / a.part
		// The 32 are for the longer part, and without them vectors would compete for
		// half the cache in a short one.
		a.ld = a.part + 32
	}
	if pairs {
		a.bf16 = lines[byte](2*m*parts*a.ld, 1)
	} else {
		a.f32 = lines[float32](m*parts*a.ld, 4)
	}
	return a
}

// lines is n elements of a width that start a cache line.
func lines[T byte | float32](n, width int) []T {
	x := make([]T, n+64)
	skip := (64 - lineOffsetOf(x)) % 64 / width
	return x[skip : skip+n : skip+n]
}

// Set takes m vectors of N values from x, (m, N) row-major. For BF16 weights
// they are rounded to bfloat16, to nearest even, as PyTorch's bfloat16 models
// hold them.
func (a *Activations) Set(x []float32, m int) {
	a.SetBy(x, m, func(n int, f func(lo, hi int)) { f(0, n) })
}

// SetBy is [Activations.Set] with its work divided by do, which calls f for
// ranges that make up [0, n), at the same time if it likes.
func (a *Activations) SetBy(x []float32, m int, do func(n int, f func(lo, hi int))) {
	a.M = m
	if a.width > 0 {
		a.packTiles(x, m)
		return
	}
	do(m, func(lo, hi int) { a.set(x, lo, hi) })
}

// set takes vectors lo to hi.
func (a *Activations) set(x []float32, lo, hi int) {
	for i := lo; i < hi; i++ {
		row := x[i*a.N : (i+1)*a.N]
		for at := i * a.ld; len(row) > 0; at += a.M * a.ld {
			k := len(row)
			if k >= a.part+a.step {
				k = a.part
			}
			padded := (k + 31) &^ 31
			if a.bf16 != nil {
				b := a.bf16[2*at : 2*(at+padded)]
				Narrow(b, row[:k], BF16)
				clear(b[2*k:])
			} else {
				b := a.f32[at : at+padded]
				if a.Format == BF16 {
					roundRowBF16(b[:k], row[:k])
				} else {
					copy(b, row[:k])
				}
				clear(b[k:])
			}
			row = row[k:]
		}
	}
}

// roundRowBF16 rounds src to bfloat16 and back.
func roundRowBF16(dst, src []float32) {
	var b [512]byte
	for len(src) > 0 {
		n := min(len(src), len(b)/2)
		Narrow(b[:], src[:n], BF16)
		Widen(dst[:n], b[:], BF16)
		dst, src = dst[n:], src[n:]
	}
}

// MatMul computes out[i*stride+r] = Σ_k x[i][k]·w[r][k] for the M vectors of x
// and rows rows of w, which is (rows, x.N) row-major of format x.Format, any
// alignment. Work is divided among threads by giving each some of the rows; they
// may share x.
//
// The sum of an element depends on its two vectors alone: not on M, not on
// rows, not on what else is computed. So a token's result is the same in any
// batch, bit for bit. Its order is the implementation's own, fixed for a
// machine; all agree with the exact sum to within the rounding of a float32 sum
// of products.
//
// The order, for the implementations in assembly: element k belongs to lane
// k mod 16 with AVX-512, k mod 8 with AVX2, and each lane takes its elements one
// after the other by fused multiply and add. With AVX512_BF16 and BF16 weights,
// elements 2k and 2k+1 belong to lane k mod 16, the odd one is added first, and
// VDPBF16PS takes subnormal factors and sums as zero. The lanes are added
// pairwise in the end, or after every 512 elements of a longer row (1024 if
// they come in pairs), when the sum is added to the one before.
//
// With AMX and BF16 weights, each block of 32 elements has a sum of its own, which
// is added to that of the blocks before: its 16 even elements one after the
// other, its 16 odd ones likewise, by fused multiply and add, then the two
// together. The last block is filled with zeros. Here, too, subnormal factors and
// sums are zero. This is TDPBF16PS as Intel's manual defines it
// (https://www.intel.com/sdm, volume 2). It has been verified bit for bit in an
// emulator (scripts/amx_bochs.sh), not yet on a processor that has it.
//
// It panics if w or out is too short.
func MatMul(out []float32, stride int, x *Activations, w []byte, rows int) {
	n := x.N
	need("MatMul", "w", w, rows*n, x.Format)
	if rows <= 0 || x.M <= 0 {
		return
	}
	if len(out) < (x.M-1)*stride+rows {
		panic(fmt.Sprintf("kernel: MatMul: out has %d elements, want %d vectors of %d, %d apart", len(out), x.M, rows, stride))
	}
	if part, _ := partElements(x.bf16 != nil, n); x.width == 0 && x.part != part {
		panic("kernel: MatMul: activations made for another implementation")
	}
	p := product{
		out: out, stride: stride, m: x.M, rows: rows, n: n,
		x: x.f32, pairs: x.bf16, xstride: x.ld, xpart: x.M * x.ld, width: x.width,
		w: w, wstride: n, f: x.Format,
	}
	p.run()
}

// A product is the work of MatMul and Scores: m vectors of n elements in x or
// pairs, with rows of w, wstride elements apart. Vectors lie xstride elements
// apart, and their parts xpart, or one part behind the other if that is 0.
type product struct {
	out     []float32
	stride  int
	m       int
	rows    int
	n       int
	x       []float32
	pairs   []byte
	xstride int
	xpart   int
	width   int // of packed pairs, 0 if they are not
	w       []byte
	wstride int
	f       Format
}

func (p *product) run() {
	if p.fast() {
		return
	}
	if p.pairs != nil {
		panic("kernel: MatMul: activations made for another implementation")
	}
	width := p.f.Bytes()
	row := make([]float32, p.n)
	for r := range p.rows {
		Widen(row, p.w[r*p.wstride*width:], p.f)
		for i := range p.m {
			p.out[i*p.stride+r] = dot(p.x[i*p.xstride:i*p.xstride+p.n], row)
		}
	}
}

// Dot is Σ a[k]·b[k] in float32. b is at least as long as a. The result depends
// on the values and the implementation alone: a fixed number of lanes takes the
// elements in turn, and is added pairwise at the end.
func Dot(a, b []float32) float32 {
	b = b[:len(a)]
	if s, ok := fastDot(a, b); ok {
		return s
	}
	return dot(a, b)
}

// dot is the portable definition of [Dot], with 16 lanes.
func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var lane [16]float32
	for len(a) >= 16 {
		x, y := (*[16]float32)(a), (*[16]float32)(b)
		for i := range lane {
			lane[i] += float32(x[i] * y[i])
		}
		a, b = a[16:], b[16:]
	}
	for i, v := range a {
		lane[i] += float32(v * b[i])
	}
	for w := 8; w > 0; w /= 2 {
		for i := range w {
			lane[i] += lane[i+w]
		}
	}
	return lane[0]
}

// Axpy adds alpha·x to y, element by element, product and sum each rounded.
func Axpy(y []float32, alpha float32, x []float32) {
	x = x[:len(y)]
	for i := fastAxpy(y, alpha, x); i < len(y); i++ {
		y[i] += float32(alpha * x[i])
	}
}
