// Package safetensors reads and writes one file in the safetensors format: a
// JSON header that names tensors, followed by their bytes.
//
// Start at NewReader to read and at Write, or NewLayout for large files, to
// write. Neither opens a file: like archive/zip, a Reader works on an
// io.ReaderAt and a size.
//
// A Reader holds the header and never the data; a tensor's bytes are read
// where they lie, when asked for. Foreign bytes make an error, not a panic,
// and a header costs at most a small multiple of its own length in memory.
// Every Reader describes a file that is covered exactly: the tensors follow
// each other without hole or overlap from the end of the header to the end
// of the file.
//
// The format is that of https://github.com/huggingface/safetensors (section
// Format of its README), as release 0.8.0 reads and writes it. Its reader
// accepts a few files that this one refuses because their meaning is in doubt
// or they are nobody's output: two tensors of one name, the same key twice in
// an entry or in the metadata, an entry written as an array, a dtype written
// as an object, and an empty tensor whose other dimensions overflow an int64.
//
// Files written here equal those of its save_file byte for byte, when the
// tensors are in the order of Sort. (With two or more keys in the metadata
// that program's order changes from run to run; here keys are sorted.)
package safetensors

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"expo/weights/tensor"
)

const (
	// lengthSize is the size of the number a file begins with, the length of
	// the header.
	lengthSize = 8

	// maxHeader is the longest header that the official reader accepts.
	maxHeader = 100_000_000
)

// A Reader is the contents of one file. It may be used by many goroutines at
// once.
type Reader struct {
	r        io.ReaderAt
	data     int64   // where the data begins
	entries  []entry // in the order of the data
	metadata map[string]string
}

// NewReader reads the header of a file of size bytes and checks it, together
// with size, against the rules of the format. The error is a *FormatError, or
// one that wraps an error of r.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	start := make([]byte, max(0, min(size, 64)))
	if err := tensor.ReadFull(r, start, 0); err != nil {
		return nil, fmt.Errorf("safetensors: reading the beginning of the file: %w", err)
	}
	n, err := headerLength(start, size)
	if err != nil {
		return nil, err
	}
	src, err := readString(r, lengthSize, n)
	if err != nil {
		return nil, fmt.Errorf("safetensors: reading the header: %w", err)
	}
	if !utf8.ValidString(src) {
		off := int64(lengthSize + len(validPrefix(src)))
		return nil, fileError(off, "the header is not valid UTF-8 (byte %d)", off)
	}
	entries, metadata, err := parseHeader(src)
	if err != nil {
		return nil, err
	}
	byPosition := func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end), cmp.Compare(a.index, b.index))
	}
	if !slices.IsSortedFunc(entries, byPosition) {
		slices.SortFunc(entries, byPosition)
	}
	f := &Reader{r: r, data: lengthSize + n, entries: entries, metadata: metadata}
	if err := f.checkCover(size); err != nil {
		return nil, err
	}
	return f, nil
}

// headerLength is the length of the header of a file that begins with start.
func headerLength(start []byte, size int64) (int64, error) {
	if size <= 0 {
		return 0, fileError(0, "the file is empty: download it again")
	}
	var n uint64
	if size >= lengthSize {
		n = binary.LittleEndian.Uint64(start)
		switch {
		case n == 0:
			return 0, fileError(0, "the length of the header is 0: the file was never filled, download it again")
		case n <= maxHeader && int64(n) <= size-lengthSize:
			return int64(n), nil
		}
	}
	// Only now: the length of a good header may spell anything.
	if msg := lookalike(start); msg != "" {
		return 0, fileError(0, "%s", msg)
	}
	switch {
	case size < lengthSize:
		return 0, fileError(0, "the file has %d bytes, the length of a header alone takes %d: download it again", size, lengthSize)
	case n > maxHeader:
		return 0, fileError(0, "the header would be %d bytes long, more than the %d that are allowed: not a safetensors file", n, maxHeader)
	}
	return 0, fileError(0, "the file has %d bytes, its header ends at %d: download it again", size, lengthSize+n)
}

// validPrefix is the part of s before its first byte that is not valid UTF-8.
func validPrefix(s string) string {
	for i, c := range s {
		if c != utf8.RuneError {
			continue
		}
		if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
			return s[:i]
		}
	}
	return s
}

// readString is n bytes of r from offset off on, read without holding them
// twice.
func readString(r io.ReaderAt, off, n int64) (string, error) {
	var b strings.Builder
	b.Grow(int(n))
	buf := make([]byte, min(n, 1<<20))
	for n > 0 {
		part := buf[:min(n, int64(len(buf)))]
		if err := tensor.ReadFull(r, part, off); err != nil {
			return "", err
		}
		b.Write(part)
		off, n = off+int64(len(part)), n-int64(len(part))
	}
	return b.String(), nil
}

// checkCover fails unless the tensors, which are sorted, cover the data of a
// file of size bytes exactly.
func (f *Reader) checkCover(size int64) error {
	want, last := int64(0), ""
	for i := range f.entries {
		e := &f.entries[i]
		// Where the header says the data is, which may be beyond any file.
		at := f.data + min(e.begin, math.MaxInt64-f.data)
		switch {
		case e.begin == want:
		case i == 0:
			return tensorError(e.name, at, "begins at %d, want 0: a hole of %d bytes before it", e.begin, e.begin)
		case e.begin > want:
			return tensorError(e.name, at, "begins at %d, want %d: a hole of %d bytes after %s",
				e.begin, want, e.begin-want, printable(last))
		default:
			return tensorError(e.name, at, "begins at %d, want %d: overlaps %s",
				e.begin, want, printable(last))
		}
		want, last = e.end, e.name
	}
	have := size - f.data
	switch {
	case want > have:
		i, _ := slices.BinarySearchFunc(f.entries, have, func(e entry, have int64) int {
			if e.end > have {
				return 1
			}
			return -1
		})
		e := &f.entries[i]
		return tensorError(e.name, f.data+min(e.begin, math.MaxInt64-f.data),
			"ends at %d, the data at %d: the file has %d bytes, the header needs %d: download it again",
			e.end, have, size, uint64(want)+uint64(f.data))
	case want < have && len(f.entries) == 0:
		return fileError(f.data, "the header names no tensor, but %d bytes follow it", have)
	case want < have:
		return tensorError(last, f.data+want, "ends at %d, the data at %d: %d bytes belong to no tensor",
			want, have, have-want)
	}
	return nil
}

// Tensors yields the tensors in the order in which their data lies in the
// file; empty ones come before the tensor that begins where they stand, in
// the order of the header. Data is a tensor.Section of the Reader's
// io.ReaderAt. Shape must not be changed.
func (f *Reader) Tensors() iter.Seq[tensor.Tensor] {
	return func(yield func(tensor.Tensor) bool) {
		for i := range f.entries {
			e := &f.entries[i]
			if !yield(tensor.Tensor{
				Name:  e.name,
				DType: e.dtype,
				Shape: e.shape,
				Data:  tensor.Section(f.r, f.data+e.begin, e.size()),
			}) {
				return
			}
		}
	}
}

// Len is the number of tensors.
func (f *Reader) Len() int { return len(f.entries) }

// Metadata is a copy of the header's __metadata__: nil when there is none.
func (f *Reader) Metadata() map[string]string { return maps.Clone(f.metadata) }

// HeaderSize is the offset at which the data begins, in bytes: the header's
// length and the 8 bytes before it that say it.
func (f *Reader) HeaderSize() int64 { return f.data }
