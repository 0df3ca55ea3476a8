package tokenizer

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// longMarks is a length in bytes of a run of combining marks below which
// package norm follows UAX 15 to the letter. In longer ones it inserts U+034F
// (stream-safe text), which the references do not.
const longMarks = 30

// normalForm is s in a Unicode normal form.
func normalForm(f norm.Form, s string) string {
	if hasLongMarks(f, s) {
		return normalFormOfLong(f, s)
	}
	return f.String(s)
}

// hasLongMarks reports whether s has so many non-starters in a row that norm
// might insert something. Marks have two bytes at least, and a decomposition
// has three non-starters at most.
func hasLongMarks(f norm.Form, s string) bool {
	run := 0
	for i := 0; i < len(s); {
		if s[i] < 0x80 {
			run = 0
			i++
			continue
		}
		p := f.PropertiesString(s[i:])
		w := p.Size()
		if w == 0 {
			_, w = utf8.DecodeRuneInString(s[i:])
		}
		if p.CCC() == 0 && p.TrailCCC() == 0 {
			run = 0
		} else {
			run += 3
		}
		if run > longMarks {
			return true
		}
		i += w
	}
	return false
}

// normalFormOfLong is normalForm by the definition: decompose, order, compose.
// It is for texts in which package norm would insert U+034F.
func normalFormOfLong(f norm.Form, s string) string {
	decompose := norm.NFD
	if f == norm.NFKC || f == norm.NFKD {
		decompose = norm.NFKD
	}
	type mark struct {
		r   rune
		ccc uint8
	}
	var chars []mark
	for _, r := range s {
		// A single character's decomposition has no run that is long.
		for _, d := range decompose.String(string(r)) {
			chars = append(chars, mark{d, norm.NFD.PropertiesString(string(d)).CCC()})
		}
	}
	for i := 0; i < len(chars); {
		j := i + 1
		if chars[i].ccc != 0 {
			for j < len(chars) && chars[j].ccc != 0 {
				j++
			}
			slices.SortStableFunc(chars[i:j], func(a, b mark) int { return int(a.ccc) - int(b.ccc) })
		}
		i = j
	}
	if f == norm.NFC || f == norm.NFKC {
		out := chars[:0]
		starter, last := -1, uint8(0) // last is the class of the last mark that stayed after starter
		for _, c := range chars {
			// A mark reaches the starter unless one of its own class, or a
			// starter, is between them.
			if starter >= 0 && (len(out)-1 == starter || last < c.ccc && last != 0) {
				pair := string(out[starter].r) + string(c.r)
				if r, w := utf8.DecodeRuneInString(norm.NFC.String(pair)); w == len(norm.NFC.String(pair)) {
					out[starter].r = r
					continue
				}
			}
			if c.ccc == 0 {
				starter, last = len(out), 0
			} else {
				last = c.ccc
			}
			out = append(out, c)
		}
		chars = out
	}
	var b strings.Builder
	for _, c := range chars {
		b.WriteRune(c.r)
	}
	return b.String()
}

// lowercase is s in lower case, each character for itself.
func lowercase(s string) string {
	return strings.ToLower(strings.ReplaceAll(s, "İ", "i\u0307"))
}

// removeIf is s without the characters for which drop is true.
func removeIf(s string, drop func(rune) bool) string {
	return strings.Map(func(r rune) rune {
		if drop(r) {
			return -1
		}
		return r
	}, s)
}

func isSpace(r rune) bool { return unicode.Is(unicode.White_Space, r) }

// isPunctuation is what the tokenizers library takes for punctuation: that of
// Unicode, and all ASCII symbols.
func isPunctuation(r rune) bool {
	if r < 0x80 {
		return '!' <= r && r <= '/' || ':' <= r && r <= '@' || '[' <= r && r <= '`' || '{' <= r && r <= '~'
	}
	return unicode.Is(unicode.P, r)
}

// isOther reports whether r is a control, format or private-use character.
func isOther(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co) }

// isHan reports whether BERT puts spaces around r. The ranges are those of
// https://github.com/google-research/bert/blob/master/tokenization.py, with
// the beginning of extension E as the tokenizers library has it.
func isHan(r rune) bool {
	return 0x4E00 <= r && r <= 0x9FFF || 0x3400 <= r && r <= 0x4DBF || 0x20000 <= r && r <= 0x2A6DF ||
		0x2A700 <= r && r <= 0x2B73F || 0x2B740 <= r && r <= 0x2B81F || 0x2B920 <= r && r <= 0x2CEAF ||
		0xF900 <= r && r <= 0xFAFF || 0x2F800 <= r && r <= 0x2FA1F
}

// bertNormal is the normalizer of BERT.
func bertNormal(s string, clean, han, accents, lower bool) string {
	if clean {
		s = strings.Map(func(r rune) rune {
			switch {
			case r == '\t' || r == '\n' || r == '\r':
				return ' '
			case r == 0 || r == utf8.RuneError || isOther(r):
				return -1
			case isSpace(r):
				return ' '
			}
			return r
		}, s)
	}
	if han && strings.ContainsFunc(s, isHan) {
		var b strings.Builder
		for _, r := range s {
			if isHan(r) {
				b.WriteByte(' ')
				b.WriteRune(r)
				b.WriteByte(' ')
				continue
			}
			b.WriteRune(r)
		}
		s = b.String()
	}
	if accents {
		s = removeIf(normalForm(norm.NFD, s), func(r rune) bool { return unicode.Is(unicode.Mn, r) })
	}
	if lower {
		s = lowercase(s)
	}
	return s
}

// nmt replaces and removes what SentencePiece's nmt rules do
// (https://github.com/google/sentencepiece/blob/master/src/builder.cc).
func nmt(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r == '\f', r == '\r', r == 0x1680, 0x200B <= r && r <= 0x200F,
			r == 0x2028, r == 0x2029, r == 0x2581, r == 0xFEFF, r == 0xFFFD:
			return ' '
		case 1 <= r && r <= 8, r == 0xB, 0xE <= r && r <= 0x1F, r == 0x7F, r == 0x8F, r == 0x9F:
			return -1
		}
		return r
	}, s)
}
