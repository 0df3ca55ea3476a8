//go:build !purego

package kernel

// How MatMul cuts its work into tiles. Only one cut shows in a result, that of
// long rows into parts: a tile adds up one part, and the sums of parts are added
// in their order. It depends on n alone.

// multipliesPairs reports whether products with BF16 weights take the
// activations as BF16, too.
func multipliesPairs() bool { return inUse >= avx512bf16 }

// lineOffsetOf is the distance of x from the start of its cache line, in bytes.
func lineOffsetOf[T byte | float32](x []T) int {
	switch x := any(x).(type) {
	case []byte:
		return lineOffset(&x[0])
	case []float32:
		return floatLineOffset(&x[0])
	}
	return 0
}

const (
	across = 4 // rows of w in a tile

	// Steps in a part of a row. The vectors of a tile and the rows of w that
	// they meet stay in the level 1 cache: 4 KiB each.
	partSteps512, partSteps256 = 32, 64
	// Vectors that meet a block of w before the next block follows: a part of
	// each stays in the level 2 cache.
	bandBytes = 384 << 10
	// Rows of w in a block: so do these and the next, which are prefetched.
	blockBytes, blockRows = 64 << 10, 64
	// How far a row of more than longRow bytes is prefetched, when a step takes
	// 64 of them; more if it takes less.
	longRow, rowAhead = 3 << 10, 1 << 10
)

// fast does the work if there is assembly for it.
func (p *product) fast() bool {
	if inUse == portable || (p.pairs != nil && inUse < avx512bf16) {
		return false
	}
	if p.n == 0 {
		for i := range p.m {
			clear(p.out[i*p.stride : i*p.stride+p.rows])
		}
		return true
	}
	var t tiling
	t.product = p
	t.lanes, t.down, t.part = 8, 3, partSteps256
	if inUse >= avx512 {
		t.lanes, t.down, t.part = 16, 6, partSteps512
	}
	t.width = p.f.Bytes()
	t.perStep = t.lanes
	t.xstep = 4 * t.lanes
	if p.pairs != nil {
		t.perStep *= 2
	}
	t.wstep = t.perStep * t.width
	t.steps = p.n / t.perStep
	t.ws = p.wstride * t.width
	t.run()
	return true
}

// tiling is a product on its way.
type tiling struct {
	*product
	lanes   int // float32 in a vector register
	down    int // vectors of x in a tile
	part    int // steps in a part of a row
	width   int // bytes of an element of w
	perStep int // elements
	xstep   int // bytes
	wstep   int // bytes
	steps   int // whole ones in a row
	ws      int // bytes from one row of w to the next
}

func (t *tiling) run() {
	if t.rows < across {
		t.single()
		return
	}
	t.blocks()
	// The last rows, some of them for the second time.
	if t.rows%across != 0 {
		last := *t.product
		r := t.rows - across
		last.out, last.w, last.rows = t.out[r:], t.w[r*t.ws:], across
		u := *t
		u.product = &last
		u.run()
	}
}

// single does fewer rows than a tile has: each is four times the same row.
func (t *tiling) single() {
	var four [across]float32
	one := *t.product
	one.m, one.rows, one.stride, one.out = 1, across, across, four[:]
	u := *t
	u.product, u.ws = &one, 0
	for r := range t.rows {
		one.w = t.w[r*t.ws:]
		for i := range t.m {
			if t.pairs != nil {
				one.pairs = t.pairs[2*i*t.xstride:]
			} else {
				one.x = t.x[i*t.xstride:]
			}
			u.run()
			t.out[i*t.stride+r] = four[0]
		}
	}
}

// cut is where tile i of n begins among m vectors.
func cut(i, n, m int) int { return i * m / n }

// blocks does all rows but the last three.
func (t *tiling) blocks() {
	var tails [blockRows * 64]byte
	tiles := (t.m + t.down - 1) / t.down
	parts := max(1, (t.steps+t.part-1)/t.part)
	bands := min(tiles, 1+t.m*min(t.steps, t.part)*t.xstep/bandBytes)
	rows := t.rows &^ (across - 1)
	left := (t.n - t.steps*t.perStep) * t.width // bytes that are no whole step

	// A single tile reads rows to their end, and what it has read once it is done
	// with. Of several tiles each reads one part after the other. In one band,
	// they finish a block before the next; bands finish a part of all rows first,
	// since they come back to the rows anyway.
	block := rows
	if tiles > 1 || left > 0 {
		block = min(blockRows, max(across, blockBytes/max(1, min(t.steps, t.part)*t.wstep))) &^ (across - 1)
	}
	outer, inner, each := 1, parts, t.part
	switch {
	case tiles == 1:
		inner, each = 1, t.steps
	case bands > 1:
		outer, inner = parts, 1
	}
	for o := range outer {
		for band := range bands {
			first, end := cut(band, bands, tiles), cut(band+1, bands, tiles)
			for r := 0; r < rows; r += block {
				n := min(block, rows-r)
				var tail *byte
				if left > 0 {
					tail = &tails[0]
					for j := range n {
						from := (r+j)*t.ws + t.steps*t.wstep
						copy(tails[64*j:], t.w[from:from+left])
					}
				}
				for part := o * inner; part < (o+1)*inner; part++ {
					k := part * each
					steps, rest := min(each, t.steps-k), tail
					if k+steps < t.steps {
						rest = nil
					}
					// Each tile fetches its share of the next block, a single
					// one the next group, or its own rows if they are long.
					pace := t.wstep / (end - first)
					share := steps * pace
					ahead := n * t.ws
					if tiles == 1 {
						ahead = across * t.ws
						if t.n*t.width > longRow*64/t.wstep {
							ahead = rowAhead
						}
					}
					for i := first; i < end; i++ {
						at := cut(i, tiles, t.m)
						t.tile(at, cut(i+1, tiles, t.m)-at, r, n/across, k, steps, rest, part > 0, ahead, pace)
						ahead += share
					}
				}
			}
		}
	}
}

// tile multiplies vectors [i, i+m) with groups of rows from r on, over steps
// from k on.
func (t *tiling) tile(i, m, r, groups, k, steps int, tail *byte, add bool, ahead, pace int) {
	out, w := &t.out[i*t.stride+r], &t.w[r*t.ws+k*t.wstep]
	stride := 4 * t.stride
	if t.pairs != nil {
		x, xs := &t.pairs[2*i*t.xstride+k*t.xstep], 2*t.xstride
		tilePairsBF16AVX512(m, out, stride, x, xs, w, t.ws, tail, steps, t.part, groups, add, ahead, pace)
		return
	}
	x, xs := &t.x[i*t.xstride+k*t.lanes], 4*t.xstride
	switch wide := inUse >= avx512; {
	case t.f == BF16 && wide:
		tileBF16AVX512(m, out, stride, x, xs, w, t.ws, tail, steps, t.part, groups, add, ahead, pace)
	case t.f == BF16:
		tileBF16AVX2(m, out, stride, x, xs, w, t.ws, tail, steps, t.part, groups, add, ahead, pace)
	case t.f == F16 && wide:
		tileF16AVX512(m, out, stride, x, xs, w, t.ws, tail, steps, t.part, groups, add, ahead, pace)
	case t.f == F16:
		tileF16AVX2(m, out, stride, x, xs, w, t.ws, tail, steps, t.part, groups, add, ahead, pace)
	case wide:
		tileF32AVX512(m, out, stride, x, xs, w, t.ws, tail, steps, t.part, groups, add, ahead, pace)
	default:
		tileF32AVX2(m, out, stride, x, xs, w, t.ws, tail, steps, t.part, groups, add, ahead, pace)
	}
}
