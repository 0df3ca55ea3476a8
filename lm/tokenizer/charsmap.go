package tokenizer

import (
	"encoding/binary"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A charsmap is the table of replacements that a SentencePiece model carries
// as precompiled_charsmap: the length in bytes of a double-array trie as
// uint32, the trie, and the replacements, each ended by a NUL. The trie's
// values are offsets of replacements. Its layout is that of
// https://github.com/s-yata/darts-clone, little endian.
type charsmap struct {
	units []uint32
	texts string
}

// parseCharsmap reads a table. Its offsets are checked when they are used.
func parseCharsmap(b []byte) (*charsmap, error) {
	if len(b) < 4 {
		return nil, errors.New("precompiled charsmap: is shorter than its length field")
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if uint64(n) > uint64(len(b)) || n%4 != 0 || n == 0 {
		return nil, errors.New("precompiled charsmap: its trie does not fit into it")
	}
	c := &charsmap{units: make([]uint32, n/4), texts: string(b[n:])}
	for i := range c.units {
		c.units[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return c, nil
}

// match finds strings of the trie with which s begins. It returns the length
// of the longest, or of the shortest one if shortest is set, and its value;
// or 0.
func (c *charsmap) match(s string, shortest bool) (n int, value uint32) {
	offset := func(unit uint32) uint32 { return unit >> 10 << (unit >> 6 & 8) }
	at := offset(c.units[0])
	for i := range len(s) {
		at ^= uint32(s[i])
		if uint64(at) >= uint64(len(c.units)) {
			break
		}
		unit := c.units[at]
		// A unit is labelled with its byte; bit 31 marks a value, which no
		// byte leads to.
		if unit&(1<<31|0xFF) != uint32(s[i]) {
			break
		}
		at ^= offset(unit)
		if unit>>8&1 == 0 {
			continue
		}
		if uint64(at) >= uint64(len(c.units)) {
			break
		}
		n, value = i+1, c.units[at]&(1<<31-1)
		if shortest {
			break
		}
	}
	return n, value
}

// text is the replacement at an offset.
func (c *charsmap) text(at uint32) (string, bool) {
	if uint64(at) > uint64(len(c.texts)) {
		return "", false
	}
	s := c.texts[at:]
	if i := strings.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	return s, utf8.ValidString(s)
}

// longest is what SentencePiece makes of the beginning of s: the replacement
// of the longest string of the table, or one character as it is, and how many
// bytes of s that stands for.
func (c *charsmap) longest(s string) (string, int) {
	if n, v := c.match(s, false); n > 0 {
		if text, ok := c.text(v); ok {
			return text, n
		}
	}
	_, n := utf8.DecodeRuneInString(s)
	return s[:n], n
}

// graphemes is what the tokenizers library makes of s. It looks up whole
// grapheme clusters of less than six bytes, then characters, and takes the
// shortest string of the table with which these begin.
func (c *charsmap) graphemes(s string) string {
	replace := func(part string) (string, bool) {
		if n, v := c.match(part, true); n > 0 {
			return c.text(v)
		}
		return "", false
	}
	var b strings.Builder
	for len(s) > 0 {
		n := cluster(s)
		if n < 6 {
			if text, ok := replace(s[:n]); ok {
				b.WriteString(text)
				s = s[n:]
				continue
			}
		}
		for _, r := range s[:n] {
			if text, ok := replace(string(r)); ok {
				b.WriteString(text)
				continue
			}
			b.WriteRune(r)
		}
		s = s[n:]
	}
	return b.String()
}

// cluster is the length of the extended grapheme cluster at the beginning of s
// (UAX 29). Emoji sequences and Indic conjuncts end early, after a joiner or a
// virama: what counts is only whether a cluster has less than six bytes, and
// these have more.
func cluster(s string) int {
	if strings.HasPrefix(s, "\r\n") {
		return 2
	}
	r, n := utf8.DecodeRuneInString(s)
	if breaksAround(r) {
		return n
	}
	for prepends(r) && n < len(s) {
		next, w := utf8.DecodeRuneInString(s[n:])
		if breaksAround(next) {
			return n
		}
		r, n = next, n+w
	}
	for n < len(s) {
		next, w := utf8.DecodeRuneInString(s[n:])
		if !extends(next) && !joins(r, next) {
			break
		}
		r, n = next, n+w
	}
	return n
}

// joins reports whether the Hangul jamo or syllables l and r belong to one
// cluster, or are halves of a flag.
func joins(l, r rune) bool {
	lead := 0x1100 <= l && l <= 0x115F || 0xA960 <= l && l <= 0xA97C
	syllable := 0xAC00 <= l && l <= 0xD7A3
	vowel := 0x1160 <= l && l <= 0x11A7 || 0xD7B0 <= l && l <= 0xD7C6
	tail := 0x11A8 <= l && l <= 0x11FF || 0xD7CB <= l && l <= 0xD7FB
	nextVowel := 0x1160 <= r && r <= 0x11A7 || 0xD7B0 <= r && r <= 0xD7C6
	nextTail := 0x11A8 <= r && r <= 0x11FF || 0xD7CB <= r && r <= 0xD7FB
	switch {
	case lead:
		return nextVowel || 0x1100 <= r && r <= 0x115F || 0xA960 <= r && r <= 0xA97C || 0xAC00 <= r && r <= 0xD7A3
	case syllable && (l-0xAC00)%28 == 0, vowel:
		return nextVowel || nextTail
	case syllable, tail:
		return nextTail
	}
	return unicode.Is(unicode.Regional_Indicator, l) && unicode.Is(unicode.Regional_Indicator, r)
}

// extends reports whether r belongs to the character before it: Grapheme_Extend,
// emoji modifiers, zero-width joiner, and spacing marks.
func extends(r rune) bool {
	if r < 0x300 {
		return false
	}
	switch {
	case r == 0x200D, 0x1F3FB <= r && r <= 0x1F3FF, r == 0xE33, r == 0xEB3:
		return true
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Other_Grapheme_Extend):
		return true
	case unicode.Is(unicode.Mc, r):
		// These spacing marks stand for themselves.
		switch r {
		case 0x102B, 0x102C, 0x1038, 0x1062, 0x1063, 0x1064, 0x1067, 0x1068, 0x1069, 0x106A, 0x106B, 0x106C, 0x106D,
			0x1083, 0x1087, 0x1088, 0x1089, 0x108A, 0x108B, 0x108C, 0x108F, 0x109A, 0x109B, 0x109C,
			0x1A61, 0x1A63, 0x1A64, 0xAA7B, 0xAA7D, 0x11720, 0x11721:
			return false
		}
		return true
	}
	return false
}

// breaksAround reports whether r is a cluster of its own whatever is beside it.
func breaksAround(r rune) bool {
	if r < 0x20 || 0x7F <= r && r < 0xA0 {
		return true
	}
	if r < 0xAD {
		return false
	}
	return unicode.In(r, unicode.Zl, unicode.Zp, unicode.Cf) && r != 0x200C && r != 0x200D && !prepends(r) && !extends(r)
}

// prepends reports whether r belongs to the character after it.
func prepends(r rune) bool {
	return r >= 0x600 && (unicode.Is(unicode.Prepended_Concatenation_Mark, r) ||
		r == 0xD4E || 0x111C2 <= r && r <= 0x111C3 || r == 0x1193F || r == 0x11941 || r == 0x11A3A ||
		0x11A84 <= r && r <= 0x11A89 || r == 0x11D46 || r == 0x11F02)
}
