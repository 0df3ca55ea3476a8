package gguf

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"expo/weights/tensor"
)

// A Pair is a key of the metadata and its value, of one of the types that
// [Metadata.Value] gives.
type Pair struct {
	Key   string
	Value any
}

// A Layout is a file before it is written: its beginning, and where each
// tensor's bytes go. Whoever writes Header at 0, the data of every tensor at its
// Offset, in any order, and zeros in between has a complete file of Size bytes.
type Layout struct {
	header  []byte
	offsets []int64
	sizes   []int64
	size    int64
}

// maxWritten is the longest name of a tensor that ggml keeps: its arrays have 64
// bytes, of which the last is 0.
const maxWritten = maxName - 1

// NewLayout lays out a file of version 3 with the metadata and the tensors in the
// given order, which is also that of the data. Data and Size of the tensors are
// not looked at. The data of each begins at a multiple of general.alignment, 32
// unless metadata says otherwise, and the file ends at one.
//
// It fails on a key or a name that is empty, too long, not UTF-8, or there twice,
// on a value of another type, on a type or a shape that has no size, on rows that
// do not fill whole blocks, and on more than four dimensions.
func NewLayout(metadata []Pair, ts []Tensor) (*Layout, error) {
	alignment, err := checkPairs(metadata)
	if err != nil {
		return nil, err
	}
	l := &Layout{}
	at := int64(0)
	names := make(map[string]struct{}, len(ts))
	for _, t := range ts {
		if err := checkName("the name of a tensor", t.Name, maxWritten, names); err != nil {
			return nil, err
		}
		size, err := Size(t.Type, t.Shape)
		if err != nil {
			return nil, &FormatError{Tensor: t.Name, Msg: err.Error()}
		}
		if size > math.MaxInt64/2-at-alignment {
			return nil, &FormatError{Tensor: t.Name, Msg: "the file would be larger than any can be"}
		}
		l.offsets = append(l.offsets, at)
		l.sizes = append(l.sizes, size)
		at = roundUp(at+size, alignment)
	}

	le := binary.LittleEndian
	b := append([]byte(nil), "GGUF"...)
	b = le.AppendUint32(b, 3)
	b = le.AppendUint64(b, uint64(len(ts)))
	b = le.AppendUint64(b, uint64(len(metadata)))
	for _, p := range metadata {
		b = appendString(b, p.Key)
		b = appendValue(b, p.Value)
	}
	for i, t := range ts {
		b = appendString(b, t.Name)
		b = le.AppendUint32(b, uint32(len(t.Shape)))
		for _, d := range slices.Backward(t.Shape) {
			b = le.AppendUint64(b, uint64(d))
		}
		b = le.AppendUint32(b, uint32(t.Type))
		b = le.AppendUint64(b, uint64(l.offsets[i]))
	}
	b = append(b, make([]byte, roundUp(int64(len(b)), alignment)-int64(len(b)))...)
	if len(b) > maxHeader {
		return nil, fileError(0, "the metadata take %d bytes, more than the %d that readers accept", len(b), maxHeader)
	}
	for i := range l.offsets {
		l.offsets[i] += int64(len(b))
	}
	l.header, l.size = b, int64(len(b))+at
	return l, nil
}

// Header is the beginning of the file, up to the data. It must not be changed.
func (l *Layout) Header() []byte { return l.header }

// Offset is where in the file the data of tensor i begins, in bytes.
func (l *Layout) Offset(i int) int64 { return l.offsets[i] }

// Size is the length of the whole file in bytes.
func (l *Layout) Size() int64 { return l.size }

// Size is the number of bytes of a tensor of the given type and shape. It fails
// on a type that is not known, on more than four dimensions or negative ones, on
// rows that do not fill whole blocks, and where the product overflows.
func Size(t Type, shape []int) (int64, error) {
	if !t.Known() {
		return 0, fmt.Errorf("type %d is not known", uint32(t))
	}
	if len(shape) > maxDims {
		return 0, fmt.Errorf("has %d dimensions, more than %d", len(shape), maxDims)
	}
	n, err := tensor.Elements(shape)
	if err != nil {
		return 0, fmt.Errorf("shape %v has no number of elements", shape)
	}
	row := 1
	if len(shape) > 0 {
		row = shape[len(shape)-1]
	}
	size, bytes := int64(t.BlockSize()), int64(t.BlockBytes())
	if int64(row)%size != 0 {
		return 0, fmt.Errorf("rows of %d elements do not fill blocks of %v, which hold %d", row, t, size)
	}
	if n/size > math.MaxInt64/bytes {
		return 0, fmt.Errorf("%v of shape %v has more bytes than an int64 counts", t, shape)
	}
	return n / size * bytes, nil
}

// checkPairs checks the metadata and finds the alignment.
func checkPairs(pairs []Pair) (alignment int64, err error) {
	alignment = 32
	keys := make(map[string]struct{}, len(pairs))
	for _, p := range pairs {
		if err := checkName("a key", p.Key, maxKey, keys); err != nil {
			return 0, err
		}
		if !writable(p.Value, 0) {
			return 0, &FormatError{Key: p.Key, Msg: fmt.Sprintf("a value of type %T cannot be written", p.Value)}
		}
		if p.Key == alignmentKey {
			a, ok := p.Value.(uint32)
			if !ok || a == 0 || a&(a-1) != 0 {
				return 0, &FormatError{Key: p.Key, Msg: fmt.Sprintf("%v is not a power of two in a uint32", p.Value)}
			}
			alignment = int64(a)
		}
	}
	return alignment, nil
}

func checkName(what, name string, most int, seen map[string]struct{}) error {
	switch _, twice := seen[name]; {
	case name == "":
		return fileError(0, "%s is empty", what)
	case len(name) > most:
		return fileError(0, "%s has %d bytes, more than the %d that are allowed: %s", what, len(name), most, printable(name))
	case !utf8.ValidString(name):
		return fileError(0, "%s is not valid UTF-8: %s", what, printable(name))
	case twice:
		return fileError(0, "%s stands twice: %s", what, printable(name))
	}
	seen[name] = struct{}{}
	return nil
}

// Write writes a whole file to w, front to back; see [NewLayout] for what it
// refuses. It reads the data of one tensor after another through a buffer of 1 MiB
// at most. Each must have the size that its type and shape make.
func Write(w io.Writer, metadata []Pair, ts []Tensor) error {
	l, err := NewLayout(metadata, ts)
	if err != nil {
		return err
	}
	if _, err := w.Write(l.header); err != nil {
		return err
	}
	at := int64(len(l.header))
	buf := make([]byte, 1<<20)
	pad := func(to int64) error {
		for at < to {
			n := min(to-at, int64(len(buf)))
			clear(buf[:n])
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			at += n
		}
		return nil
	}
	for i, t := range ts {
		if err := pad(l.offsets[i]); err != nil {
			return err
		}
		for done := int64(0); done < l.sizes[i]; {
			n := min(l.sizes[i]-done, int64(len(buf)))
			if err := tensor.ReadFull(t.Data, buf[:n], done); err != nil {
				return fmt.Errorf("gguf: reading %s: %w", printable(t.Name), err)
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			done, at = done+n, at+n
		}
	}
	return pad(l.size)
}
