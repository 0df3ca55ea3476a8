// Package tensor says what one named array of a checkpoint is: an element
// type, a shape, and bytes that are read where they lie.
//
// Start at Tensor. Nothing here opens a file: Data is any io.ReaderAt, so a
// tensor may be a stretch of a file, of memory, or a computation over other
// tensors. Bytes are little endian and row-major, as in safetensors.
package tensor

import (
	"fmt"
	"io"

	"expo/internal/kernel"
)

// Tensor is one named array. Shape is outermost first, as in
// (OutFeatures, InFeatures); an empty Shape is a scalar. Data holds Size()
// bytes, little endian, row-major; it may be read by many goroutines at once.
// A Tensor is not changed after it has been made.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  io.ReaderAt
}

// Elements is the number of elements. A Tensor whose shape overflows never
// leaves a reader of this module; for one, Elements panics.
func (t Tensor) Elements() int64 {
	n, err := Elements(t.Shape)
	if err != nil {
		panic(err)
	}
	return n
}

// Size is the number of bytes of Data.
func (t Tensor) Size() int64 {
	n, err := Size(t.DType, t.Shape)
	if err != nil {
		panic(err)
	}
	return n
}

// Section is the n bytes of r from offset off on. Unlike io.NewSectionReader's
// it tells the two ends apart: a read past the end of r (a file that shrank)
// gives io.ErrUnexpectedEOF, one past the end of the section io.EOF.
func Section(r io.ReaderAt, off, n int64) io.ReaderAt {
	if s, ok := r.(*section); ok && off >= 0 && n >= 0 && off <= s.n-n {
		return &section{s.r, s.off + off, n}
	}
	return &section{r, off, n}
}

// Base follows a Section to what it is a section of: byte 0 of r is byte off of
// base. Any other r is its own base. Who knows base may reach the bytes in a way
// of its own, such as by mapping a file.
func Base(r io.ReaderAt) (base io.ReaderAt, off int64) {
	if s, ok := r.(*section); ok {
		return s.r, s.off
	}
	return r, 0
}

type section struct {
	r      io.ReaderAt
	off, n int64
}

func (s *section) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("tensor: negative offset %d", off)
	}
	if off >= s.n {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	short := int64(len(p)) > s.n-off
	if short {
		p = p[:s.n-off]
	}
	n, err := s.r.ReadAt(p, s.off+off)
	switch {
	case n == len(p) && short:
		return n, io.EOF
	case n == len(p):
		return n, nil
	case err == io.EOF:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// Bytes is Data over memory.
type Bytes []byte

func (b Bytes) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("tensor: negative offset %d", off)
	}
	if off >= int64(len(b)) && len(p) > 0 {
		return 0, io.EOF
	}
	n := copy(p, b[min(off, int64(len(b))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// ReadFull reads exactly len(p) bytes of r from off on. Unlike a bare
// ReadAt it never reports io.EOF together with a full read.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// ReadFloat32 fills dst with the elements [first, first+len(dst)) of t,
// converted to float32 by kernel.Widen: exact for every format but F64, which
// is rounded to nearest even. It fails for types that are not Float.
func (t Tensor) ReadFloat32(dst []float32, first int64) error {
	if !t.DType.Float() {
		return fmt.Errorf("tensor: %s: %v has no float32 value", t.Name, t.DType)
	}
	w := int64(t.DType.Bits() / 8)
	b := make([]byte, int64(len(dst))*w)
	if err := ReadFull(t.Data, b, first*w); err != nil {
		return fmt.Errorf("tensor: %s: %w", t.Name, err)
	}
	kernel.Widen(dst, b, t.DType.Format())
	return nil
}
