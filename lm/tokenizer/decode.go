package tokenizer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A stage is a step of decoding. It takes tokens, each as chunks of well-formed
// text and an end, and gives the tokens it makes of them to the next stage as
// soon as it knows them. So decoding all at once and decoding as tokens arrive
// are the same thing.
type stage interface {
	text(s string)
	end()
	flush() // there are no more tokens
}

// A decoder makes a stage that gives to next.
type decoder func(next stage) stage

// newDecoder makes the decoder of a tokenizer.json. Without one tokens are
// joined with spaces.
func newDecoder(c *component) (decoder, error) {
	if c == nil {
		return func(next stage) stage { return &joinStage{next: next} }, nil
	}
	if c.Type != "Sequence" {
		d, err := oneDecoder(c)
		if err != nil {
			return nil, fmt.Errorf("decoder %s: %w", quoteName(c.Type), err)
		}
		return d, nil
	}
	var all []decoder
	for _, c := range c.Decoders {
		if c == nil {
			return nil, errors.New("decoder Sequence: has an element null")
		}
		d, err := newDecoder(c)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return func(next stage) stage {
		for i := len(all) - 1; i >= 0; i-- {
			next = all[i](next)
		}
		return next
	}, nil
}

func oneDecoder(c *component) (decoder, error) {
	switch c.Type {
	case "Replace":
		if c.Content == nil {
			return nil, errors.New("has no content")
		}
		p, err := newPattern(c.Pattern)
		if err != nil {
			return nil, err
		}
		with := *c.Content
		return func(next stage) stage { return &replaceStage{next: next, p: p, with: with} }, nil
	case "ByteFallback":
		return func(next stage) stage { return &bytesStage{next: next} }, nil
	case "Fuse":
		return func(next stage) stage { return &fuseStage{next: next} }, nil
	case "ByteLevel":
		return func(next stage) stage { return &lettersStage{next: next} }, nil
	case "Strip":
		if c.Content == nil || utf8.RuneCountInString(*c.Content) != 1 {
			return nil, errors.New("content is not one character")
		}
		if c.Start < 0 || c.Stop < 0 {
			return nil, errors.New("start or stop is negative")
		}
		return func(next stage) stage {
			return &stripStage{next: next, char: *c.Content, start: c.Start, stop: c.Stop, left: c.Start}
		}, nil
	case "Metaspace":
		mark, scheme, err := metaspaceOptions(c)
		if err != nil {
			return nil, err
		}
		return func(next stage) stage {
			return &metaspaceStage{next: next, mark: mark, first: scheme != "never"}
		}, nil
	}
	return nil, errors.New("is not supported")
}

// textStage is the end of the line: it collects the text.
type textStage struct{ b strings.Builder }

func (t *textStage) text(s string) { t.b.WriteString(s) }
func (t *textStage) end()          {}
func (t *textStage) flush()        {}

// take is the text collected since the last call.
func (t *textStage) take() string {
	s := t.b.String()
	t.b.Reset()
	return s
}

// joinStage puts a space between tokens.
type joinStage struct {
	next   stage
	inside bool // in a token
	any    bool // there was one
}

func (j *joinStage) text(s string) {
	if !j.inside && j.any {
		j.next.text(" ")
	}
	j.inside = true
	j.next.text(s)
}

func (j *joinStage) end() {
	if !j.inside {
		j.text("")
	}
	j.inside, j.any = false, true
}

func (j *joinStage) flush() { j.next.flush() }

// replaceStage replaces a pattern in each token.
type replaceStage struct {
	next stage
	p    *pattern
	with string
	buf  strings.Builder

	limit budget
}

func (r *replaceStage) text(s string) {
	if r.p.re == nil && utf8.RuneCountInString(r.p.text) == 1 {
		r.next.text(strings.ReplaceAll(s, r.p.text, r.with)) // it is in one chunk
		return
	}
	r.buf.WriteString(s)
}

func (r *replaceStage) end() {
	if r.buf.Len() > 0 {
		r.next.text(r.p.replace(r.buf.String(), r.with, &r.limit))
		r.buf.Reset()
	}
	r.next.end()
}

func (r *replaceStage) flush() { r.next.flush() }

// bytesStage turns runs of tokens <0xNN> into the text of these bytes or, when
// the run as a whole is not UTF-8, each into U+FFFD. So it has to wait for the
// end of a run.
type bytesStage struct {
	next  stage
	token []byte
	run   []byte
}

func (b *bytesStage) text(s string) { b.token = append(b.token, s...) }

func (b *bytesStage) end() {
	if c, ok := byteOf(string(b.token)); ok {
		b.run = append(b.run, c)
		b.token = b.token[:0]
		return
	}
	b.endRun()
	b.next.text(string(b.token))
	b.next.end()
	b.token = b.token[:0]
}

func (b *bytesStage) endRun() {
	if len(b.run) == 0 {
		return
	}
	if utf8.Valid(b.run) {
		b.next.text(string(b.run))
		b.next.end()
	} else {
		for range b.run {
			b.next.text(replacement)
			b.next.end()
		}
	}
	b.run = b.run[:0]
}

func (b *bytesStage) flush() {
	b.endRun()
	b.next.flush()
}

// byteOf is the byte that a piece <0xNN> stands for.
func byteOf(piece string) (byte, bool) {
	if len(piece) != 6 || piece[:3] != "<0x" || piece[5] != '>' {
		return 0, false
	}
	n, err := strconv.ParseUint(piece[3:5], 16, 8)
	return byte(n), err == nil
}

// fuseStage makes one token of all.
type fuseStage struct{ next stage }

func (f *fuseStage) text(s string) { f.next.text(s) }
func (f *fuseStage) end()          {}

func (f *fuseStage) flush() {
	f.next.end()
	f.next.flush()
}

// lettersStage reads the letters of byte-level BPE as bytes and makes one token
// of all. A token with other characters stands for itself.
type lettersStage struct {
	next  stage
	token []byte
	bytes lossy
}

func (l *lettersStage) text(s string) { l.token = append(l.token, s...) }

func (l *lettersStage) end() {
	s := string(l.token)
	if b, ok := fromLetters(s); ok {
		s = b
	}
	l.token = l.token[:0]
	if s = l.bytes.add(s); s != "" {
		l.next.text(s)
	}
}

func (l *lettersStage) flush() {
	if s := l.bytes.rest(); s != "" {
		l.next.text(s)
	}
	l.next.end()
	l.next.flush()
}

// lossy turns bytes that arrive in parts into text. A character is held back
// until it is complete; each maximal part of an ill-formed one becomes U+FFFD.
type lossy struct{ held string }

// add is the text that s completes.
func (l *lossy) add(s string) string {
	if l.held == "" && utf8.ValidString(s) {
		return s
	}
	s = l.held + s
	l.held = ""
	var b strings.Builder
	for len(s) > 0 {
		n, ok, partial := character(s)
		switch {
		case ok:
			b.WriteString(s[:n])
		case partial:
			l.held = s
			return b.String()
		default:
			b.WriteString(replacement)
		}
		s = s[n:]
	}
	return b.String()
}

// rest is the text of what is held back.
func (l *lossy) rest() string {
	if l.held == "" {
		return ""
	}
	l.held = ""
	return replacement
}

// stripStage removes a character from the ends of each token, up to start and
// stop times.
type stripStage struct {
	next        stage
	char        string
	start, stop int
	left        int // how many may still be removed at the beginning
	held        int // how many were seen at the end, up to stop
}

func (t *stripStage) text(s string) {
	for t.left > 0 && s != "" {
		if !strings.HasPrefix(s, t.char) {
			t.left = 0
			break
		}
		s = s[len(t.char):]
		t.left--
	}
	if s == "" {
		return
	}
	if t.stop == 0 {
		t.next.text(s)
		return
	}
	body := s
	n := 0
	for n < t.stop && strings.HasSuffix(body, t.char) {
		body = body[:len(body)-len(t.char)]
		n++
	}
	if body == "" {
		// Only more of it: what is too much is text.
		if over := t.held + n - t.stop; over > 0 {
			t.next.text(strings.Repeat(t.char, over))
			n -= over
		}
		t.held += n
		return
	}
	if t.held > 0 {
		t.next.text(strings.Repeat(t.char, t.held))
	}
	t.next.text(body)
	t.held = n
}

func (t *stripStage) end() {
	t.left, t.held = t.start, 0
	t.next.end()
}

func (t *stripStage) flush() { t.next.flush() }

// metaspaceStage writes ▁ as a space, and leaves it out of the first token.
type metaspaceStage struct {
	next  stage
	mark  string
	first bool
}

func (m *metaspaceStage) text(s string) {
	with := " "
	if m.first {
		with = ""
	}
	m.next.text(strings.ReplaceAll(s, m.mark, with))
}

func (m *metaspaceStage) end() {
	m.first = false
	m.next.end()
}

func (m *metaspaceStage) flush() { m.next.flush() }
