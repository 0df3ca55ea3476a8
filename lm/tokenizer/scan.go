package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// The patterns with which byte-level tokenizers split text, as their files
// have them. They are run by hand-written scanners, ten times as fast as a
// regular expression.
const (
	gpt2Pattern   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// A scanner finds where the match ends that begins at i, which is less than
// len(s). The patterns it stands for match everything, so the next match
// begins there.
type scanner func(s string, i int) int

// newScanner is the scanner for a pattern, or nil.
func newScanner(expr string) scanner {
	switch expr {
	case gpt2Pattern:
		return newClasses().gpt2
	case llama3Pattern, `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`:
		return newClasses().llama3
	case qwen2Pattern:
		return newClasses().qwen2
	}
	return nil
}

// split is the split of a splitter that scans.
func (next scanner) split(out, in []piece) []piece {
	for _, p := range in {
		for i := 0; i < len(p.text); {
			j := next(p.text, i)
			out = append(out, piece{p.text[i:j], p.first && i == 0})
			i = j
		}
	}
	return out
}

// classes gives the class of each character of the basic plane.
type classes [0x10000]uint8

const (
	other   uint8 = 0
	letter  uint8 = 1
	number  uint8 = 2
	space   uint8 = 4
	newline uint8 = 8 // besides space: CR and LF
)

func newClasses() *classes {
	var c classes
	set := func(table *unicode.RangeTable, class uint8) {
		for _, r := range table.R16 {
			for x := int(r.Lo); x <= int(r.Hi); x += int(r.Stride) {
				c[x] = class
			}
		}
	}
	set(unicode.L, letter)
	set(unicode.N, number)
	set(unicode.White_Space, space)
	c['\r'] |= newline
	c['\n'] |= newline
	return &c
}

// at is the class of the character at i and its length.
func (c *classes) at(s string, i int) (class uint8, n int) {
	if b := s[i]; b < utf8.RuneSelf {
		return c[b], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	switch {
	case r < 0x10000:
		return c[r], n
	case unicode.Is(unicode.L, r):
		return letter, n
	case unicode.Is(unicode.N, r):
		return number, n
	}
	return other, n
}

// run is the end of the run of characters of a class that goes on at i.
func (c *classes) run(s string, i int, class uint8) int {
	for i < len(s) {
		k, n := c.at(s, i)
		if k != class {
			break
		}
		i += n
	}
	return i
}

// spaces looks at the white space that begins at i. end is where it ends, last
// where its last character begins, and lines where its last line break ends,
// or 0.
func (c *classes) spaces(s string, i int) (end, last, lines int) {
	for end, last = i, i; end < len(s); {
		k, n := c.at(s, end)
		if k&space == 0 {
			break
		}
		last = end
		end += n
		if k&newline != 0 {
			lines = end
		}
	}
	return end, last, lines
}

// gpt2 is the scanner for gpt2Pattern.
func (c *classes) gpt2(s string, i int) int {
	if n := contraction(s[i:], false); n > 0 {
		return i + n
	}
	class, n := c.at(s, i)
	j := i
	if s[i] == ' ' && i+1 < len(s) {
		if k, w := c.at(s, i+1); k&space == 0 {
			j, class, n = i+1, k, w
		}
	}
	if class&space == 0 {
		return c.run(s, j+n, class)
	}
	end, last, _ := c.spaces(s, i)
	if end == len(s) || last == i {
		return end
	}
	return last // the last one goes to the next match
}

// llama3 is the scanner for llama3Pattern.
func (c *classes) llama3(s string, i int) int { return c.gpt4(s, i, 3) }

// qwen2 is the scanner for qwen2Pattern.
func (c *classes) qwen2(s string, i int) int { return c.gpt4(s, i, 1) }

// gpt4 is the scanner for the patterns that go back to GPT-4's, with up to the
// given number of digits in a match.
func (c *classes) gpt4(s string, i, digits int) int {
	if n := contraction(s[i:], true); n > 0 {
		return i + n
	}
	class, n := c.at(s, i)
	switch {
	case class == letter:
		return c.run(s, i+n, letter)
	case class == number:
		j := i + n
		for d := 1; d < digits && j < len(s); d++ {
			k, w := c.at(s, j)
			if k != number {
				break
			}
			j += w
		}
		return j
	}
	if class&newline == 0 && i+n < len(s) {
		if k, w := c.at(s, i+n); k == letter {
			return c.run(s, i+n+w, letter)
		}
	}
	j, w := i, n
	if s[i] == ' ' && i+1 < len(s) {
		if k, kw := c.at(s, i+1); k == other {
			j, class, w = i+1, other, kw
		}
	}
	if class == other {
		j = c.run(s, j+w, other)
		for j < len(s) && (s[j] == '\r' || s[j] == '\n') {
			j++
		}
		return j
	}
	end, last, lines := c.spaces(s, i)
	switch {
	case lines > 0:
		return lines
	case end == len(s) || last == i:
		return end
	}
	return last
}

// contraction is the length of 's, 't, 'm, 'd, 're, 've or 'll at the beginning
// of s, or 0. With fold case does not matter; the long s folds to s.
func contraction(s string, fold bool) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	lower := func(c byte) byte {
		if fold && 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	switch lower(s[1]) {
	case 's', 't', 'm', 'd':
		return 2
	case 'r', 'v':
		if len(s) > 2 && lower(s[2]) == 'e' {
			return 3
		}
	case 'l':
		if len(s) > 2 && lower(s[2]) == 'l' {
			return 3
		}
	case "ſ"[0]:
		if fold && len(s) > 2 && s[2] == "ſ"[1] {
			return 3
		}
	}
	return 0
}

// scanIf makes a splitter that isolates the characters for which is holds, one
// by one or, with together, in runs.
func scanIf(is func(rune) bool, together bool) splitter {
	return splitter{split: func(out, in []piece, _ *budget) []piece {
		for _, p := range in {
			start, was := 0, false
			for i, r := range p.text {
				now := is(r)
				if i > start && (now != was || now && !together) {
					out = append(out, piece{p.text[start:i], p.first && start == 0})
					start = i
				}
				was = now
			}
			out = append(out, piece{p.text[start:], p.first && start == 0})
		}
		return out
	}}
}

// dropIf makes a splitter that splits at the characters for which is holds and
// leaves them out.
func dropIf(is func(rune) bool) splitter {
	return splitter{split: func(out, in []piece, _ *budget) []piece {
		for _, p := range in {
			start := 0
			for i, r := range p.text {
				if !is(r) {
					continue
				}
				if i > start {
					out = append(out, piece{p.text[start:i], p.first && start == 0})
				}
				start = i + utf8.RuneLen(r)
			}
			if start < len(p.text) {
				out = append(out, piece{p.text[start:], p.first && start == 0})
			}
		}
		return out
	}}
}
