package gguf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"expo/weights/tensor"
)

// The fewest bytes that a string, a pair of the metadata and the description of a
// tensor can have: what bounds their number by the size of the file.
const (
	minString = 8
	minPair   = minString + 4 + 1
	minTensor = minString + 4 + 4 + 8
)

const (
	maxKey  = 65535 // the longest key of the format, in bytes
	maxName = 64    // the longest name of a tensor
	maxDims = 4
)

// maxHeader is how long all that lies before the data may be. Vocabularies of
// 256,000 tokens take a tenth of it.
const maxHeader = 256 << 20

// A scanner reads a file from its beginning.
type scanner struct {
	r    io.ReaderAt
	size int64  // of the file, or maxHeader
	cut  bool   // whether the file is longer than size
	buf  []byte // what has been read and not taken
	next int64  // where the file goes on after buf
	mem  []byte // where buf lies

	alignment int64

	// What is being read, for errors.
	key, tensor string
}

// pos is the position in the file.
func (s *scanner) pos() int64 { return s.next - int64(len(s.buf)) }

// left is the number of bytes between there and the end of the file.
func (s *scanner) left() int64 { return s.size - s.pos() }

// errorf is a fault at the position off.
func (s *scanner) errorf(off int64, format string, args ...any) error {
	return &FormatError{Key: s.key, Tensor: s.tensor, Offset: off, Msg: fmt.Sprintf(format, args...)}
}

// window is how much is read at a time.
const window = 64 << 10

// take returns the next n bytes, at most window. They are valid until the next
// call. what they are is for the error if the file ends before.
func (s *scanner) take(n int, what string) ([]byte, error) {
	if n > len(s.buf) {
		if int64(n) > s.left() {
			return nil, s.ends(what)
		}
		pos := s.pos()
		if s.mem == nil {
			s.mem = make([]byte, min(window, s.size))
		}
		s.buf = s.mem[:min(window, s.left())]
		if err := tensor.ReadFull(s.r, s.buf, pos); err != nil {
			return nil, fmt.Errorf("gguf: reading at %d: %w", pos, err)
		}
		s.next = pos + int64(len(s.buf))
	}
	b := s.buf[:n]
	s.buf = s.buf[n:]
	return b, nil
}

// ends is the error of a file that ends inside something.
func (s *scanner) ends(what string) error {
	if s.cut {
		return s.errorf(s.pos(), "%s goes on beyond %d bytes, which no header needs", what, s.size)
	}
	return s.errorf(s.pos(), "the file ends at %d, inside %s: download it again", s.size, what)
}

func (s *scanner) u32(what string) (uint32, error) {
	b, err := s.take(4, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (s *scanner) u64(what string) (uint64, error) {
	b, err := s.take(8, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// count reads a number of things of which each takes at least so many bytes. The
// number still is only a claim: memory is taken as things come, see room.
func (s *scanner) count(what string, each int64) (int, error) {
	pos := s.pos()
	n, err := s.u64("the number of " + what)
	if err != nil {
		return 0, err
	}
	if n > uint64(s.left()/each) || n > math.MaxInt {
		return 0, s.errorf(pos, "has %d %s, more than fit in the %d bytes that follow", n, what, s.left())
	}
	return int(n), nil
}

// room is for how many of n claimed things memory is taken at once.
func room(n int) int { return min(n, 1<<14) }

// str reads a string of at most most bytes.
func (s *scanner) str(what string, most int64) (string, error) {
	pos := s.pos()
	n, err := s.u64("the length of " + what)
	switch {
	case err != nil:
		return "", err
	case n > uint64(s.left()) && !s.cut:
		return "", s.errorf(pos, "%s has %d bytes, the file ends after %d", what, n, s.left())
	case n > uint64(s.left()):
		return "", s.ends(what)
	case n > uint64(most):
		return "", s.errorf(pos, "%s has %d bytes, more than the %d that are allowed", what, n, most)
	case n <= window:
		b, err := s.take(int(n), what)
		return string(b), err
	}
	var b []byte
	for len(b) < int(n) {
		part, err := s.take(min(window, int(n)-len(b)), what)
		if err != nil {
			return "", err
		}
		b = append(b, part...)
	}
	return string(b), nil
}

// name reads a key or the name of a tensor.
func (s *scanner) name(what string, most int64) (string, error) {
	pos := s.pos()
	v, err := s.str(what, most)
	switch {
	case err != nil:
		return "", err
	case v == "":
		return "", s.errorf(pos, "%s is empty", what)
	case !utf8.ValidString(v):
		return "", s.errorf(pos, "%s is not valid UTF-8: %s", what, printable(v))
	}
	return v, nil
}

// preamble reads what a file begins with and returns the version.
func (s *scanner) preamble() (int, error) {
	if s.size == 0 {
		return 0, fileError(0, "the file is empty: download it again")
	}
	start := make([]byte, min(s.size, 64))
	if err := tensor.ReadFull(s.r, start, 0); err != nil {
		return 0, fmt.Errorf("gguf: reading the beginning of the file: %w", err)
	}
	if !bytes.HasPrefix(start, []byte("GGUF")) {
		return 0, fileError(0, "%s", lookalike(start))
	}
	if _, err := s.take(4, "the magic number"); err != nil {
		return 0, err
	}
	v, err := s.u32("the version")
	switch {
	case err != nil:
		return 0, err
	case v == 2 || v == 3:
		return int(v), nil
	case v == 1:
		return 0, fileError(4, "this is version 1 of the format, of before October 2023: convert the model again")
	case v&0xFFFF == 0 && v != 0:
		return 0, fileError(4, "this is a big-endian file: convert it with gguf-convert-endian")
	}
	return 0, fileError(4, "this is version %d of the format, want 2 or 3", v)
}

// lookalike says what a file that is not GGUF seems to be, judging by its first
// bytes.
func lookalike(start []byte) string {
	has := func(prefix string) bool { return bytes.HasPrefix(start, []byte(prefix)) }
	switch {
	case has("version https://git-lfs"):
		return "this is a Git LFS pointer, not the weights: run git lfs pull, or download the file again"
	case bytes.HasPrefix(bytes.TrimLeft(start, " \t\r\n"), []byte("<")):
		return "this is a web page, not weights (an error or a login page saved in their place?): download the file again"
	case has("lmgg"), has("fmgg"), has("tjgg"), has("algg"):
		return "this is a file of a predecessor of GGUF, of before August 2023: convert the model again"
	case has("PK"):
		return "this is a zip archive, as torch.save writes: name it .bin and read it as a PyTorch checkpoint"
	case len(start) > 8 && start[8] == '{':
		return "this is not a GGUF file, but may be a safetensors file: name it .safetensors"
	}
	return fmt.Sprintf("this is not a GGUF file: it begins with % x", start[:min(len(start), 4)])
}

// tensors reads the descriptions of n tensors.
func (s *scanner) tensors(n int) ([]entry, error) {
	entries := make([]entry, 0, room(n))
	seen := make(map[string]struct{}, room(n))
	for range n {
		s.tensor = ""
		at := s.pos()
		name, err := s.name("the name of a tensor", maxName)
		if err != nil {
			return nil, err
		}
		s.tensor = name
		if _, ok := seen[name]; ok {
			return nil, s.errorf(at, "two tensors of this name")
		}
		seen[name] = struct{}{}
		e := entry{name: name, at: at}
		if err := s.describe(&e); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	s.tensor = ""
	return entries, nil
}

// describe reads what follows the name of a tensor.
func (s *scanner) describe(e *entry) error {
	pos := s.pos()
	dims, err := s.u32("the number of dimensions")
	if err != nil {
		return err
	}
	if dims > maxDims {
		return s.errorf(pos, "has %d dimensions, more than %d", dims, maxDims)
	}
	e.shape = make([]int, dims)
	for i := range e.shape {
		pos := s.pos()
		dim, err := s.u64("the dimensions")
		if err != nil {
			return err
		}
		if dim > math.MaxInt {
			return s.errorf(pos, "dimension %d is too large", dim)
		}
		e.shape[len(e.shape)-1-i] = int(dim)
	}
	pos = s.pos()
	typ, err := s.u32("the type")
	if err != nil {
		return err
	}
	if e.typ = Type(typ); !e.typ.Known() {
		return s.errorf(pos, "type %d is not known", typ)
	}
	elements, err := tensor.Elements(e.shape)
	if err != nil {
		return s.errorf(pos, "shape %v has more elements than an int64 counts", e.shape)
	}
	row := 1
	if dims > 0 {
		row = e.shape[dims-1]
	}
	size, bytes := int64(e.typ.BlockSize()), int64(e.typ.BlockBytes())
	if int64(row)%size != 0 {
		return s.errorf(pos, "rows of %d elements do not fill blocks of %v, which hold %d", row, e.typ, size)
	}
	if elements/size > math.MaxInt64/bytes {
		return s.errorf(pos, "%v of shape %v has more bytes than an int64 counts", e.typ, e.shape)
	}
	e.size = elements / size * bytes
	pos = s.pos()
	begin, err := s.u64("the offset")
	if err != nil {
		return err
	}
	if begin > math.MaxInt64 {
		return s.errorf(pos, "begins at %d, beyond any file", begin)
	}
	e.begin = int64(begin)
	return nil
}
