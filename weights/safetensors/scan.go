package safetensors

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep values may nest, the header's own object being the
// first level. It is where serde_json stops, so both accept the same files.
const maxDepth = 127

// A scanner walks over the text of a header, RFC 8259 without extensions. It
// knows what a JSON value looks like and nothing about tensors. The text is
// valid UTF-8, so no method checks that again.
type scanner struct {
	src string
	pos int

	tensor string // the tensor whose entry is being read, for errors
	inside bool   // whether there is one
}

// errorf is the error that the text at position pos of src is wrong.
func (s *scanner) errorf(pos int, format string, args ...any) error {
	off := int64(lengthSize + pos)
	msg := fmt.Sprintf(format, args...) + " (byte " + strconv.FormatInt(off, 10) + ")"
	if s.inside {
		return tensorError(s.tensor, off, "%s", msg)
	}
	return fileError(off, "%s", msg)
}

// unexpected is the error that the text at the current position is not want.
func (s *scanner) unexpected(want string) error {
	if s.pos >= len(s.src) {
		return s.errorf(s.pos, "the header ends where %s should be", want)
	}
	r, _ := utf8.DecodeRuneInString(s.src[s.pos:])
	return s.errorf(s.pos, "%s where %s should be", strconv.QuoteRune(r), want)
}

// space skips white space.
func (s *scanner) space() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// at reports whether the next character is c.
func (s *scanner) at(c byte) bool { return s.pos < len(s.src) && s.src[s.pos] == c }

// take skips c if it is the next character, and white space after it.
func (s *scanner) take(c byte) bool {
	if !s.at(c) {
		return false
	}
	s.pos++
	s.space()
	return true
}

// object reads an object; member is called for each key, where the scanner
// stands at the value, and must read exactly the value. pos is where the key
// begins.
func (s *scanner) object(what string, member func(key string, pos int) error) error {
	if !s.take('{') {
		return s.unexpected(what)
	}
	if s.take('}') {
		return nil
	}
	for {
		pos := s.pos
		key, err := s.str("a key")
		if err != nil {
			return err
		}
		if !s.take(':') {
			return s.unexpected("':'")
		}
		if err := member(key, pos); err != nil {
			return err
		}
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return s.unexpected("',' or '}'")
		}
	}
}

// array reads an array; element is called for each element and must read it.
func (s *scanner) array(what string, element func() error) error {
	if !s.take('[') {
		return s.unexpected(what)
	}
	if s.take(']') {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return s.unexpected("',' or ']'")
		}
	}
}

// str reads a string and white space after it. The result shares memory with
// the header when the string has no escapes.
func (s *scanner) str(what string) (string, error) {
	if !s.at('"') {
		return "", s.unexpected(what)
	}
	s.pos++
	start := s.pos
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case c == '"':
			text := s.src[start:s.pos]
			s.pos++
			s.space()
			return text, nil
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return "", s.errorf(s.pos, "a string holds the control character %q unescaped", c)
		}
		s.pos++
	}
	return "", s.errorf(start-1, "a string does not end")
}

// escaped is the rest of str from the first backslash on; the string's text
// begins at start.
func (s *scanner) escaped(start int) (string, error) {
	var b strings.Builder
	b.WriteString(s.src[start:s.pos])
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case c == '"':
			s.pos++
			s.space()
			return b.String(), nil
		case c == '\\':
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
		case c < ' ':
			return "", s.errorf(s.pos, "a string holds the control character %q unescaped", c)
		default:
			b.WriteByte(c)
			s.pos++
		}
	}
	return "", s.errorf(start-1, "a string does not end")
}

// escape reads one escape sequence, or two that make up a surrogate pair.
func (s *scanner) escape() (rune, error) {
	pos := s.pos
	if pos+1 >= len(s.src) {
		return 0, s.errorf(pos, "a string does not end")
	}
	s.pos += 2
	switch c := s.src[pos+1]; c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
	default:
		return 0, s.errorf(pos, "a string holds an escape that JSON does not know")
	}
	r, ok := s.hex4()
	if !ok {
		return 0, s.errorf(pos, `a string holds \u without four hexadecimal digits`)
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if strings.HasPrefix(s.src[s.pos:], `\u`) {
		s.pos += 2
		if low, ok := s.hex4(); ok {
			if r := utf16.DecodeRune(r, low); r != utf8.RuneError {
				return r, nil
			}
		}
	}
	return 0, s.errorf(pos, "a string holds half of a surrogate pair")
}

// hex4 reads four hexadecimal digits.
func (s *scanner) hex4() (rune, bool) {
	if len(s.src)-s.pos < 4 {
		return 0, false
	}
	var r rune
	for _, c := range []byte(s.src[s.pos : s.pos+4]) {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	s.pos += 4
	return r, true
}

// digits skips decimal digits and counts them.
func (s *scanner) digits() int {
	start := s.pos
	for s.pos < len(s.src) && '0' <= s.src[s.pos] && s.src[s.pos] <= '9' {
		s.pos++
	}
	return s.pos - start
}

// number skips a number, and white space after it. text is its spelling.
func (s *scanner) number(what string) (text string, err error) {
	start := s.pos
	if s.at('-') {
		s.pos++
	}
	zero := s.at('0')
	n := s.digits()
	switch {
	case n == 0 && s.pos == start:
		return "", s.unexpected(what)
	case n == 0:
		return "", s.unexpected("a digit")
	case zero && n > 1:
		return "", s.errorf(start, "a number begins with 0")
	}
	if s.at('.') {
		s.pos++
		if s.digits() == 0 {
			return "", s.unexpected("a digit")
		}
	}
	if s.at('e') || s.at('E') {
		s.pos++
		if s.at('+') || s.at('-') {
			s.pos++
		}
		if s.digits() == 0 {
			return "", s.unexpected("a digit")
		}
	}
	text = s.src[start:s.pos]
	s.space()
	return text, nil
}

// whole reads a number that must be written as an integer from 0 to 2⁶³−1,
// and white space after it. As in the official reader 8.0, 8e0 and -0 are not
// integers.
func (s *scanner) whole(what string) (int64, error) {
	pos := s.pos
	text, err := s.number("a number")
	if err != nil {
		return 0, err
	}
	if text[0] == '-' {
		return 0, s.errorf(pos, "%s %s is negative", what, clip(text))
	}
	var v uint64
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, s.errorf(pos, "%s %s is not written as an integer", what, clip(text))
		}
		if v > math.MaxInt64/10 {
			v = math.MaxUint64
			break
		}
		v = v*10 + uint64(c-'0')
	}
	if v > math.MaxInt64 {
		return 0, s.errorf(pos, "%s %s is too large", what, clip(text))
	}
	return int64(v), nil
}

// literal skips word, one of true, false and null, and white space after it.
func (s *scanner) literal(word string) bool {
	if !strings.HasPrefix(s.src[s.pos:], word) {
		return false
	}
	s.pos += len(word)
	s.space()
	return true
}

// skip skips a value of any kind, and white space after it. depth is the
// number of values around it.
func (s *scanner) skip(depth int) error {
	const what = "a value"
	if s.pos >= len(s.src) {
		return s.unexpected(what)
	}
	switch c := s.src[s.pos]; c {
	case '{', '[':
		if depth >= maxDepth {
			return s.errorf(s.pos, "values nest deeper than %d levels", maxDepth)
		}
		if c == '{' {
			return s.object(what, func(string, int) error { return s.skip(depth + 1) })
		}
		return s.array(what, func() error { return s.skip(depth + 1) })
	case '"':
		_, err := s.str(what)
		return err
	case 't', 'f', 'n':
		if s.literal("true") || s.literal("false") || s.literal("null") {
			return nil
		}
		return s.unexpected(what)
	}
	pos := s.pos
	text, err := s.number(what)
	if err != nil {
		return err
	}
	if _, err := strconv.ParseFloat(text, 64); err != nil {
		return s.errorf(pos, "the number %s is out of range", clip(text))
	}
	return nil
}
