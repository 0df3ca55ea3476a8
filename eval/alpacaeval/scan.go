package alpacaeval

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// Files of annotations are mostly texts of which only the length counts, a
// few megabytes for each model. A scanner reads them without decoding: it
// finds the rows' fields in the bytes and counts code points where they lie.
// What it lets pass that is no JSON does not change what it finds.
type scanner struct {
	b  []byte
	at int
}

// text is a JSON string as it stands, without its quotes.
type text struct {
	raw   []byte
	there bool
	runes int // code points, where they were counted
}

const high, ones = 0x8080808080808080, 0x0101010101010101

// zeros marks, by its highest bit, the first byte of x that is 0, and maybe
// some after it.
func zeros(x uint64) uint64 { return (x - ones) &^ x & high }

// each is a word of eight times c.
func each(c byte) uint64 { return uint64(c) * ones }

var errJSON = errors.New("not JSON")

func (s *scanner) fail(want string) error {
	if s.at >= len(s.b) {
		return fmt.Errorf("at byte %d: %w: %w", s.at, errJSON, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("at byte %d: %w: %q, want %s", s.at, errJSON, s.b[s.at], want)
}

// space skips white space and gives the byte after it, 0 at the end.
func (s *scanner) space() byte {
	for s.at < len(s.b) {
		switch c := s.b[s.at]; c {
		case ' ', '\n', '\t', '\r':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// take takes c after white space.
func (s *scanner) take(c byte) error {
	if s.space() != c || s.at >= len(s.b) {
		return s.fail(strconv.QuoteRune(rune(c)))
	}
	s.at++
	return nil
}

// str takes a string.
func (s *scanner) str() (text, error) {
	if err := s.take('"'); err != nil {
		return text{}, err
	}
	start := s.at
	for {
		n := bytes.IndexByte(s.b[s.at:], '"')
		if n < 0 {
			s.at = len(s.b)
			return text{}, s.fail("the end of a string")
		}
		end := s.at + n
		slashes := 0
		for end-slashes > start && s.b[end-slashes-1] == '\\' {
			slashes++
		}
		s.at = end + 1
		if slashes%2 == 0 {
			return text{raw: s.b[start:end], there: true}, nil
		}
	}
}

// counted takes a string and counts its code points.
func (s *scanner) counted() (text, error) {
	if err := s.take('"'); err != nil {
		return text{}, err
	}
	start, b := s.at, s.b
	n := 0 // what code points have more than one byte for
	for i := start; ; {
		for ; i+8 <= len(b); i += 8 { // ASCII with neither a quote nor a backslash
			v := binary.LittleEndian.Uint64(b[i : i+8])
			if m := zeros(v^each('"')) | zeros(v^each('\\')) | v&high; m != 0 {
				i += bits.TrailingZeros64(m) / 8
				break
			}
		}
		if i >= len(b) {
			s.at = len(b)
			return text{}, s.fail("the end of a string")
		}
		switch c := b[i]; {
		case c == '"':
			s.at = i + 1
			return text{b[start:i], true, i - start - n}, nil
		case c == '\\':
			size, err := escape(b[i:])
			if err != nil {
				s.at = i
				return text{}, fmt.Errorf("at byte %d: %w", i, err)
			}
			n += size - 1
			i += size
		case c < utf8.RuneSelf:
			i++
		default:
			_, size := utf8.DecodeRune(b[i:])
			n += size - 1
			i += size
		}
	}
}

// escape is the length of the code point that b begins with, with a backslash.
func escape(b []byte) (size int, err error) {
	if len(b) < 2 || b[1] != 'u' {
		return 2, nil
	}
	unit, ok := hex4(b[2:])
	if !ok {
		return 0, fmt.Errorf("%w: \\u without four digits", errJSON)
	}
	if unit >= 0xd800 && unit < 0xdc00 && len(b) >= 8 && b[6] == '\\' && b[7] == 'u' {
		if low, ok := hex4(b[8:]); ok && low >= 0xdc00 && low < 0xe000 {
			return 12, nil // with the other half
		}
	}
	return 6, nil
}

// skip takes any value and gives its bytes.
func (s *scanner) skip() ([]byte, error) {
	c := s.space()
	start := s.at
	switch c {
	case '"':
		_, err := s.str()
		return s.b[start:s.at], err
	case '{', '[':
		return s.nested()
	}
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ',', '}', ']', ' ', '\n', '\t', '\r':
			if s.at == start {
				return nil, s.fail("a value")
			}
			return s.b[start:s.at], nil
		}
		s.at++
	}
	return s.b[start:s.at], s.fail("a value")
}

// nested takes an object or an array, in which only texts and brackets matter.
func (s *scanner) nested() ([]byte, error) {
	start, depth, b := s.at, 0, s.b
	for i := start; ; {
		for ; i+8 <= len(b); i += 8 {
			v := binary.LittleEndian.Uint64(b[i : i+8])
			small := v | each(0x20) // [ and ] are then { and }
			if m := zeros(v^each('"')) | zeros(small^each('{')) | zeros(small^each('}')); m != 0 {
				i += bits.TrailingZeros64(m) / 8
				break
			}
		}
		if i >= len(b) {
			s.at = len(b)
			return nil, s.fail("a value")
		}
		switch b[i] {
		case '"':
			s.at = i
			if _, err := s.str(); err != nil {
				return nil, err
			}
			i = s.at
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if i++; depth == 0 {
			s.at = i
			return b[start:i], nil
		}
	}
}

// rawRow is a row of annotations, as it stands in the file.
type rawRow struct {
	instruction, output1, output2     text
	generator1, generator2, annotator text
	preference                        float64
}

// row takes an object.
func (s *scanner) row() (rawRow, error) {
	r := rawRow{preference: math.NaN()}
	if err := s.take('{'); err != nil {
		return r, err
	}
	if s.space() == '}' {
		s.at++
		return r, nil
	}
	for {
		key, err := s.str()
		if err == nil {
			err = s.take(':')
		}
		if err != nil {
			return r, err
		}
		var to *text
		count := false
		switch string(key.raw) {
		case "instruction":
			to = &r.instruction
		case "output_1":
			to, count = &r.output1, true
		case "output_2":
			to, count = &r.output2, true
		case "generator_1":
			to = &r.generator1
		case "generator_2":
			to = &r.generator2
		case "annotator":
			to = &r.annotator
		}
		switch {
		case to != nil && s.space() == '"':
			if count {
				*to, err = s.counted()
			} else {
				*to, err = s.str()
			}
			if err != nil {
				return r, err
			}
		default:
			v, err := s.skip()
			if err != nil {
				return r, err
			}
			if to != nil && string(v) != "null" {
				return r, fmt.Errorf("%s is %.20q, want a text", key.raw, v)
			}
			if string(key.raw) != "preference" {
				break
			}
			r.preference = math.NaN()
			if string(v) != "null" {
				if r.preference, err = strconv.ParseFloat(string(v), 64); err != nil {
					return r, fmt.Errorf("preference is %.20q, want a number or null", v)
				}
			}
		}
		switch s.space() {
		case ',':
			s.at++
		case '}':
			s.at++
			return r, nil
		default:
			return r, s.fail("',' or '}'")
		}
	}
}

// rows calls f for the rows of an array, or of JSON lines.
func (s *scanner) rows(f func(i int, r *rawRow) error) error {
	array := s.space() == '['
	if array {
		s.at++
	}
	for i := 0; ; i++ {
		c := s.space()
		if array && c == ']' && (i == 0 || s.b[s.at-1] != ',') {
			s.at++
			if s.space(); s.at < len(s.b) {
				return s.fail("the end of the file")
			}
			return nil
		}
		if !array && s.at == len(s.b) {
			return nil
		}
		r, err := s.row()
		if err == nil {
			err = f(i, &r)
		}
		if err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
		if array && s.space() == ',' {
			if s.at++; s.space() == ']' {
				return fmt.Errorf("row %d: %w", i+1, s.fail("a row"))
			}
		} else if array && s.space() != ']' {
			return fmt.Errorf("row %d: %w", i, s.fail("',' or ']'"))
		}
	}
}

// decode is the string's value.
func (t text) decode() (string, error) {
	if bytes.IndexByte(t.raw, '\\') < 0 && utf8.Valid(t.raw) {
		return string(t.raw), nil
	}
	var v string
	quoted := make([]byte, 0, len(t.raw)+2)
	quoted = append(append(append(quoted, '"'), t.raw...), '"')
	if err := json.Unmarshal(quoted, &v); err != nil {
		return "", err
	}
	return v, nil
}

func hex4(b []byte) (v uint32, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint32(c)
	}
	return v, true
}

// readAll reads r to its end into b, unpacks gzip, and drops a byte order mark.
func readAll(b *bytes.Buffer, r io.Reader) ([]byte, error) {
	b.Reset()
	if f, ok := r.(interface{ Stat() (fs.FileInfo, error) }); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			b.Grow(int(min(info.Size(), 1<<30)) + bytes.MinRead)
		}
	}
	if _, err := b.ReadFrom(r); err != nil {
		return nil, err
	}
	all := b.Bytes()
	if bytes.HasPrefix(all, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(all))
		if err != nil {
			return nil, err
		}
		if all, err = io.ReadAll(z); err != nil {
			return nil, err
		}
	}
	return bytes.TrimPrefix(all, []byte(bom)), nil
}
