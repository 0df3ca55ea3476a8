package serve

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"expo/lm/generate"
	"expo/lm/generate/local"
)

// A speller says what single tokens of an engine are as text and as bytes.
type speller struct{ engine *local.Engine }

// raw is a token's bytes in the middle of a text; those of a special token are
// its name's.
func (sp speller) raw(id int) []byte {
	if b := sp.engine.TokenBytes(id); b != nil {
		return b
	}
	return []byte(sp.engine.Tokenizer().Decode([]int{id}, false))
}

// text is a token as text, with U+FFFD for parts of characters.
func (sp speller) text(id int) string {
	if b := sp.raw(id); utf8.Valid(b) {
		return string(b)
	}
	return sp.engine.Tokenizer().Decode([]int{id}, false)
}

// name is a token as OpenAI writes it: its text, or its bytes spelled out.
func (sp speller) name(id int) (string, []byte) {
	raw := sp.raw(id)
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

func (sp speller) chat(list []generate.TokenLogprob) []chatLogprob {
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

// characters counts those that begin in b: of one that is cut among tokens, the
// first of them has it.
func characters(b []byte) int {
	n := 0
	for _, c := range b {
		if c&0xC0 != 0x80 {
			n++
		}
	}
	return n
}

// add appends tokens; at is the offset of the first, in characters. The first
// token of a prompt has no probability. It returns the offset of what follows.
func (t *textLogprobs) add(sp speller, list []generate.TokenLogprob, at int, prompt bool) int {
	for i, l := range list {
		name, raw := sp.name(l.ID)
		t.Tokens = append(t.Tokens, name)
		t.Offsets = append(t.Offsets, at)
		at += characters(raw)
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
