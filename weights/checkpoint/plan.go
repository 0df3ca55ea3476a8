package checkpoint

import (
	"fmt"
	"slices"
	"strings"

	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// BlockBytes is how much of a file is computed and written at a time. Blocks
// begin at its multiples inside the file: page caches take whole, aligned
// pages at half the cost of split ones. Blocks are the same whatever the number
// of workers, so whoever measures while reading (WriteOptions.Read) sees the
// same pieces.
const BlockBytes = 1 << 20

// piece is a stretch of one tensor, whole elements.
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
	shards := slices.DeleteFunc(slices.Clone(c.shards), func(s Shard) bool { return len(s.Tensors) == 0 })
	if shardSize > 0 {
		shards = split(c, shardSize)
	}
	if len(shards) == 0 {
		shards = []Shard{{}}
	}
	keep := len(shards) == len(c.shards) && keepNames(shards)
	p := &plan{}
	for i, s := range shards {
		ts := slices.Clone(s.Tensors)
		// A safetensors source keeps its order, which is data order; what was
		// cut anew or came from torch gets the official writer's.
		if !strings.HasSuffix(s.File, ".safetensors") || !aligned(ts) {
			safetensors.Sort(ts)
		}
		f := plannedFile{name: s.File, tensors: ts}
		switch {
		case len(shards) == 1:
			f.name = "model.safetensors"
		case !keep:
			f.name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
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

// keepNames tells whether shards can be written under the names they have.
// One that is called model.safetensors would be read in place of the index.
func keepNames(shards []Shard) bool {
	seen := make(map[string]bool)
	for _, s := range shards {
		folded := strings.ToLower(s.File)
		if !strings.HasSuffix(s.File, ".safetensors") || !plainFileName(s.File) || folded == "model.safetensors" || seen[folded] {
			return false
		}
		seen[folded] = true
	}
	return true
}

// split fills shards greedily.
func split(c *Checkpoint, shardSize int64) []Shard {
	var shards []Shard
	var current Shard
	var size int64
	for t := range c.Tensors() {
		n := t.Size()
		if len(current.Tensors) > 0 && n > shardSize-size {
			shards = append(shards, current)
			current, size = Shard{}, 0
		}
		current.Tensors = append(current.Tensors, t)
		size += n
	}
	if len(current.Tensors) > 0 {
		shards = append(shards, current)
	}
	return shards
}

// units cuts a file's data at multiples of BlockBytes, or at the last whole
// element before them where a tensor does not begin at a multiple of its
// element's width.
func units(file int, ts []tensor.Tensor, l *safetensors.Layout) []unit {
	var us []unit
	var u unit
	end := int64(0) // of the block that u fills
	flush := func() {
		if len(u.pieces) > 0 {
			u.file, u.seq = file, len(us)
			us = append(us, u)
		}
		u = unit{}
	}
	for i, t := range ts {
		width := int64(max(t.DType.Bits()/8, 1))
		size := t.Size()
		for off := int64(0); off < size; {
			at := l.Offset(i) + off
			if at >= end {
				flush()
				end = (at/BlockBytes + 1) * BlockBytes
			}
			n := min(size-off, (end-at)/width*width)
			if n == 0 {
				flush() // the element straddles the boundary: the next block begins with it
				end += BlockBytes
				continue
			}
			if len(u.pieces) == 0 {
				u.off = at
			}
			u.pieces = append(u.pieces, piece{t, off, n})
			u.n += n
			off += n
		}
	}
	flush()
	return us
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
