package serve

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"expo/lm/generate"
	"expo/lm/generate/local"
)

// A speller says what single tokens are as text and as bytes.
type speller struct {
	engine *local.Engine
	anchor []int  // a token before the one that is spelled, so that its space counts
	before string // what the anchor spells
	bytes  map[rune]byte
}

func newSpeller(e *local.Engine) *speller {
	sp := &speller{engine: e}
	if ids := e.Tokenizer().Encode("a", false); len(ids) > 0 {
		sp.anchor = ids[len(ids)-1:]
		sp.before = e.Tokenizer().Decode(sp.anchor, false)
	}
	if strings.HasPrefix(e.Tokenizer().Kind(), "byte-level") {
		// Bytes that print stand for themselves, the rest for U+0100 and on, as
		// in GPT-2's encoder.py.
		sp.bytes = make(map[rune]byte, 256)
		for b, next := 0, rune(0x100); b < 256; b++ {
			if b >= 33 && b <= 126 || b >= 161 && b <= 172 || b >= 174 {
				sp.bytes[rune(b)] = byte(b)
			} else {
				sp.bytes[next] = byte(b)
				next++
			}
		}
	}
	return sp
}

// text is a token as text, with U+FFFD for parts of characters.
func (sp *speller) text(id int) string {
	tok := sp.engine.Tokenizer()
	if len(sp.anchor) > 0 {
		with := append(sp.anchor[:1:1], id)
		if s, ok := strings.CutPrefix(tok.Decode(with, false), sp.before); ok {
			return s
		}
	}
	return tok.Decode([]int{id}, false)
}

// space is what a token has before it in the middle of a text and not at the
// beginning: the decoders of the SentencePiece family take a first space off.
func (sp *speller) space(id int) string {
	if sp.engine.Tokenizer().Special(id) {
		return ""
	}
	middle, first := sp.text(id), sp.engine.Tokenizer().Decode([]int{id}, false)
	if middle == " "+first {
		return " "
	}
	return ""
}

// raw is a token's bytes.
func (sp *speller) raw(id int, text string) []byte {
	if !strings.ContainsRune(text, utf8.RuneError) {
		return []byte(text)
	}
	p, ok := sp.engine.Tokenizer().Token(id)
	if !ok {
		return []byte(text)
	}
	var b byte
	if n, err := fmt.Sscanf(p, "<0x%02X>", &b); n == 1 && err == nil && len(p) == 6 {
		return []byte{b}
	}
	if sp.bytes == nil {
		if utf8.ValidString(p) {
			return []byte(text)
		}
		return []byte(p) // tiktoken's files have bytes
	}
	var out []byte
	for _, r := range p {
		b, ok := sp.bytes[r]
		if !ok {
			return []byte(text)
		}
		out = append(out, b)
	}
	return out
}

// name is a token as OpenAI writes it: its text, or its bytes spelled out.
func (sp *speller) name(id int) (string, []byte) {
	text := sp.text(id)
	raw := sp.raw(id, text)
	if utf8.Valid(raw) {
		return string(raw), raw
	}
	var b strings.Builder
	b.WriteString("bytes:")
	for _, c := range raw {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return b.String(), raw
}

// chatLogprob is a token in an answer of /v1/chat/completions.
type chatLogprob struct {
	Token   string        `json:"token"`
	Logprob float64       `json:"logprob"`
	Bytes   []int         `json:"bytes"`
	Top     []chatLogprob `json:"top_logprobs"`
}

func (sp *speller) chat(list []generate.TokenLogprob) []chatLogprob {
	out := make([]chatLogprob, len(list))
	for i, l := range list {
		name, raw := sp.name(l.ID)
		out[i] = chatLogprob{Token: name, Logprob: finite(l.Logprob), Bytes: make([]int, len(raw)), Top: []chatLogprob{}}
		for k, c := range raw {
			out[i].Bytes[k] = int(c)
		}
		if len(l.Top) > 0 {
			out[i].Top = sp.chat(l.Top)
			for k := range out[i].Top {
				out[i].Top[k].Top = nil
			}
		}
	}
	return out
}

// MarshalJSON leaves top_logprobs out of those that are one.
func (l chatLogprob) MarshalJSON() ([]byte, error) {
	if l.Top == nil {
		return marshal(struct {
			Token   string  `json:"token"`
			Logprob float64 `json:"logprob"`
			Bytes   []int   `json:"bytes"`
		}{l.Token, l.Logprob, l.Bytes})
	}
	type plain chatLogprob
	return marshal(plain(l))
}

// finite is a log-probability that JSON can tell: OpenAI's -9999 stands for
// what is impossible.
func finite(x float64) float64 { return max(x, -9999) }

// textLogprobs are the tokens of an answer of /v1/completions, in columns.
type textLogprobs struct {
	Tokens   []string             `json:"tokens"`
	Logprobs []*float64           `json:"token_logprobs"`
	Top      []map[string]float64 `json:"top_logprobs"`
	Offsets  []int                `json:"text_offset"`
}

// add appends tokens; at is the offset of the first, in characters. The first
// token of a prompt has no probability. It returns the offset of what follows.
func (t *textLogprobs) add(sp *speller, list []generate.TokenLogprob, at int, prompt bool) int {
	for i, l := range list {
		name, raw := sp.name(l.ID)
		t.Tokens = append(t.Tokens, name)
		t.Offsets = append(t.Offsets, at)
		at += utf8.RuneCount(raw)
		if prompt && i == 0 {
			t.Logprobs = append(t.Logprobs, nil)
			t.Top = append(t.Top, nil)
			continue
		}
		own := finite(l.Logprob)
		t.Logprobs = append(t.Logprobs, &own)
		top := make(map[string]float64, len(l.Top)+1)
		for _, o := range l.Top {
			n, _ := sp.name(o.ID)
			if _, ok := top[n]; !ok {
				top[n] = finite(o.Logprob)
			}
		}
		if _, ok := top[name]; !ok {
			top[name] = own
		}
		t.Top = append(t.Top, top)
	}
	return at
}
