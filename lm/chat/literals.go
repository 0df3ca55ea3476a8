package chat

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"

	"github.com/ardanlabs/jinja"
)

// digits is the length of the digits at the head of text, which may be
// separated by single underscores. The letters in set are lower case.
func digits(text, set string) int {
	in := func(i int) bool {
		if i >= len(text) {
			return false
		}
		c := text[i]
		if c >= 'A' && c <= 'F' {
			c |= 0x20
		}
		return strings.IndexByte(set, c) >= 0
	}
	n := 0
	for in(n) || n > 0 && n < len(text) && text[n] == '_' && in(n+1) {
		n++
	}
	return n
}

const decimalDigits = "0123456789"

// number reads an integer or a float.
func (s *scanner) number() error {
	rest := s.rest()
	if len(rest) > 2 && rest[0] == '0' {
		sets := map[byte]string{'b': "01", 'o': "01234567", 'x': "0123456789abcdef"}
		if set := sets[rest[1]|0x20]; set != "" {
			if n := digits(rest[2:], set); n > 0 {
				return s.integer(2 + n)
			}
		}
	}
	n := digits(rest, decimalDigits)
	whole := n
	afterDot := s.pos > 0 && s.src[s.pos-1] == '.'
	if !afterDot {
		if n+1 < len(rest) && rest[n] == '.' && isDigit(rest[n+1]) {
			n += 1 + digits(rest[n+1:], decimalDigits)
		}
		if n < len(rest) && rest[n]|0x20 == 'e' {
			e := n + 1
			if e < len(rest) && (rest[e] == '+' || rest[e] == '-') {
				e++
			}
			if d := digits(rest[e:], decimalDigits); d > 0 {
				n = e + d
			}
		}
	}
	if n == whole {
		if rest[0] == '0' { // no number begins with a zero but zero itself
			n = digits(rest, "0")
		}
		return s.integer(n)
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(rest[:n], "_", ""), 64)
	if err != nil && !math.IsInf(f, 0) {
		return syntaxError(s.line, "bad number %s", rest[:n])
	}
	s.emit(token{kind: tokNumber, text: rest[:n], val: jinja.NewFloat(f)})
	s.advance(n)
	return nil
}

func (s *scanner) integer(n int) error {
	text := s.rest()[:n]
	i, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 0, 64)
	if err != nil {
		return syntaxError(s.line, "the number %.40s does not fit 64 bits", text)
	}
	s.emit(token{kind: tokNumber, text: text, val: jinja.NewInt(i)})
	s.advance(n)
	return nil
}

// quoted reads a string literal.
func (s *scanner) quoted() error {
	rest := s.rest()
	quote := rest[0]
	for i := 1; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case quote:
			text, err := unescape(rest[1:i])
			if err != nil {
				return syntaxError(s.line, "%v", err)
			}
			s.emit(token{kind: tokString, text: text})
			s.advance(i + 1)
			return nil
		}
	}
	return syntaxError(s.line, "the string has no end")
}

// escapes are the escape sequences of one letter.
var escapes = map[byte]string{
	'n': "\n", 't': "\t", 'r': "\r", '\\': "\\", '\'': "'", '"': "\"",
	'a': "\a", 'b': "\b", 'f': "\f", 'v': "\v", '\n': "",
}

// unescape decodes the escape sequences of a Python string literal. One that
// Python does not know stands for itself.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		c := s[i]
		if e, ok := escapes[c]; ok {
			b.WriteString(e)
			continue
		}
		width := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
		switch {
		case width > 0:
			if i+1+width > len(s) {
				return "", fmt.Errorf("the escape sequence \\%c is cut short", c)
			}
			n, err := strconv.ParseUint(s[i+1:i+1+width], 16, 32)
			if err != nil || n > unicode.MaxRune {
				return "", fmt.Errorf("bad escape sequence \\%s", s[i:i+1+width])
			}
			b.WriteRune(rune(n))
			i += width
		case c >= '0' && c <= '7':
			n := 1
			for n < 3 && i+n < len(s) && s[i+n] >= '0' && s[i+n] <= '7' {
				n++
			}
			code, _ := strconv.ParseUint(s[i:i+n], 8, 16)
			b.WriteRune(rune(code))
			i += n - 1
		case c == 'N':
			return "", fmt.Errorf("escape sequences by name, as \\N{...}, are not supported")
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}
