package torchbin

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"expo/weights/tensor"
)

const (
	// gatherBuffer bounds the bytes that one ReadAt holds of the file at a
	// time. It is what a core's second-level cache takes.
	gatherBuffer = 256 << 10
	// gatherGap is how many bytes it is worth to read in vain to save a read.
	gatherGap = 4 << 10
)

// strided is the data of a tensor that does not lie in one piece: transposed,
// a slice of columns, or expanded. It gathers any stretch of the row-major
// bytes on demand, and keeps nothing between calls.
//
// It is made for reads of a megabyte or so. Of a transposed matrix, a read
// that covers k rows takes the file in pieces of k elements.
type strided struct {
	r     io.ReaderAt
	off   int64 // of element (0, 0, …)
	width int64 // bytes of an element: 1, 2, 4 or 8
	dims  []dim // merged, outermost first, none of one index
	size  int64 // bytes of the row-major tensor
}

// ReadAt is that of io.ReaderAt; n counts the bytes that are good from the
// start of p on.
func (s *strided) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("torchbin: negative offset %d", off)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= s.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > s.size-off
	if short {
		p = p[:s.size-off]
	}
	g := gather{r: s.r, width: s.width}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		first, skip := at/s.width, at%s.width
		if skip != 0 || int64(len(p)-n) < s.width {
			// An end of p cuts through this element.
			var b [8]byte
			element := b[:s.width]
			from, _ := s.box(first, 1)
			if err := g.read(element, from, nil); err != nil {
				return n, err
			}
			n += copy(p[n:], element[skip:])
			continue
		}
		from, axes := s.box(first, int64(len(p)-n)/s.width)
		c := s.width
		for _, a := range axes {
			c *= a.n
		}
		if err := g.read(p[n:n+int(c)], from, axes); err != nil {
			return n, err
		}
		n += int(c)
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// An axis is one dimension of a box of elements: n indices, which lie from
// elements apart in the source, and to elements apart in the destination.
type axis struct{ n, from, to int64 }

// box cuts the largest box off the start of count elements in row-major order
// from element first on: some indices of one dimension, with all of those
// inside it. It returns where its first element lies in the file, and its
// axes; it fills a destination without gaps.
func (s *strided) box(first, count int64) (off int64, axes []axis) {
	at := int64(0)
	k, block := len(s.dims), int64(1) // the dimensions from k on are whole
	whole := true
	c, outer := int64(1), -1
	rest := first
	for i, d := range slices.Backward(s.dims) {
		index := rest % d.n
		rest /= d.n
		at += index * d.stride
		switch {
		case !whole:
		case index == 0 && d.n <= count/block:
			k, block = i, block*d.n
		default:
			whole = false
			c, outer = min(d.n-index, count/block), i
		}
	}
	axes = make([]axis, 0, len(s.dims)-k+1)
	if outer >= 0 {
		axes = append(axes, axis{c, s.dims[outer].stride, block})
	}
	for _, d := range s.dims[k:] {
		block /= d.n
		axes = append(axes, axis{d.n, d.stride, block})
	}
	return s.off + at*s.width, axes
}

// gather reads boxes of elements, of width bytes each.
type gather struct {
	r     io.ReaderAt
	width int64
	buf   []byte
}

// read fills dst with the box of axes whose first element lies at off.
//
// It reads a piece of the file at once as far as the gaps in it are small, and
// several pieces into the buffer before it sorts the elements into dst, so
// that neither the file is read element by element where there is a choice,
// nor memory written all over.
func (g *gather) read(dst []byte, off int64, axes []axis) error {
	w := g.width
	moving := make([]axis, 0, len(axes)) // in the file, the widest first
	var still []axis                     // repeat the same elements
	for _, a := range axes {
		switch {
		case a.n == 1:
		case a.from == 0:
			still = append(still, a)
		default:
			moving = append(moving, a)
		}
	}
	slices.SortStableFunc(moving, func(a, b axis) int { return cmp.Compare(b.from, a.from) })

	// The axes from level on are read in one piece, of span elements.
	level, span := len(moving), int64(1)
	for ; level > 0; level-- {
		a := moving[level-1]
		if (a.from-span)*w > gatherGap || ((a.n-1)*a.from+span)*w > gatherBuffer {
			break
		}
		span += (a.n - 1) * a.from
	}
	// Of the axis above them, as many indices as the buffer takes: in one piece
	// if it is only too long for that, else in a piece each.
	run, joined := axis{1, 0, 0}, false
	group, step := int64(1), span
	if level > 0 {
		run = moving[level-1]
		if joined = (run.from-span)*w <= gatherGap; joined {
			group, step = 1+(gatherBuffer/w-span)/run.from, run.from
		} else {
			group = gatherBuffer / w / span
		}
		group = min(group, run.n)
	}
	if need := w * ((group-1)*step + span); int64(len(g.buf)) < need {
		g.buf = make([]byte, need)
	}
	// What is in the buffer, in the order of dst; of the run as much as it has.
	held := append(slices.Clone(moving[level:]), still...)
	held = append(held, axis{-1, step, run.to})
	slices.SortStableFunc(held, func(a, b axis) int { return cmp.Compare(b.to, a.to) })
	part := slices.IndexFunc(held, func(a axis) bool { return a.n < 0 })

	outer := moving[:max(level-1, 0)]
	index := make([]int64, len(outer))
	for {
		from, to := off, int64(0)
		for i, a := range outer {
			from += index[i] * a.from * w
			to += index[i] * a.to
		}
		for i := int64(0); i < run.n; i += group {
			n := min(group, run.n-i)
			pieces, length := n, span*w
			if joined {
				pieces, length = 1, ((n-1)*step+span)*w
			}
			for j := range pieces {
				if err := tensor.ReadFull(g.r, g.buf[j*length:][:length], from+(i+j)*run.from*w); err != nil {
					return err
				}
			}
			held[part].n = n
			spread(dst[(to+i*run.to)*w:], g.buf, held, w)
		}
		k := len(outer) - 1
		for ; k >= 0; k-- {
			if index[k]++; index[k] < outer[k].n {
				break
			}
			index[k] = 0
		}
		if k < 0 {
			return nil
		}
	}
}

// spread copies elements of w bytes from src to dst along axes, of which the
// last is the innermost loop. There is at least one.
func spread(dst, src []byte, axes []axis, w int64) {
	// The innermost loop is the one that counts: not one over a single element.
	for len(axes) > 1 && axes[len(axes)-1].n == 1 {
		axes = axes[:len(axes)-1]
	}
	a := axes[0]
	if len(axes) > 1 {
		for i := range a.n {
			spread(dst[i*a.to*w:], src[i*a.from*w:], axes[1:], w)
		}
		return
	}
	if a.from == 1 && a.to == 1 {
		copy(dst[:a.n*w], src[:a.n*w])
		return
	}
	from, to := a.from*w, a.to*w
	i, j := int64(0), int64(0)
	le := binary.LittleEndian
	switch w {
	case 1:
		for range a.n {
			dst[j] = src[i]
			i, j = i+from, j+to
		}
	case 2:
		for range a.n {
			le.PutUint16(dst[j:], le.Uint16(src[i:]))
			i, j = i+from, j+to
		}
	case 4:
		for range a.n {
			le.PutUint32(dst[j:], le.Uint32(src[i:]))
			i, j = i+from, j+to
		}
	default:
		for range a.n {
			le.PutUint64(dst[j:], le.Uint64(src[i:]))
			i, j = i+from, j+to
		}
	}
}
