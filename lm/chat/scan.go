package chat

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// tokenKind says what a token is.
type tokenKind uint8

const (
	tokEnd       tokenKind = iota // of the template
	tokData                       // text between tags, after whitespace control
	tokOutput                     // {{
	tokOutputEnd                  // }}
	tokBlock                      // {%
	tokBlockEnd                   // %}
	tokName                       // a name or keyword
	tokString                     // a string literal, text is its value
	tokNumber                     // val is its value
	tokOperator                   // text is the operator
)

// A token is one piece of a template.
type token struct {
	kind tokenKind
	text string
	val  value // of a tokNumber
	line int
}

func (t token) String() string {
	switch t.kind {
	case tokEnd:
		return "end of template"
	case tokOutput:
		return "'{{'"
	case tokOutputEnd:
		return "'}}'"
	case tokBlock:
		return "'{%'"
	case tokBlockEnd:
		return "'%}'"
	case tokNumber:
		return "a number"
	case tokString:
		return "a string"
	}
	return "'" + t.text + "'"
}

// A scanner cuts a template into tokens and does its whitespace control, as
// Jinja does with trim_blocks and lstrip_blocks set: one newline after a block
// or comment is dropped, and so are spaces and tabs before one that begins its
// line.
type scanner struct {
	src    string
	pos    int
	line   int
	fresh  bool // what was read last ended a line
	tokens []token
}

// scan returns the tokens of src, the last of which is a tokEnd.
func scan(src string) ([]token, error) {
	src = strings.ReplaceAll(src, "\r\n", "\n")
	src = strings.ReplaceAll(src, "\r", "\n")
	src = strings.TrimSuffix(src, "\n")
	s := &scanner{src: src, line: 1, fresh: true}
	for s.pos < len(s.src) {
		if err := s.next(); err != nil {
			return nil, err
		}
	}
	s.emit(token{kind: tokEnd})
	return s.tokens, nil
}

func (s *scanner) emit(t token) {
	if t.line == 0 {
		t.line = s.line
	}
	s.tokens = append(s.tokens, t)
}

// advance moves over n bytes and counts their lines.
func (s *scanner) advance(n int) {
	if n == 0 {
		return
	}
	piece := s.src[s.pos : s.pos+n]
	s.line += strings.Count(piece, "\n")
	s.fresh = strings.HasSuffix(piece, "\n")
	s.pos += n
}

func (s *scanner) rest() string { return s.src[s.pos:] }

// next reads the text up to the next tag, and the tag.
func (s *scanner) next() error {
	text := s.rest()
	at := tagStart(text)
	if at < 0 {
		s.emit(token{kind: tokData, text: text})
		s.advance(len(text))
		return nil
	}
	opener := text[at+1]
	var sign byte
	if at+2 < len(text) && (text[at+2] == '-' || text[at+2] == '+') {
		sign = text[at+2]
	}
	if text = s.before(text[:at], sign, opener != '{'); text != "" {
		s.emit(token{kind: tokData, text: text})
	}
	s.advance(at)
	if n := rawStart(s.rest()); n > 0 {
		return s.raw(n)
	}
	start := 2
	if sign != 0 {
		start = 3
	}
	line := s.line
	s.advance(start)
	switch opener {
	case '#':
		end := strings.Index(s.rest(), "#}")
		if end < 0 {
			return syntaxError(line, "the comment has no end")
		}
		mark := byte(0)
		if end > 0 {
			mark = s.rest()[end-1]
		}
		s.advance(end + 2)
		s.after(mark)
		return nil
	case '%':
		s.emit(token{kind: tokBlock, line: line})
		return s.tag("%}", tokBlockEnd)
	}
	s.emit(token{kind: tokOutput, line: line})
	return s.tag("}}", tokOutputEnd)
}

// tagStart is where the first tag of text begins, or -1.
func tagStart(text string) int {
	for at := 0; ; at++ {
		i := strings.IndexByte(text[at:], '{')
		if i < 0 || at+i+1 >= len(text) {
			return -1
		}
		at += i
		switch text[at+1] {
		case '{', '%', '#':
			return at
		}
	}
}

// before applies the whitespace control of a tag to the text in front of it.
func (s *scanner) before(text string, sign byte, block bool) string {
	switch {
	case sign == '-':
		return strings.TrimRightFunc(text, isSpace)
	case sign == '+' || !block:
		return text
	}
	start := strings.LastIndexByte(text, '\n') + 1
	if (start > 0 || s.fresh) && strings.TrimLeftFunc(text[start:], isSpace) == "" {
		return text[:start]
	}
	return text
}

// after applies the whitespace control of a block or comment, whose last
// character before the closing bracket is mark, to the text behind it.
func (s *scanner) after(mark byte) {
	switch {
	case mark == '-':
		s.space()
	case mark != '+' && strings.HasPrefix(s.rest(), "\n"):
		s.advance(1)
	}
}

// space moves over whitespace.
func (s *scanner) space() {
	rest := s.rest()
	s.advance(len(rest) - len(strings.TrimLeftFunc(rest, isSpace)))
}

// keywordTag returns the length of the tag at the head of text that holds the
// one word given, and the mark before its closing bracket; or 0.
func keywordTag(text, word string) (n int, mark byte) {
	rest, ok := strings.CutPrefix(text, "{%")
	if !ok {
		return 0, 0
	}
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		rest = rest[1:]
	}
	rest = strings.TrimLeftFunc(rest, isSpace)
	if rest, ok = strings.CutPrefix(rest, word); !ok {
		return 0, 0
	}
	rest = strings.TrimLeftFunc(rest, isSpace)
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		mark, rest = rest[0], rest[1:]
	}
	if rest, ok = strings.CutPrefix(rest, "%}"); !ok {
		return 0, 0
	}
	return len(text) - len(rest), mark
}

// rawStart is the length of the raw tag at the head of text, or 0.
func rawStart(text string) int {
	n, mark := keywordTag(text, "raw")
	if mark == '+' {
		return 0
	}
	return n
}

// raw reads a raw block, whose first tag is n bytes long.
func (s *scanner) raw(n int) error {
	line := s.line
	strip := s.src[s.pos+n-3] == '-'
	s.advance(n)
	if strip {
		s.space()
	}
	text := s.rest()
	for at := 0; ; at += 2 {
		i := strings.Index(text[at:], "{%")
		if i < 0 {
			return syntaxError(line, "the raw block has no end")
		}
		at += i
		n, mark := keywordTag(text[at:], "endraw")
		if n == 0 {
			continue
		}
		if data := s.before(text[:at], text[at+2], true); data != "" {
			s.emit(token{kind: tokData, text: data})
		}
		s.advance(at + n)
		s.after(mark)
		return nil
	}
}

// tag reads what is inside a tag, and its end.
func (s *scanner) tag(closer string, kind tokenKind) error {
	start := s.line
	var open []byte // brackets still to be closed
	for {
		rest := s.rest()
		if rest == "" {
			return syntaxError(start, "the tag has no end %s", closer)
		}
		if len(open) == 0 {
			mark, tail := byte(0), rest
			if rest[0] == '-' || rest[0] == '+' && kind == tokBlockEnd {
				mark, tail = rest[0], rest[1:]
			}
			if strings.HasPrefix(tail, closer) {
				s.emit(token{kind: kind})
				s.advance(len(rest) - len(tail) + len(closer))
				if kind == tokBlockEnd || mark == '-' {
					s.after(mark)
				}
				return nil
			}
		}
		c, size := utf8.DecodeRuneInString(rest)
		switch {
		case isSpace(c):
			s.space()
		case c >= '0' && c <= '9':
			if err := s.number(); err != nil {
				return err
			}
		case c == '_' || unicode.IsLetter(c):
			n := strings.IndexFunc(rest, func(c rune) bool { return !isWord(c) })
			if n < 0 {
				n = len(rest)
			}
			s.emit(token{kind: tokName, text: rest[:n]})
			s.advance(n)
		case c == '\'' || c == '"':
			if err := s.quoted(); err != nil {
				return err
			}
		default:
			op := operator(rest)
			if op == "" {
				return syntaxError(s.line, "unexpected character %q", rest[:size])
			}
			switch op {
			case "(":
				open = append(open, ')')
			case "[":
				open = append(open, ']')
			case "{":
				open = append(open, '}')
			case ")", "]", "}":
				if len(open) == 0 {
					return syntaxError(s.line, "unexpected '%s'", op)
				}
				if want := open[len(open)-1]; want != op[0] {
					return syntaxError(s.line, "unexpected '%s', want '%c'", op, want)
				}
				open = open[:len(open)-1]
			}
			s.emit(token{kind: tokOperator, text: op})
			s.advance(len(op))
		}
	}
}

// operator is the operator at the head of text, or "".
func operator(text string) string {
	if len(text) > 1 {
		switch text[:2] {
		case "//", "**", "==", "!=", ">=", "<=":
			return text[:2]
		}
	}
	if strings.IndexByte("+-/*%~[](){}><=.:|,;", text[0]) >= 0 {
		return text[:1]
	}
	return ""
}

// isSpace reports whether Python calls c a space.
func isSpace(c rune) bool {
	return c >= 0x1c && c <= 0x1f || unicode.IsSpace(c)
}

func isWord(c rune) bool {
	return c == '_' || unicode.IsLetter(c) || unicode.IsNumber(c) || unicode.IsMark(c)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
