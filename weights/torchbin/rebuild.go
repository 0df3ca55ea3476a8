package torchbin

import (
	"fmt"
	"io"
	"slices"

	"expo/weights/tensor"
)

// maxDims bounds the dimensions of one tensor. torch's own operations stop at
// 64, weights of models at 6; few of them keep a layout small.
const maxDims = 16

// A layout is what a tensor's call comes to: where its elements lie.
type layout struct {
	dtype tensor.DType
	shape []int // as in the file; never changed
	size  int64 // bytes of the tensor, once contiguous
	off   int64 // of element (0, 0, …) in the file
	dims  []dim // the same as shape in fewest dimensions, see merge
}

// A dim is one dimension of a tensor: n indices, stride elements apart.
type dim struct{ n, stride int64 }

// data is the reader of the tensor's bytes, row-major. For a tensor that lies
// in one piece it is that section of the file.
func (l *layout) data(r io.ReaderAt) io.ReaderAt {
	switch {
	case l.size == 0:
		return tensor.Bytes(nil)
	case len(l.dims) == 0, len(l.dims) == 1 && l.dims[0].stride == 1:
		return tensor.Section(r, l.off, l.size)
	}
	return &strided{r: r, off: l.off, width: int64(l.dtype.Bits() / 8), dims: l.dims, size: l.size}
}

// resolve checks the call against the file, once.
func (p *pending) resolve(locate locator) (*layout, error) {
	if p.done == nil {
		l, err := p.rebuild(locate)
		if err != nil {
			return nil, err
		}
		p.done = l
	}
	return p.done, nil
}

func (p *pending) fail(format string, args ...any) error {
	return &FormatError{Entry: p.entry, Offset: p.offset, Msg: fmt.Sprintf(format, args...)}
}

// rebuild reads the arguments of torch's _rebuild functions: (storage, offset,
// size, stride), to which _v2 adds requires_grad, hooks and perhaps metadata,
// and _v3 requires_grad, hooks, dtype and perhaps metadata.
func (p *pending) rebuild(locate locator) (*layout, error) {
	if p.fn.refuse != "" {
		return nil, p.fail("%s (%v)", p.fn.refuse, p.fn)
	}
	s, ok := p.args[0].(*storage)
	if !ok {
		return nil, p.fail("is made from %s, want a storage", describe(p.args[0]))
	}
	if s.class.refuse != "" {
		return nil, p.fail("%s (%v)", s.class.refuse, s.class)
	}
	l := &layout{}
	metadata := p.args[min(len(p.args), 6):]
	if p.fn.name == "_rebuild_tensor_v3" {
		g, ok := p.args[6].(*global)
		if !ok || g.kind != kindDType {
			return nil, p.fail("has %s for a dtype", describe(p.args[6]))
		}
		if g.refuse != "" {
			return nil, p.fail("%s (%v)", g.refuse, g)
		}
		l.dtype, metadata = g.dtype, p.args[7:]
	} else {
		d, err := s.dtypeOf()
		if err != nil {
			return nil, p.fail("%v", err)
		}
		l.dtype = d
	}
	if len(metadata) > 0 {
		if err := p.metadata(metadata[0]); err != nil {
			return nil, err
		}
	}
	offset, ok := p.args[1].(int64)
	if !ok || offset < 0 {
		return nil, p.fail("its offset in the storage is not an integer from 0 on")
	}
	size, err := p.integers("size", p.args[2])
	if err != nil {
		return nil, err
	}
	stride, err := p.integers("stride", p.args[3])
	if err != nil {
		return nil, err
	}
	if len(size) != len(stride) {
		return nil, p.fail("has %d dimensions and %d strides", len(size), len(stride))
	}
	l.shape = make([]int, len(size))
	for i, n := range size {
		if l.shape[i] = int(n); int64(l.shape[i]) != n {
			return nil, p.fail("its dimension %d has %d indices", i, n)
		}
	}
	if l.size, err = tensor.Size(l.dtype, l.shape); err != nil {
		return nil, p.fail("its shape does not count: %v", err)
	}
	if s.meta {
		return nil, p.fail("is on the meta device: the file does not have its values")
	}
	at, err := s.within(locate)
	if err != nil {
		return nil, err
	}
	w := int64(l.dtype.Bits() / 8)
	elements := at.n / w
	if l.size == 0 {
		return l, nil
	}
	if !inside(offset, size, stride, elements) {
		return nil, p.fail("reaches past the %d elements of its storage (offset %d, size %v, stride %v)", elements, offset, size, stride)
	}
	l.off = at.off + offset*w
	l.dims = merge(size, stride)
	return l, nil
}

// metadata checks that the bytes are the values: that the tensor is not the
// negative or the conjugate of what is stored, and nothing else that is not
// known here.
func (p *pending) metadata(v any) error {
	if v == nil {
		return nil
	}
	d, ok := v.(*dict)
	if !ok {
		return p.fail("its metadata is %s, want a dict", describe(v))
	}
	for _, it := range d.items {
		key, _ := it.key.(string)
		switch set, isBool := it.value.(bool); {
		case key != "neg" && key != "conj":
			return p.fail("has the metadata %s, which could change its values", printable(key))
		case !isBool || set:
			return p.fail("is marked as %s: the values are not the bytes that are stored; save its resolve_%s()", key, key)
		}
	}
	return nil
}

// integers reads a tuple of integers from 0 on.
func (p *pending) integers(what string, v any) ([]int64, error) {
	t, ok := v.(tuple)
	if !ok {
		return nil, p.fail("its %s is %s, want a tuple", what, describe(v))
	}
	if len(t) > maxDims {
		return nil, p.fail("its %s has %d dimensions, want at most %d", what, len(t), maxDims)
	}
	out := make([]int64, len(t))
	for i, v := range t {
		n, ok := v.(int64)
		if !ok {
			return nil, p.fail("its %s has %s in it", what, describe(v))
		}
		if n < 0 {
			return nil, p.fail("its %s has %d in it", what, n)
		}
		out[i] = n
	}
	return out, nil
}

// inside reports whether every element of a tensor, of which no dimension is
// empty, lies within a storage of the given number of elements. Strides are
// not negative, so that the last element is the farthest.
func inside(offset int64, size, stride []int64, elements int64) bool {
	room := elements - 1 - offset
	for i, n := range size {
		if room < 0 {
			return false
		}
		if stride[i] > 0 && n-1 > room/stride[i] {
			return false
		}
		room -= (n - 1) * stride[i]
	}
	return room >= 0
}

// merge writes a shape in fewest dimensions: without those of one index, and
// with neighbours joined that are one run of equal steps. What is left of a
// contiguous tensor is at most one dimension of stride 1.
func merge(size, stride []int64) []dim {
	var dims []dim
	for i, n := range slices.Backward(size) {
		if n == 1 {
			continue
		}
		if k := len(dims) - 1; k >= 0 && stride[i] == dims[k].n*dims[k].stride {
			dims[k].n *= n
			continue
		}
		dims = append(dims, dim{n, stride[i]})
	}
	slices.Reverse(dims)
	return dims
}
