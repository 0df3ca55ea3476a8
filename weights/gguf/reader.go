// Package gguf reads and writes files in the GGUF format: typed metadata, the
// descriptions of tensors, and their bytes.
//
// Start at NewReader, or at Write for a new file. NewReader does not open a file: like archive/zip, a Reader works
// on an io.ReaderAt and a size. It holds the metadata and never the data; a
// tensor's bytes are read where they lie, when asked for.
//
// Foreign bytes make an error, not a panic, and a header costs at most a small
// multiple of its own length in memory; one of more than 256 MiB is refused. Of a
// file that NewReader accepts, every tensor lies inside the file and none overlaps
// another; keys and names of tensors are valid UTF-8 and not empty, and none
// stands twice. Holes between tensors and bytes after the last are allowed.
//
// The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md,
// little endian, versions 2 and 3. The types of tensors are those of
// https://github.com/ggml-org/ggml/blob/master/include/ggml.h (version 0.25). What
// is in a block of a quantized type is not looked into here.
package gguf

import (
	"cmp"
	"io"
	"iter"
	"slices"

	"expo/weights/tensor"
)

// A Reader is the contents of one file. It may be used by many goroutines at
// once.
type Reader struct {
	r         io.ReaderAt
	version   int
	metadata  Metadata
	alignment int64
	data      int64 // where the data begins
	entries   []entry
}

// entry is what a file says about one tensor.
type entry struct {
	name  string
	typ   Type
	shape []int
	begin int64 // of the data, from where all data begins
	size  int64
	at    int64 // where the entry stands in the file
}

// Tensor is one named array of the file.
type Tensor struct {
	Name string
	Type Type

	// Shape is outermost first, (out, in) for the weight of a linear map: the
	// file has it the other way round. It must not be changed.
	Shape []int

	// Data has Size bytes: rows, the last dimension, one after another, each of
	// whole blocks of the type.
	Data io.ReaderAt
	Size int64
}

// Plain is t as a tensor of numbers, if its type is one of F32, F16, BF16, F64,
// I8, I16, I32 and I64; quantized types are not.
func (t Tensor) Plain() (tensor.Tensor, bool) {
	d := t.Type.DType()
	if d == tensor.Invalid {
		return tensor.Tensor{}, false
	}
	return tensor.Tensor{Name: t.Name, DType: d, Shape: t.Shape, Data: t.Data}, true
}

// NewReader reads the metadata and the descriptions of the tensors of a file of
// size bytes and checks them. The error is a *FormatError, or one that wraps an
// error of r.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	s := &scanner{r: r, size: max(0, min(size, maxHeader)), cut: size > maxHeader, alignment: 32}
	version, err := s.preamble()
	if err != nil {
		return nil, err
	}
	f := &Reader{r: r, version: version}
	tensors, err := s.count("tensors", minTensor)
	if err != nil {
		return nil, err
	}
	keys, err := s.count("keys", minPair)
	if err != nil {
		return nil, err
	}
	if err := s.metadata(&f.metadata, keys); err != nil {
		return nil, err
	}
	if f.entries, err = s.tensors(tensors); err != nil {
		return nil, err
	}
	f.alignment = s.alignment
	if f.data = roundUp(s.pos(), f.alignment); f.data > size {
		if len(f.entries) > 0 {
			return nil, fileError(s.pos(), "the data begins at %d, the file has %d bytes: download it again", f.data, size)
		}
		f.data = size // a file of metadata need not be padded
	}
	if err := f.checkLayout(size); err != nil {
		return nil, err
	}
	return f, nil
}

// roundUp is n, or the next multiple of the power of two a.
func roundUp(n, a int64) int64 { return (n + a - 1) &^ (a - 1) }

// checkLayout fails unless the tensors are where they may be in a file of size
// bytes.
func (f *Reader) checkLayout(size int64) error {
	have := size - f.data
	for i := range f.entries {
		e := &f.entries[i]
		switch {
		case e.begin%f.alignment != 0:
			return tensorError(e.name, e.at, "begins at %d, which is not a multiple of the alignment, %d", e.begin, f.alignment)
		case e.begin > have || e.size > have-e.begin:
			return tensorError(e.name, e.at, "has %d bytes from %d on, the data has %d: download the file again", e.size, e.begin, have)
		}
	}
	order := make([]*entry, 0, len(f.entries))
	for i := range f.entries {
		if f.entries[i].size > 0 {
			order = append(order, &f.entries[i])
		}
	}
	slices.SortStableFunc(order, func(a, b *entry) int { return cmp.Compare(a.begin, b.begin) })
	for i := 1; i < len(order); i++ {
		a, b := order[i-1], order[i]
		if b.begin < a.begin+a.size {
			return tensorError(b.name, b.at, "begins at %d, where %s still has data, up to %d", b.begin, printable(a.name), a.begin+a.size)
		}
	}
	return nil
}

// Version is that of the format, 2 or 3.
func (f *Reader) Version() int { return f.version }

// Metadata is what the file says about the model.
func (f *Reader) Metadata() *Metadata { return &f.metadata }

// Len is the number of tensors.
func (f *Reader) Len() int { return len(f.entries) }

// DataOffset is where the data of the tensors begins in the file.
func (f *Reader) DataOffset() int64 { return f.data }

// Tensors yields the tensors in the order in which the file describes them, which
// is, in files that llama.cpp reads, also that of their data. Data is a
// tensor.Section of the Reader's io.ReaderAt.
func (f *Reader) Tensors() iter.Seq[Tensor] {
	return func(yield func(Tensor) bool) {
		for i := range f.entries {
			if !yield(f.tensor(&f.entries[i])) {
				return
			}
		}
	}
}

// Tensor is the tensor of that name.
func (f *Reader) Tensor(name string) (t Tensor, ok bool) {
	i := slices.IndexFunc(f.entries, func(e entry) bool { return e.name == name })
	if i < 0 {
		return Tensor{}, false
	}
	return f.tensor(&f.entries[i]), true
}

func (f *Reader) tensor(e *entry) Tensor {
	return Tensor{Name: e.name, Type: e.typ, Shape: e.shape, Data: tensor.Section(f.r, f.data+e.begin, e.size), Size: e.size}
}
