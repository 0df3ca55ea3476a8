package torchbin

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxPickle bounds the length of one pickle. A state dict takes some 200 bytes
// a tensor, so that it is enough for 300000 tensors; the machine's values take
// up to 60 times the pickle's length when it is made for that.
const maxPickle = 64 << 20

// A source hands out the bytes of a pickle and counts them. It never allocates
// for bytes that are not there.
type source struct {
	r     *bufio.Reader
	pos   int64 // offset of the next byte, in the entry or in the file
	end   int64 // offset past the last byte that may be read
	entry string
}

// newSource reads r, whose first byte has the offset pos, up to the offset end.
func newSource(r io.Reader, pos, end int64, entry string) *source {
	return &source{bufio.NewReaderSize(r, 64<<10), pos, end, entry}
}

func (s *source) fail(off int64, format string, args ...any) error {
	return &FormatError{Entry: s.entry, Offset: off, Msg: fmt.Sprintf(format, args...)}
}

func (s *source) readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("torchbin: %s: byte %d: %w", s.entry, s.pos, err)
}

// next returns the next n bytes, which are good until the next call.
func (s *source) next(n int64) ([]byte, error) {
	if n > s.end-s.pos {
		return nil, s.fail(s.pos, "the pickle wants %d more bytes, %d are left", n, s.end-s.pos)
	}
	if n <= int64(s.r.Size()) {
		b, err := s.r.Peek(int(n))
		if err != nil {
			return nil, s.readError(err)
		}
		s.r.Discard(int(n))
		s.pos += n
		return b, nil
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return nil, s.readError(err)
	}
	s.pos += n
	return b, nil
}

// skip passes over n bytes.
func (s *source) skip(n uint64) error {
	for n > 0 {
		c := min(n, 32<<10)
		if n > uint64(s.end-s.pos) {
			c = uint64(s.end-s.pos) + 1 // for the message
		}
		if _, err := s.next(int64(c)); err != nil {
			return err
		}
		n -= c
	}
	return nil
}

// line returns the bytes before the next newline, of which there may be at
// most 512.
func (s *source) line() (string, error) {
	const limit = 512
	b, err := s.r.Peek(int(min(limit+1, s.end-s.pos)))
	if err != nil {
		return "", s.readError(err)
	}
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return "", s.fail(s.pos, "a line begins here that does not end within %d bytes", len(b))
	}
	line := string(b[:i])
	s.r.Discard(i + 1)
	s.pos += int64(i + 1)
	return line, nil
}

// uint reads a little-endian unsigned integer of 1, 2, 4 or 8 bytes.
func (s *source) uint(width int64) (uint64, error) {
	b, err := s.next(width)
	if err != nil {
		return 0, err
	}
	var w [8]byte
	copy(w[:], b)
	return binary.LittleEndian.Uint64(w[:]), nil
}

// sized reads a length of the given width and as many bytes.
func (s *source) sized(width int64) ([]byte, error) {
	at := s.pos
	n, err := s.uint(width)
	if err != nil {
		return nil, err
	}
	if n > uint64(s.end-s.pos) {
		return nil, s.fail(at, "the pickle has a length of %d here, %d bytes are left", n, s.end-s.pos)
	}
	return s.next(int64(n))
}
