package local

import (
	"errors"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"

	"expo/lm/generate/grammar"
	"expo/lm/tokenizer"
)

// ErrStuck says that an answer that is to have a form cannot go on: the model
// has no token for what must come next.
var ErrStuck = errors.New("local: no token of the model's vocabulary can continue the answer in the form that is asked for")

// vocabulary is the index of the model's tokens by their bytes, made when the
// first answer that is to have a form needs it.
func (e *Engine) vocabulary() *grammar.Vocabulary {
	e.indexed.Do(func() {
		e.index = grammar.NewVocabulary(e.model.Outputs(), func(id int) []byte {
			if e.eos[id] {
				return nil
			}
			return e.bytesOf(id)
		})
	})
	return e.index
}

// TokenBytes is what a token adds to a text in its middle, nil for special ones
// and those that the tokenizer does not have.
func (e *Engine) TokenBytes(id int) []byte { return e.bytesOf(id) }

// tokenBytes makes a function that gives what a token adds to a text in its
// middle, nothing for special ones.
func tokenBytes(tok *tokenizer.Tokenizer) func(id int) []byte {
	if strings.HasPrefix(tok.Kind(), "byte-level") {
		letters := byteLetters()
		return func(id int) []byte {
			p, ok := tok.Token(id)
			if !ok || tok.Special(id) {
				return nil
			}
			var out []byte
			for _, r := range p {
				b, ok := letters[r]
				if !ok {
					return []byte(p) // a token that was added, which stands for itself
				}
				out = append(out, b)
			}
			return out
		}
	}
	// A token before it, so that its space counts.
	var anchor []int
	before := ""
	if ids := tok.Encode("a", false); len(ids) > 0 {
		anchor = ids[len(ids)-1:]
		before = tok.Decode(anchor, false)
	}
	return func(id int) []byte {
		p, ok := tok.Token(id)
		switch {
		case !ok || tok.Special(id) || id == tok.UNK():
			return nil
		case len(p) == 6 && strings.HasPrefix(p, "<0x") && p[5] == '>':
			if b, err := strconv.ParseUint(p[3:5], 16, 8); err == nil {
				return []byte{byte(b)}
			}
		case !utf8.ValidString(p):
			return []byte(p) // tiktoken's files have bytes
		}
		if text, ok := strings.CutPrefix(tok.Decode(append(anchor[:len(anchor):len(anchor)], id), false), before); ok {
			return []byte(text)
		}
		return []byte(tok.Decode([]int{id}, false))
	}
}

// byteLetters are the letters that stand for bytes in byte-level BPE: bytes that
// print stand for themselves, the rest for U+0100 and on, as in GPT-2's
// encoder.py.
func byteLetters() map[rune]byte {
	letters := make(map[rune]byte, 256)
	for b, next := 0, rune(0x100); b < 256; b++ {
		if b >= 33 && b <= 126 || b >= 161 && b <= 172 || b >= 174 {
			letters[rune(b)] = byte(b)
		} else {
			letters[next] = byte(b)
			next++
		}
	}
	return letters
}

// constrain leaves logits only to the tokens that the answer's form allows, and
// to those that end answers where it may end. It reports false if there is none.
// What is NaN stays so, for all to see.
func (s *sequence) constrain(logits []float32) bool {
	never := float32(math.Inf(-1))
	some := false
	type end struct {
		id    int
		logit float32
	}
	var ends []end
	if s.matcher.Complete() {
		for id := range s.ends {
			if id >= 0 && id < len(logits) {
				ends = append(ends, end{id, logits[id]})
			}
		}
	}
	for i, word := range s.matcher.Allowed() {
		part := logits[min(64*i, len(logits)):min(64*i+64, len(logits))]
		for rest := ^word; rest != 0; rest &= rest - 1 {
			k := bits.TrailingZeros64(rest)
			if k >= len(part) {
				break
			}
			if part[k] == part[k] {
				part[k] = never
			}
		}
		for rest := word; rest != 0 && !some; rest &= rest - 1 {
			if k := bits.TrailingZeros64(rest); k < len(part) {
				some = part[k] > never || part[k] != part[k]
			}
		}
	}
	for _, e := range ends {
		logits[e.id] = e.logit
		some = some || e.logit > never || e.logit != e.logit
	}
	return some
}
