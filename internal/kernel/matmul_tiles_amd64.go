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

	// Steps in a part of a row: 2 KiB of a vector.
	partSteps512, partSteps256 = 32, 64
	// Vectors that meet a group of rows before the next: a part of each, and of the
	// rows, stays in the level 1 cache.
	abreast = 24
	// Vectors that meet a block of w before the next block follows: a part of
	// each stays in the level 2 cache.
	bandBytes = 384 << 10
	// Rows of w in a block: so do these and the next, which are prefetched.
	blockBytes, blockRows = 64 << 10, 64
	// How far a row of more than longRow bytes is prefetched, when a step takes
	// 64 of them; more if it takes less.
	longRow, rowAhead = 3 << 10, 1 << 10
)

// partElements is how many elements a part of n has, and a step.
func partElements(pairs bool, n int) (part, step int) {
	switch {
	case inUse == portable:
		return n, 1
	case pairs:
		return 32 * partSteps512, 32
	case inUse >= avx512:
		return 16 * partSteps512, 16
	}
	return 8 * partSteps256, 8
}

// fast does the work if there is assembly for it.
func (p *product) fast() bool {
	if inUse == portable || p.pairs != nil && (inUse < avx512bf16 || packsTiles() != (p.width > 0)) {
		return false
	}
	if p.n == 0 {
		for i := range p.m {
			clear(p.out[i*p.stride : i*p.stride+p.rows])
		}
		return true
	}
	if p.width > 0 {
		p.inTiles()
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
	size := 4 // of an element of x
	if p.pairs != nil {
		size = 2
	}
	t.xs = p.xstride * size
	t.xp = t.part * t.xstep
	if p.xpart > 0 {
		t.xp = p.xpart * size
	}
	t.aligned()
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
	shift   int // bytes from the start of a line to that of any row, if they are read by lines
	ws      int // bytes from one row of w to the next
	xs      int // bytes from one vector of x to the next
	xp      int // bytes from one part of x to the next
}

// aligned sets shift if that is of use: what is prefetched next to loads that
// cross lines is often lost.
func (t *tiling) aligned() {
	t.shift = 0
	if t.pairs != nil && t.ws%64 == 0 && t.n%t.perStep == 0 {
		if from := lineOffset(&t.w[0]); from%2 == 0 {
			t.shift = from
		}
	}
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
	u.shift = 0
	for r := range t.rows {
		one.w = t.w[r*t.ws:]
		for i := range t.m {
			if t.pairs != nil {
				one.pairs = t.pairs[i*t.xs:]
			} else {
				one.x = t.x[i*t.xstride:]
			}
			u.run()
			t.out[i*t.stride+r] = four[0]
		}
	}
}

// cut is where piece i of n begins among m.
func cut(i, n, m int) int { return i * m / n }

// A job is tiles of vectors first to end with rows r on, n of them, over
// steps from k on.
type job struct {
	first, end, tiles int
	r, n              int
	k, steps          int
	tail              *byte
	add               bool
	// What is prefetched meanwhile: see tilePairsBF16AVX512.
	ahead, last, share, pace int
}

// blocks does all rows but the last three.
func (t *tiling) blocks() {
	var tails [blockRows * 64]byte
	tiles := (t.m + t.down - 1) / t.down
	calls := (tiles + abreast/t.down - 1) / (abreast / t.down)
	parts := max(1, (t.steps+t.part-1)/t.part)
	bands := min(calls, 1+t.m*min(t.steps, t.part)*t.xstep/bandBytes)
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
			// Of calls, and of tiles.
			from, to := cut(band, bands, calls), cut(band+1, bands, calls)
			begin, end := cut(from, calls, tiles), cut(to, calls, tiles)
			for r := 0; r < rows; r += block {
				j := job{r: r, n: min(block, rows-r)}
				var tail *byte
				if left > 0 {
					tail = &tails[0]
					for i := range j.n {
						at := (r+i)*t.ws + t.steps*t.wstep
						copy(tails[64*i:], t.w[at:at+left])
					}
				}
				for part := o * inner; part < (o+1)*inner; part++ {
					j.k = part * each
					j.steps, j.tail, j.add = min(each, t.steps-j.k), tail, part > 0
					if j.k+j.steps < t.steps {
						j.tail = nil
					}
					j.pace = (t.wstep + end - begin - 1) / (end - begin)
					j.share = j.steps * j.pace
					switch {
					case tiles == 1 && t.n*t.width > longRow*64/t.wstep:
						// A single tile fetches its own rows if they are long.
						j.ahead = rowAhead
						j.last = j.ahead
					case calls == 1:
						// The next group: of this part, the next part, the next block.
						j.ahead = across * t.ws
						j.last = j.ahead - j.k*t.wstep
						if part < parts-1 && tiles > 1 {
							j.last = t.part*t.wstep - (j.n-across)*t.ws
						}
					default:
						j.ahead = j.n * t.ws
						j.last = j.ahead
					}
					for c := from; c < to; c++ {
						a, b := cut(c, calls, tiles), cut(c+1, calls, tiles)
						j.first, j.end, j.tiles = cut(a, tiles, t.m), cut(b, tiles, t.m), b-a
						t.do(&j)
						if calls > 1 {
							j.ahead += (b - a) * j.share
							j.last = j.ahead
						}
					}
				}
			}
		}
	}
}

func (t *tiling) do(j *job) {
	out, w := &t.out[j.first*t.stride+j.r], &t.w[j.r*t.ws+j.k*t.wstep]
	stride := 4 * t.stride
	m := (j.end - j.first + j.tiles - 1) / j.tiles
	larger := j.end - j.first - j.tiles*(m-1)
	at := j.first*t.xs + j.k/t.part*t.xp
	skip := t.xp - t.part*t.xstep
	groups := j.n / across
	if t.pairs != nil {
		shift := t.shift
		if j.tiles == 1 {
			shift = 0
		}
		tilePairsBF16AVX512(m, larger, j.tiles, out, stride, &t.pairs[at], t.xs, skip, w, t.ws, j.tail, j.steps, t.part, groups, j.add, j.ahead, j.last, j.share, j.pace, shift)
		return
	}
	x := &t.x[at/4]
	switch wide := inUse >= avx512; {
	case t.f == BF16 && wide:
		tileBF16AVX512(m, larger, j.tiles, out, stride, x, t.xs, skip, w, t.ws, j.tail, j.steps, t.part, groups, j.add, j.ahead, j.last, j.share, j.pace)
	case t.f == BF16:
		tileBF16AVX2(m, larger, j.tiles, out, stride, x, t.xs, skip, w, t.ws, j.tail, j.steps, t.part, groups, j.add, j.ahead, j.last, j.share, j.pace)
	case t.f == F16 && wide:
		tileF16AVX512(m, larger, j.tiles, out, stride, x, t.xs, skip, w, t.ws, j.tail, j.steps, t.part, groups, j.add, j.ahead, j.last, j.share, j.pace)
	case t.f == F16:
		tileF16AVX2(m, larger, j.tiles, out, stride, x, t.xs, skip, w, t.ws, j.tail, j.steps, t.part, groups, j.add, j.ahead, j.last, j.share, j.pace)
	case wide:
		tileF32AVX512(m, larger, j.tiles, out, stride, x, t.xs, skip, w, t.ws, j.tail, j.steps, t.part, groups, j.add, j.ahead, j.last, j.share, j.pace)
	default:
		tileF32AVX2(m, larger, j.tiles, out, stride, x, t.xs, skip, w, t.ws, j.tail, j.steps, t.part, groups, j.add, j.ahead, j.last, j.share, j.pace)
	}
}
