package safetensors

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"expo/weights/tensor"
)

// A Layout is a file before it is written: its header, and where each
// tensor's bytes go. Whoever writes Header at 0 and the Size() bytes of every
// tensor at its Offset, in any order, has a complete file of Size bytes.
type Layout struct {
	header  []byte
	offsets []int64
	size    int64
}

// NewLayout lays out a file with the tensors ts in the given order, which is
// the order of the header's keys and that of the data. Data is not read and
// may be nil. A nil metadata is left out, an empty one is written; its keys
// are sorted. The header is compact JSON, padded with spaces so that the data
// begins at a multiple of 8.
//
// It fails on two tensors of one name, on a tensor named "__metadata__", on
// names and metadata that are not valid UTF-8, on a type or shape that has no
// size, on a file of 2⁶³ bytes or more, and on a header longer than the
// 100,000,000 bytes that readers accept.
func NewLayout(ts []tensor.Tensor, metadata map[string]string) (*Layout, error) {
	b := make([]byte, lengthSize, lengthSize+len(ts)*96+64)
	b = append(b, '{')
	if metadata != nil {
		var err error
		if b, err = appendMetadata(b, metadata); err != nil {
			return nil, err
		}
	}
	l := &Layout{offsets: make([]int64, len(ts))}
	seen := make(map[string]struct{}, len(ts))
	end := int64(0)
	for i := range ts {
		t := &ts[i]
		size, err := checkTensor(t)
		if err != nil {
			return nil, err
		}
		if _, ok := seen[t.Name]; ok {
			return nil, fmt.Errorf("safetensors: %s: two tensors of this name", printable(t.Name))
		}
		seen[t.Name] = struct{}{}
		// Room for the longest header is kept, so no offset of a file can overflow.
		if size > math.MaxInt64-lengthSize-maxHeader-end {
			return nil, fmt.Errorf("safetensors: %s: the file would have more bytes than an int64 counts", printable(t.Name))
		}
		begin := end
		end += size
		l.offsets[i] = begin
		if len(b) > lengthSize+1 {
			b = append(b, ',')
		}
		b = appendEntry(b, t, begin, end)
		if len(b) > lengthSize+maxHeader {
			break // refused below, without building the rest
		}
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	n := len(b) - lengthSize
	if n > maxHeader {
		return nil, fmt.Errorf("safetensors: the header of %d tensors would be longer than the %d bytes that are allowed", len(ts), maxHeader)
	}
	binary.LittleEndian.PutUint64(b, uint64(n))
	for i := range l.offsets {
		l.offsets[i] += int64(len(b))
	}
	l.header = b
	l.size = int64(len(b)) + end
	return l, nil
}

// checkTensor is the size in bytes of t, if t can stand in a header.
func checkTensor(t *tensor.Tensor) (int64, error) {
	switch {
	case !utf8.ValidString(t.Name):
		return 0, fmt.Errorf("safetensors: %s: the name is not valid UTF-8", printable(t.Name))
	case t.Name == metadataKey:
		return 0, fmt.Errorf("safetensors: a tensor cannot be named %s", metadataKey)
	case t.DType.Bits() == 0:
		return 0, fmt.Errorf("safetensors: %s: dtype %v cannot be written", printable(t.Name), t.DType)
	}
	size, err := tensor.Size(t.DType, t.Shape)
	if err != nil {
		return 0, fmt.Errorf("safetensors: %s: %s", printable(t.Name), sizeText(err, t.Shape))
	}
	return size, nil
}

func appendMetadata(b []byte, metadata map[string]string) ([]byte, error) {
	b = appendString(b, metadataKey)
	b = append(b, ":{"...)
	for i, key := range slices.Sorted(maps.Keys(metadata)) {
		value := metadata[key]
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, fmt.Errorf("safetensors: metadata %s: not valid UTF-8", printable(key))
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, key)
		b = append(b, ':')
		b = appendString(b, value)
		if len(b) > lengthSize+maxHeader {
			return nil, errors.New("safetensors: the metadata alone exceeds the length of a header")
		}
	}
	return append(b, '}'), nil
}

func appendEntry(b []byte, t *tensor.Tensor, begin, end int64) []byte {
	b = appendString(b, t.Name)
	b = append(b, `:{"dtype":`...)
	b = appendString(b, t.DType.String())
	b = append(b, `,"shape":[`...)
	for i, dim := range t.Shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(dim), 10)
	}
	b = append(b, `],"data_offsets":[`...)
	b = strconv.AppendInt(b, begin, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, end, 10)
	return append(b, "]}"...)
}

// appendString writes s, valid UTF-8, as serde_json does: only the quote, the
// backslash and the control characters below U+0020 are escaped, those
// without a letter of their own with lower-case hexadecimal digits.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			const hex = "0123456789abcdef"
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// Header is the beginning of the file: the length of the JSON text in 8
// bytes, little endian, and the text. It must not be changed.
func (l *Layout) Header() []byte { return l.header }

// Offset is where in the file the data of tensor i begins, in bytes.
func (l *Layout) Offset(i int) int64 { return l.offsets[i] }

// Size is the length of the whole file in bytes.
func (l *Layout) Size() int64 { return l.size }

// Sort puts tensors in the order of the official writer: by type, in the
// order of the constants of tensor.DType, then by the bytes of the name.
func Sort(ts []tensor.Tensor) {
	slices.SortStableFunc(ts, func(a, b tensor.Tensor) int {
		return cmp.Or(cmp.Compare(a.DType, b.DType), cmp.Compare(a.Name, b.Name))
	})
}

// Write writes a whole file to w, front to back, with the tensors in the
// given order; see NewLayout for what it refuses. It reads the data of one
// tensor after another through a buffer of at most 1 MiB.
func Write(w io.Writer, ts []tensor.Tensor, metadata map[string]string) error {
	l, err := NewLayout(ts, metadata)
	if err != nil {
		return err
	}
	if _, err := w.Write(l.Header()); err != nil {
		return fmt.Errorf("safetensors: writing the header: %w", err)
	}
	var buf []byte
	for _, t := range ts {
		size := t.Size()
		if size > 0 && t.Data == nil {
			return fmt.Errorf("safetensors: %s: has no data", printable(t.Name))
		}
		if want := min(size, 1<<20); int64(len(buf)) < want {
			buf = make([]byte, want)
		}
		for off := int64(0); off < size; {
			part := buf[:min(size-off, int64(len(buf)))]
			if err := tensor.ReadFull(t.Data, part, off); err != nil {
				return fmt.Errorf("safetensors: %s: reading: %w", printable(t.Name), err)
			}
			if _, err := w.Write(part); err != nil {
				return fmt.Errorf("safetensors: %s: writing: %w", printable(t.Name), err)
			}
			off += int64(len(part))
		}
	}
	return nil
}
