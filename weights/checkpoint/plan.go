package checkpoint

import (
	"fmt"
	"strings"

	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// BlockElements is the number of elements of one tensor that are read and
// written at a time. Reads during Write begin at its multiples and are no
// longer, so that whoever measures while reading (WriteOptions.Read) sees the
// same blocks whatever the number of workers.
const BlockElements = 1 << 19

// piece is a block of one tensor.
type piece struct {
	tensor tensor.Tensor
	off    int64 // in bytes, inside the tensor
	n      int64 // bytes
}

// unit is what one worker reads and writes at once: pieces that follow each
// other in one file. Small tensors share a unit.
type unit struct {
	file   int // index into plan.files
	seq    int // position among the file's units
	off    int64
	n      int64
	pieces []piece
}

// plannedFile is one safetensors file to be written.
type plannedFile struct {
	name    string
	tensors []tensor.Tensor
	layout  *safetensors.Layout
	units   []unit
}

// plan says what goes where.
type plan struct {
	files []plannedFile
	bytes int64 // of all files
}

// newPlan lays out the files of c: its own shards under safetensors names, or,
// with shardSize (in bytes) above 0, new ones filled greedily in the order of
// c, a tensor larger than that getting a shard of its own.
func newPlan(c *Checkpoint, shardSize int64) (*plan, error) {
	groups := make([][]tensor.Tensor, 0, len(c.shards))
	if shardSize <= 0 {
		for _, s := range c.shards {
			if len(s.Tensors) > 0 {
				groups = append(groups, s.Tensors)
			}
		}
	} else {
		groups = split(c, shardSize)
	}
	if len(groups) == 0 {
		groups = append(groups, nil)
	}
	p := &plan{}
	for i, ts := range groups {
		ts = append([]tensor.Tensor(nil), ts...)
		// A safetensors source keeps its order, which is data order; what was
		// cut anew or came from torch gets the official writer's.
		if shardSize > 0 || !aligned(ts) || !strings.HasSuffix(sourceName(c, i), ".safetensors") {
			safetensors.Sort(ts)
		}
		f := plannedFile{name: shardName(c, i, len(groups), shardSize), tensors: ts}
		var err error
		if f.layout, err = safetensors.NewLayout(ts, map[string]string{"format": "pt"}); err != nil {
			return nil, fmt.Errorf("checkpoint: %s: %w", f.name, err)
		}
		f.units = units(i, ts, f.layout)
		p.files = append(p.files, f)
		p.bytes += f.layout.Size()
	}
	return p, nil
}

// aligned reports whether each tensor would begin at a multiple of its
// element's width. Changing the dtype of some tensors of a file can break
// that; legal, but readers that map files dislike it.
func aligned(ts []tensor.Tensor) bool {
	var off int64
	for _, t := range ts {
		if w := int64(t.DType.Bits() / 8); w > 1 && off%w != 0 {
			return false
		}
		off += t.Size()
	}
	return true
}

func sourceName(c *Checkpoint, i int) string {
	if i < len(c.shards) {
		return c.shards[i].File
	}
	return ""
}

// shardName keeps the source's names where they are the standard ones.
func shardName(c *Checkpoint, i, n int, shardSize int64) string {
	if n == 1 {
		return "model.safetensors"
	}
	standard := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, n)
	if shardSize > 0 || n != len(c.shards) {
		return standard
	}
	if own := c.shards[i].File; strings.HasSuffix(own, ".safetensors") {
		return own
	}
	return standard
}

// split fills shards greedily.
func split(c *Checkpoint, shardSize int64) [][]tensor.Tensor {
	var groups [][]tensor.Tensor
	var current []tensor.Tensor
	var size int64
	for t := range c.Tensors() {
		n := t.Size()
		if len(current) > 0 && size+n > shardSize {
			groups = append(groups, current)
			current, size = nil, 0
		}
		current = append(current, t)
		size += n
	}
	if len(current) > 0 {
		groups = append(groups, current)
	}
	return groups
}

// units cuts a file's data: blocks of large tensors, runs of small ones.
func units(file int, ts []tensor.Tensor, l *safetensors.Layout) []unit {
	const full = 2 * BlockElements // bytes; one block of a 16-bit type
	var us []unit
	var u unit
	flush := func() {
		if len(u.pieces) > 0 {
			u.file, u.seq = file, len(us)
			us = append(us, u)
		}
		u = unit{}
	}
	for i, t := range ts {
		size, step := t.Size(), blockBytes(t)
		for off := int64(0); off < size; off += step {
			n := min(step, size-off)
			if u.n > 0 && u.n+n > full {
				flush()
			}
			if len(u.pieces) == 0 {
				u.off = l.Offset(i) + off
			}
			u.pieces = append(u.pieces, piece{t, off, n})
			u.n += n
		}
	}
	flush()
	return us
}

// blockBytes is BlockElements of t in bytes; for sub-byte types as many bytes
// as elements.
func blockBytes(t tensor.Tensor) int64 {
	return BlockElements * int64(max(t.DType.Bits()/8, 1))
}

// unitBytes is the longest unit.
func (p *plan) unitBytes() int64 {
	var n int64
	for _, f := range p.files {
		for _, u := range f.units {
			n = max(n, u.n)
		}
	}
	return n
}

// order interleaves the units of up to width files, so that their digests,
// each a sequential computation, can run side by side; files that are in skip
// are left out.
func (p *plan) order(width int, skip map[int]bool) []*unit {
	var open []int
	var out []*unit
	next := 0
	pos := make([]int, len(p.files))
	for {
		for len(open) < width && next < len(p.files) {
			if !skip[next] && len(p.files[next].units) > 0 {
				open = append(open, next)
			}
			next++
		}
		if len(open) == 0 {
			return out
		}
		still := open[:0]
		for _, f := range open {
			out = append(out, &p.files[f].units[pos[f]])
			if pos[f]++; pos[f] < len(p.files[f].units) {
				still = append(still, f)
			}
		}
		open = still
	}
}
