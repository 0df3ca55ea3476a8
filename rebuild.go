package expo

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// RebuildOptions says how much of a directory is computed again.
type RebuildOptions struct {
	// Sample is the share of tensors to compute, chosen at random by Seed; 0
	// and 1 mean all.
	Sample float64
	Seed   uint64
	Jobs   int
}

// Rebuild computes a directory's tensors again from the pair that its record
// names, and compares byte by byte; also the small files. It fails if the
// record is missing or the pair is not the recorded one.
func Rebuild(ctx context.Context, c *checkpoint.Checkpoint, p Pair, opt RebuildOptions) (*Verification, error) {
	rec, err := ReadRecord(c.Files())
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, fmt.Errorf("expo: %s has no %s to rebuild it from", c.Name(), RecordFile)
	}
	if err := rec.SFT.Matches(p.SFT); err != nil {
		return nil, err
	}
	if err := rec.Aligned.Matches(p.Aligned); err != nil {
		return nil, err
	}
	options, err := rec.Recipe.Options()
	if err != nil {
		return nil, err
	}
	view, err := Extrapolate(p, options)
	if err != nil {
		return nil, err
	}
	v := &Verification{Problems: []string{}}
	var names []string
	for t := range view.Tensors() {
		s, ok := c.Tensor(t.Name)
		switch {
		case !ok:
			v.Problems = append(v.Problems, fmt.Sprintf("%s: missing", printable(t.Name)))
		case s.DType != t.DType || !slices.Equal(s.Shape, t.Shape):
			v.Problems = append(v.Problems, fmt.Sprintf("%s: is %s, should be %s", printable(t.Name), describe(s), describe(t)))
		default:
			names = append(names, t.Name)
		}
	}
	for t := range c.Tensors() {
		if _, ok := view.Tensor(t.Name); !ok {
			v.Problems = append(v.Problems, fmt.Sprintf("%s: not a tensor of the result", printable(t.Name)))
		}
	}
	if opt.Sample > 0 && opt.Sample < 1 && len(names) > 0 {
		r := rand.New(rand.NewPCG(opt.Seed, 0))
		r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		names = names[:max(1, int(math.Ceil(opt.Sample*float64(len(names)))))]
	}
	if err := v.compare(ctx, c, view, names, opt.Jobs); err != nil {
		return nil, err
	}
	v.Tensors = len(names)
	return v, v.smallFiles(c, view)
}

// compare computes the named tensors and compares their bytes. The first
// element that differs is named.
func (v *Verification) compare(ctx context.Context, c, view *checkpoint.Checkpoint, names []string, jobs int) error {
	ts := make([]tensor.Tensor, len(names))
	found := make([]difference, len(names))
	var mu sync.Mutex
	for i, n := range names {
		ts[i], _ = view.Tensor(n)
	}
	err := eachBlock(ctx, ts, jobs, func(i int, first int64, n int, b *blockBuffers) error {
		have, _ := c.Tensor(names[i])
		// Sub-byte types count in bits; blocks begin at multiples of 8.
		off := first * int64(ts[i].DType.Bits()) / 8
		size := (first+int64(n))*int64(ts[i].DType.Bits())/8 - off
		x, y := b.a[:size], b.b[:size]
		if err := read(ts[i], x, off); err != nil {
			return err
		}
		if err := read(have, y, off); err != nil {
			return err
		}
		if bytes.Equal(x, y) {
			return nil
		}
		d := differing(x, y, ts[i].DType.Bits())
		d.first += first
		mu.Lock()
		defer mu.Unlock()
		if found[i].count > 0 {
			d.first = min(d.first, found[i].first)
		}
		found[i] = difference{found[i].count + d.count, d.first}
		return nil
	})
	for i, d := range found {
		if d.count > 0 {
			v.Problems = append(v.Problems, fmt.Sprintf("%s: %d of %d elements differ, the first is element %d", printable(names[i]), d.count, ts[i].Elements(), d.first))
		}
	}
	return err
}

// difference is how many elements differ, and the index of the first.
type difference struct{ count, first int64 }

// differing compares stretches of equal length, element by element; of types
// narrower than a byte it counts bytes.
func differing(x, y []byte, bits int) difference {
	var d difference
	w := max(1, bits/8)
	for k := 0; k < len(x); k += w {
		if bytes.Equal(x[k:k+w], y[k:k+w]) {
			continue
		}
		if d.count == 0 {
			d.first = int64(k * 8 / bits)
		}
		d.count++
	}
	return d
}

// smallFiles compares what was copied.
func (v *Verification) smallFiles(c, view *checkpoint.Checkpoint) error {
	want, err := view.SmallFiles()
	if err != nil {
		return err
	}
	for _, name := range want {
		w, err := fs.ReadFile(view.Files(), name)
		if err != nil {
			return fmt.Errorf("expo: %w", err)
		}
		h, err := fs.ReadFile(c.Files(), name)
		switch {
		case err != nil:
			v.Problems = append(v.Problems, fmt.Sprintf("%s: missing", printable(name)))
		case !bytes.Equal(w, h):
			v.Problems = append(v.Problems, fmt.Sprintf("%s: differs from the aligned model's, or what the recipe makes of it", printable(name)))
		}
		v.Files++
	}
	return nil
}
