//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// Products with BF16 weights by AMX, in tiles of 16 rows of 64 bytes. TDPBF16PS
// multiplies 16 rows of 32 elements with 16 columns of as many, the columns in
// pairs of elements beside each other. Weights are the rows, since they are used
// as they lie; activations are the columns, packed once in [Activations.Set]. The
// sums, 16 rows of weights × 16 vectors, are transposed when they are done.
//
// The registers for tiles are set up, used and given back within one call of the
// assembly, which nothing of Go's can interrupt: goroutines are preempted by
// signals, but assembly is no place where they can be stopped, so the handler
// returns to it at once. The kernel keeps the tiles while it runs other threads
// and while a handler runs, 8 KiB in the frame of the signal. Signal stacks of Go
// have 32 KiB, and a kernel that finds one too small refuses permission in the
// first place.

// amxTiles is whether there are AMX-BF16 and permission to use it. Permission is
// the process's for good, and costs no thread anything before its first tile.
var amxTiles = amxPresent() && amxPermitted()

// amxPresent reports whether the processor has AMX-BF16 with tiles as they are
// used here, and the system keeps them.
func amxPresent() bool {
	x := &cpu.X86
	const config, data = 1 << 17, 1 << 18 // of XCR0
	if !x.HasAMXTile || !x.HasAMXBF16 || !x.HasOSXSAVE || enabledState()&(config|data) != config|data {
		return false
	}
	tiles, size, row, rows := palette()
	return tiles >= 8 && size >= 1024 && row >= 64 && rows >= 16
}

const (
	// Elements that one instruction takes, and rows of a tile.
	amxBlock, amxRows = 32, 16
	// Vectors of so many bytes, for which the level 2 cache has room, meet each 32
	// rows of w from end to end, and so do 32 of any length.
	amxWhole = 512 << 10
	// Of longer or more vectors, and of w, parts of so many blocks meet: 32 KiB of 32
	// rows, for the level 1 cache, and as many bytes as above of so many vectors.
	// They meet so many rows before the next part.
	amxPart, amxBand, amxBatch = 16, 512, 512
	// Rows that have a tail are copied as many at a time.
	amxTails = 256
	// The next 32 rows are prefetched into the level 2 cache if they are no more
	// than so many bytes; otherwise the rows at hand, so many bytes ahead.
	amxNext, amxAhead = 512 << 10, 1 << 10
)

// packsTiles reports whether activations that meet BF16 weights are packed.
func packsTiles() bool { return inUse >= amx }

// amxWidth is how many of m vectors stand side by side: 16, or a power of two if
// there are fewer.
func amxWidth(m int) int {
	w := 1
	for w < m && w < 16 {
		w *= 2
	}
	return w
}

// amxBlocks is how many blocks n elements make, the last one filled with zeros.
func amxBlocks(n int) int { return (n + amxBlock - 1) / amxBlock }

// amxGroup is the bytes of a group of vectors, up to 16.
func amxGroup(n, width int) int {
	blocks := amxBlocks(n)
	if width == 16 && blocks%32 == 0 {
		// Or the same parts of all groups would compete for a quarter of the level 2
		// cache, or less.
		blocks += 16
	}
	return 64 * width * blocks
}

// makeTiles makes room for m packed vectors, and for 16 that are not.
func (a *Activations) makeTiles(m int) {
	a.width = amxWidth(m)
	a.bf16 = lines[byte]((m+15)/16*amxGroup(a.N, a.width)+64, 1)
	if m > 1 {
		a.rows = lines[byte](16*2*a.ld, 1)
	}
}

// packTiles is Set for packed vectors. Pair k of vector i is the four bytes at
// 4·(k·width + i mod 16) of group i/16. What is there beside the vectors is
// arbitrary: columns of a tile do not mix.
func (a *Activations) packTiles(x []float32, m int) {
	n, blocks := a.N, amxBlocks(a.N)
	a.width = amxWidth(m)
	group := amxGroup(n, a.width)
	if blocks == 0 {
		return
	}
	if m == 1 {
		// Nothing to arrange.
		Narrow(a.bf16[:2*n], x[:n], BF16)
		clear(a.bf16[2*n : 64*blocks])
		return
	}
	for i := 0; i < m; i += 16 {
		for j := range min(16, m-i) {
			Narrow(a.rows[2*j*a.ld:2*(j*a.ld+n)], x[(i+j)*n:(i+j+1)*n], BF16)
		}
		packPairsAVX512(&a.bf16[i/16*group], 4*a.width, &a.rows[0], 2*a.ld, blocks)
	}
}

// An amxProduct is a product on its way.
type amxProduct struct {
	*product
	ws      int      // bytes from one row of w to the next
	blocks  int      // whole ones in a row
	left    int      // bytes that are no whole block
	group   int      // bytes of 16 vectors
	full    [64]byte // configuration of tiles with 16 rows of w
	scratch *byte
	tails   []byte // room for amxTails rows, if left > 0
}

// inTiles does the work with AMX.
func (p *product) inTiles() {
	if p.n%amxBlock == 0 {
		p.inTilesWith(nil)
		return
	}
	var tails [amxTails * 64]byte
	p.inTilesWith(tails[:])
}

// inTilesWith is inTiles with room for tails, which few matrices need.
func (p *product) inTilesWith(tails []byte) {
	var scratch [4*1024 + 63]byte
	t := amxProduct{
		product: p,
		ws:      2 * p.wstride,
		blocks:  p.n / amxBlock,
		left:    2 * (p.n % amxBlock),
		group:   amxGroup(p.n, p.width),
		full:    amxConfig(amxRows, p.width),
		scratch: &scratch[(64-lineOffset(&scratch[0]))%64],
		tails:   tails,
	}
	t.run()
}

func (t *amxProduct) run() {
	done := 0
	if t.m > 32 && 2*t.m*t.n > amxWhole && t.blocks > amxPart && t.rows >= amxRows {
		done = t.rows &^ (amxRows - 1)
		t.bands(done)
	}
	step := t.rows
	if t.left > 0 {
		step = amxTails
	}
	for r := done; r < t.rows; r += step {
		t.whole(r, min(step, t.rows-r))
	}
}

// whole multiplies rows rows from r on with all vectors, row by row to the end.
func (t *amxProduct) whole(r, rows int) {
	c := amxCall{m: t.m, begin: true, end: true, blocks: t.blocks, ahead: 32 * t.ws, mask: 1<<amxRows - 1, config: &t.full}
	passes := (t.m + 31) / 32
	if c.ahead > amxNext {
		c.ahead, passes = amxAhead, 1
	}
	if t.left > 0 {
		c.tail = t.copyTails(r, rows)
	}
	if c.groups = rows / 32; c.groups > 0 {
		c.share = (8 + passes - 1) / passes
		t.call(2, r, &c)
		r += 32 * c.groups
		if c.tail != nil {
			c.tail = c.tail[32*c.groups*64:]
		}
	}
	c.groups = 1
	c.share = (4 + passes - 1) / passes
	if rows&16 != 0 {
		t.call(1, r, &c)
		r += 16
		if c.tail != nil {
			c.tail = c.tail[16*64:]
		}
	}
	if last := rows % 16; last > 0 {
		few := amxConfig(last, t.width)
		c.config, c.mask, c.share = &few, 1<<last-1, 0
		t.call(1, r, &c)
	}
}

// bands multiplies whole tiles of rows with many vectors.
func (t *amxProduct) bands(rows int) {
	var edge [16 * amxBatch]float32
	bands := (t.m + amxBand - 1) / amxBand
	band := ((t.m+bands-1)/bands + 31) &^ 31
	for i := 0; i < t.m; i += band {
		for r := 0; r < rows; r += amxBatch {
			t.inParts(i, min(band, t.m-i), r, min(amxBatch, rows-r), edge[:])
		}
	}
}

// inParts multiplies rows rows from r on, whole tiles of at most amxBatch, with m
// vectors from i on, part by part. Sums wait in out, where each tile of sums has
// the place of its results, not yet transposed. Those of vectors that do not fill
// a tile wait in edge.
func (t *amxProduct) inParts(i, m, r, rows int, edge []float32) {
	filled := m &^ 15
	passes := max(1, (filled+31)/32)
	for k := 0; k < t.blocks; k += amxPart {
		c := amxCall{from: k, blocks: min(amxPart, t.blocks-k), begin: k == 0, mask: 1<<amxRows - 1, groups: 1, config: &t.full}
		c.end = k+c.blocks == t.blocks
		for at := 0; at < rows; {
			tiles := min(2, (rows-at)/16)
			if c.end && t.left > 0 {
				c.tail = t.copyTails(r+at, 16*tiles)
			}
			// The next rows, or the first ones of the next part.
			c.ahead = 16 * tiles * t.ws
			if at+16*tiles == rows {
				c.ahead = 64*amxPart - at*t.ws
			}
			c.share = (4*tiles + passes - 1) / passes
			if filled > 0 {
				c.first, c.m = i, filled
				c.c = &t.out[i*t.stride+r+at]
				c.cs, c.ca, c.cb = 4*t.stride, 64, 64*t.stride
				t.call(tiles, r+at, &c)
			}
			if filled < m {
				c.first, c.m, c.share = i+filled, m-filled, 0
				c.c = &edge[16*at]
				c.cs, c.ca, c.cb = 64, 1024, 0
				t.call(tiles, r+at, &c)
			}
			at += 16 * tiles
		}
	}
}

// copyTails copies what rows have behind their whole blocks, 64 bytes for each.
func (t *amxProduct) copyTails(r, rows int) []byte {
	for j := range rows {
		from := (r+j)*t.ws + t.blocks*64
		copy(t.tails[64*j:], t.w[from:from+t.left])
	}
	return t.tails
}

// An amxCall is what tiles2AMX and tiles1AMX are asked for.
type amxCall struct {
	config       *[64]byte
	tail         []byte
	first, m     int // vectors
	from, blocks int
	groups       int
	share, ahead int
	begin, end   bool
	mask         int
	c            *float32
	cs, ca, cb   int
}

// call multiplies rows from r on.
func (t *amxProduct) call(tiles, r int, c *amxCall) {
	config, scratch := &c.config[0], t.scratch
	// There are no whole blocks, or none of a row, in the smallest products.
	var w, tail *byte
	if c.blocks > 0 {
		w = &t.w[r*t.ws+64*c.from]
	}
	if c.tail != nil {
		tail = &c.tail[0]
	}
	x := &t.pairs[c.first/16*t.group+64*t.width*c.from]
	out := &t.out[c.first*t.stride+r]
	width, os := 4*t.width, 4*t.stride
	if tiles == 2 {
		tiles2AMX(config, w, t.ws, tail, x, t.group, width, c.blocks, c.groups, c.m, c.share, c.ahead, c.begin, c.end, out, os, c.mask, c.c, c.cs, c.ca, c.cb, scratch)
		return
	}
	tiles1AMX(config, w, t.ws, tail, x, t.group, width, c.blocks, c.groups, c.m, c.share, c.ahead, c.begin, c.end, out, os, c.mask, c.c, c.cs, c.ca, c.cb, scratch)
}

// amxConfig is what LDTILECFG takes: the rows of each tile and the bytes of a row.
// Four tiles are sums, rows × width; two are rows of w, two of 16 pairs of x.
func amxConfig(rows, width int) (c [64]byte) {
	c[0] = 1 // the palette
	for i := range 8 {
		c[16+2*i], c[48+i] = byte(4*width), byte(rows)
	}
	c[16+2*4], c[16+2*5] = 64, 64
	c[48+6], c[48+7] = 16, 16
	return c
}
