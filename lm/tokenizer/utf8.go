package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// replacement is U+FFFD, which stands for what is not UTF-8.
const replacement = "\uFFFD"

// wellFormed is s with each maximal part of an ill-formed sequence replaced by
// U+FFFD.
func wellFormed(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for len(s) > 0 {
		n, ok, _ := character(s)
		if ok {
			b.WriteString(s[:n])
		} else {
			b.WriteString(replacement)
		}
		s = s[n:]
	}
	return b.String()
}

// character looks at the beginning of s, which is not empty. n is the length
// of the character there, or, when ok is false, of the maximal part of an
// ill-formed one (Unicode 15.0, table 3-8); partial says that more bytes
// could complete it.
func character[T string | []byte](s T) (n int, ok, partial bool) {
	c := s[0]
	if c < 0x80 {
		return 1, true, false
	}
	want, lo, hi := 0, byte(0x80), byte(0xBF)
	switch {
	case 0xC2 <= c && c <= 0xDF:
		want = 2
	case 0xE0 <= c && c <= 0xEF:
		want = 3
		if c == 0xE0 {
			lo = 0xA0
		} else if c == 0xED {
			hi = 0x9F
		}
	case 0xF0 <= c && c <= 0xF4:
		want = 4
		if c == 0xF0 {
			lo = 0x90
		} else if c == 0xF4 {
			hi = 0x8F
		}
	default:
		return 1, false, false
	}
	for n = 1; n < want; n++ {
		if n == len(s) {
			return n, false, true
		}
		if s[n] < lo || s[n] > hi {
			return n, false, false
		}
		lo, hi = 0x80, 0xBF
	}
	return want, true, false
}

// byteLetters is the alphabet of byte-level BPE: the printable bytes of
// Latin-1 stand for themselves, the others for U+0100 and what follows, so
// that every byte is a letter that is not white space. The definition is
// bytes_to_unicode of https://github.com/openai/gpt-2/blob/master/src/encoder.py.
var byteLetters = func() (letters [256]string) {
	other := rune(0x100)
	for b := range rune(256) {
		if '!' <= b && b <= '~' || 0xA1 <= b && b <= 0xAC || 0xAE <= b && b <= 0xFF {
			letters[b] = string(b)
			continue
		}
		letters[b] = string(other)
		other++
	}
	return letters
}()

// letterBytes is the inverse: the byte of a letter below U+0144.
var letterBytes = func() map[rune]byte {
	m := make(map[rune]byte, 256)
	for b, l := range byteLetters {
		r, _ := utf8.DecodeRuneInString(l)
		m[r] = byte(b)
	}
	return m
}()

// toLetters writes the bytes of s as letters.
func toLetters(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/2)
	for i := range len(s) {
		b.WriteString(byteLetters[s[i]])
	}
	return b.String()
}

// fromLetters reads what toLetters writes; ok is false when s has other
// characters.
func fromLetters(s string) (_ string, ok bool) {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		c, ok := letterBytes[r]
		if !ok {
			return "", false
		}
		b = append(b, c)
	}
	return string(b), true
}
