package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

const (
	// searchTime is how long a pattern may look for one match, and what the
	// patterns get for a text besides their share by length.
	searchTime = time.Second

	// timePerByte is that share. The slowest pattern in use takes a tenth.
	timePerByte = time.Microsecond

	// backtracking is the number of places to which a pattern may go back.
	backtracking = 1 << 22

	// maxPatternBytes is the length of the longest regular expression.
	maxPatternBytes = 1 << 14
)

// A budget is the time that regular expressions have for one text, together.
type budget struct {
	spent time.Duration
	bytes int // that they were given
}

func (b *budget) over() bool {
	return b.spent > searchTime+time.Duration(b.bytes)*timePerByte
}

// A pattern is what a Split or Replace looks for: a string or a regular
// expression.
type pattern struct {
	text string
	re   *regexp2.Regexp // nil for a string
	expr string          // the regular expression as the file has it
}

// newPattern reads {"String": s} or {"Regex": s}.
func newPattern(b json.RawMessage) (*pattern, error) {
	var p struct{ String, Regex *string }
	if err := json.Unmarshal(b, &p); err != nil || (p.String == nil) == (p.Regex == nil) {
		return nil, errors.New("has no pattern that is a String or a Regex")
	}
	if p.String != nil {
		return &pattern{text: *p.String}, nil
	}
	return newRegexp(*p.Regex)
}

// newRegexp compiles a regular expression in Oniguruma's syntax.
func newRegexp(expr string) (*pattern, error) {
	if len(expr) > maxPatternBytes {
		return nil, fmt.Errorf("pattern %s: is %d bytes long, at most %d are allowed", quote(expr), len(expr), maxPatternBytes)
	}
	translated, err := translate(expr)
	if err != nil {
		return nil, fmt.Errorf("pattern %s: %w", quote(expr), err)
	}
	re, err := regexp2.Compile(translated, regexp2.Multiline, regexp2.OptionMaxBacktrackingStackSize(backtracking))
	if err != nil {
		return nil, fmt.Errorf("pattern %s: %s", quote(expr), quote(err.Error()))
	}
	re.MatchTimeout = searchTime
	return &pattern{re: re, expr: expr}, nil
}

// each calls yield with the matches in s, from left to right, as byte offsets.
// When a limit of time or memory is reached there are no more.
func (p *pattern) each(s string, limit *budget, yield func(start, end int)) {
	if p.re == nil {
		if p.text == "" {
			return
		}
		for at := 0; ; {
			i := strings.Index(s[at:], p.text)
			if i < 0 {
				return
			}
			yield(at+i, at+i+len(p.text))
			at += i + len(p.text)
		}
	}
	limit.bytes += len(s)
	if limit.over() {
		return
	}
	last := time.Now()
	spend := func() {
		now := time.Now()
		limit.spent += now.Sub(last)
		last = now
	}
	defer spend()
	runes := []rune(s)
	// Matches come in order, so that their byte offsets are found by going on
	// from the last one.
	atRune, atByte := 0, 0
	offset := func(i int) int {
		for ; atRune < i; atRune++ {
			atByte += utf8.RuneLen(runes[atRune])
		}
		return atByte
	}
	n := 0
	_ = p.re.FindRunesMatches(runes, 0, func(m regexp2.MatchView) bool {
		i, l, ok := m.GroupRange(0)
		if !ok {
			return false
		}
		from := offset(i)
		yield(from, offset(i+l))
		if n++; n%256 == 0 {
			spend()
			return !limit.over()
		}
		return true
	})
}

// replace is s with every match replaced.
func (p *pattern) replace(s, with string, limit *budget) string {
	if p.re == nil {
		if p.text == "" {
			return s
		}
		return strings.ReplaceAll(s, p.text, with)
	}
	var b strings.Builder
	last := 0
	p.each(s, limit, func(start, end int) {
		b.WriteString(s[last:start])
		b.WriteString(with)
		last = end
	})
	if last == 0 && b.Len() == 0 {
		return s
	}
	b.WriteString(s[last:])
	return b.String()
}

// translate writes a pattern of Oniguruma, whose syntax is that of Ruby
// (https://github.com/kkos/oniguruma/blob/master/doc/RE), for regexp2, whose
// syntax is that of .NET. What means something else there and has no simple
// counterpart is refused.
func translate(expr string) (string, error) {
	var b strings.Builder
	class := false // inside [ ]
	opened := 0    // where its content begins
	for i := 0; i < len(expr); i++ {
		c := expr[i]
		switch {
		case c == '\\':
			if i+1 == len(expr) {
				return "", errors.New("ends with a backslash")
			}
			i++
			n, out, err := escape(expr[i:], class)
			if err != nil {
				return "", err
			}
			b.WriteString(out)
			i += n - 1
			continue
		case class && c == '[':
			return "", errors.New("a class inside a class is not supported")
		case class && strings.HasPrefix(expr[i:], "&&"):
			return "", errors.New("an intersection of classes is not supported")
		case class && c == ']' && i > opened:
			class = false
		case !class && c == '[':
			class = true
			opened = i + 1
			if strings.HasPrefix(expr[opened:], "^") {
				opened++
				b.WriteString("[")
				c = '^'
				i++
			}
		case !class && c == '{':
			n, out, err := repetition(expr[i:])
			if err != nil {
				return "", err
			}
			b.WriteString(out)
			i += n - 1
			continue
		case !class && strings.HasPrefix(expr[i:], "(?"):
			if err := checkGroup(expr[i+2:]); err != nil {
				return "", err
			}
		}
		b.WriteByte(c)
	}
	if class {
		return "", errors.New("a class is not closed")
	}
	return b.String(), nil
}

// repetition translates {n}, {n,} or {n,m} at the beginning of s. A + after it
// repeats once more, where regexp2 would not let it give anything back. What
// is no repetition is a brace.
func repetition(s string) (n int, out string, err error) {
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return 1, "{", nil
	}
	lo, hi, two := strings.Cut(s[1:end], ",")
	from, err1 := strconv.Atoi(lo)
	to, err2 := strconv.Atoi(hi)
	switch {
	case two && lo == "" && err2 == nil:
		return 0, "", errors.New("a repetition without a lower bound is not supported")
	case err1 != nil || two && hi != "" && err2 != nil:
		return 1, "{", nil
	case !strings.HasPrefix(s[end+1:], "+") && (two || !strings.HasPrefix(s[end+1:], "?")):
		return end + 1, s[:end+1], nil
	case strings.HasPrefix(s[end+1:], "+") && two && (hi == "" || to >= 2*from-1):
		// Any number from n on is a sum of numbers between n and m.
		return end + 2, "{" + lo + ",}", nil
	}
	return 0, "", fmt.Errorf("the repetition %s is not supported", quote(s[:end+2]))
}

// checkGroup looks at what follows "(?": options that have another meaning, or
// none, are refused.
func checkGroup(s string) error {
	for i := range len(s) {
		switch s[i] {
		case 'i', '-':
			continue
		case ':', ')', '=', '!', '<', '>', '#', '\'':
			return nil
		}
		break
	}
	return fmt.Errorf("the group (?%s is not supported", quote(s[:min(len(s), 4)]))
}

// escape translates what follows a backslash; n is the length of what it
// translated.
func escape(s string, class bool) (n int, out string, err error) {
	const word, hex = `\p{L}\p{M}\p{N}\p{Pc}`, `0-9A-Fa-f`
	in := func(set string) string {
		if class {
			return set
		}
		return "[" + set + "]"
	}
	switch s[0] {
	case 'w':
		return 1, in(word), nil
	case 'h':
		return 1, in(hex), nil
	case 'W', 'H':
		if class {
			return 0, "", fmt.Errorf(`\%c in a class is not supported`, s[0])
		}
		if s[0] == 'W' {
			return 1, "[^" + word + "]", nil
		}
		return 1, "[^" + hex + "]", nil
	case 'p', 'P':
		end := strings.IndexByte(s, '}')
		if end < 0 || s[1] != '{' {
			return 0, "", fmt.Errorf(`\%c without a name in braces`, s[0])
		}
		name, p := s[2:end], s[0]
		if strings.HasPrefix(name, "^") {
			name = name[1:]
			p ^= 'p' ^ 'P'
		}
		return end + 1, `\` + string(p) + "{" + name + "}", nil
	case 'd', 'D', 's', 'S', 't', 'n', 'r', 'f', 'v', 'a', 'e', 'b', 'B', 'A', 'z', 'Z', 'G', 'u', 'x', '0':
		return 1, `\` + s[:1], nil
	}
	if c := s[0]; c >= utf8.RuneSelf {
		_, n := utf8.DecodeRuneInString(s)
		return n, s[:n], nil
	} else if '1' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' {
		return 0, "", fmt.Errorf(`\%c is not supported`, c)
	}
	return 1, `\` + s[:1], nil
}
