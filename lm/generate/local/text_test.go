package local

import (
	"context"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/tokenizer"
)

// sentencePiece is the bytes of a tokenizer.model
// (https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto):
// a BPE of single characters, and of single bytes for what is no piece.
func sentencePiece(size int) []byte {
	var out []byte
	field := func(b []byte, n int, v []byte) []byte {
		b = append(b, byte(n<<3|2), byte(len(v)))
		return append(b, v...)
	}
	count := 0
	add := func(text string, kind byte) {
		p := field(nil, 1, []byte(text))
		p = append(p, 2<<3|5)
		p = binary.LittleEndian.AppendUint32(p, math.Float32bits(-float32(count)))
		p = append(p, 3<<3, kind)
		out = field(out, 1, p)
		count++
	}
	add("<unk>", 2)
	add("<s>", 3)
	add("</s>", 3)
	for _, b := range []string{"E2", "82", "AC", "0A"} {
		add("<0x"+b+">", 6)
	}
	add("▁", 1)
	for c := 'a'; count < size; c++ {
		add(string(c), 1)
	}
	return field(out, 2, []byte{3 << 3, 2})
}

// TestAnswerText sees that the text of an answer is what prompt and answer have
// more than the prompt.
func TestAnswerText(t *testing.T) {
	base := tiny(t, Options{}, nil)
	tok, err := tokenizer.ParseSentencePiece(sentencePiece(base.Model().Config().VocabSize))
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := chat.Parse("{% for m in messages %}{{ m.content }}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	e := New(base.Model(), tok, tmpl, Options{EOS: []int{2}})
	id := func(p string) int {
		n, ok := tok.ID(p)
		if !ok {
			t.Fatalf("no piece %q", p)
		}
		return n
	}
	space, euro := id("▁"), []int{id("<0xE2>"), id("<0x82>"), id("<0xAC>")}
	for _, tt := range []struct {
		prompt, answer []int
		want           string
	}{
		{[]int{1, space, id("a")}, []int{space, id("b")}, " b"},
		{[]int{1, space, id("a")}, []int{id("b"), space}, "b "},
		{[]int{1}, []int{space, id("b")}, "b"}, // the text begins with the answer
		{nil, []int{space, id("b")}, "b"},
		{[]int{space, id("a"), euro[0]}, []int{euro[1], euro[2], id("b")}, "€b"},
		{[]int{space, id("a"), euro[0]}, []int{id("b")}, "b"},
		{[]int{space, id("a"), euro[0]}, []int{space, euro[0], euro[1], euro[2]}, " €"},
		{[]int{space, id("a")}, []int{euro[0]}, "\uFFFD"},
	} {
		if got := strings.Join(e.AnswerPieces(tt.prompt, tt.answer), ""); got != tt.want {
			t.Errorf("%v, %v: %q, want %q", tt.prompt, tt.answer, got, tt.want)
		}
	}

	begins := 0
	for seed := range uint64(400) {
		r := generate.Request{Prompt: "abc", MaxTokens: 3, Sampling: generate.Sampling{Temperature: 2, Seed: seed}}
		whole := func(tokens []int) string {
			ids, _, err := e.Prompt(context.Background(), r)
			if err != nil {
				t.Fatal(err)
			}
			before := tok.Decode(ids, true)
			text, ok := strings.CutPrefix(tok.Decode(append(ids, tokens...), true), before)
			if !ok {
				t.Fatalf("%v do not begin with %v", tokens, ids)
			}
			return text
		}
		got := generateOne(t, e, r)
		if want := whole(got.Tokens); got.Text != want {
			t.Fatalf("seed %d, %v: %q, want %q", seed, got.Tokens, got.Text, want)
		}
		streamed := ""
		for d, err := range e.Stream(context.Background(), r) {
			if err != nil {
				t.Fatal(err)
			}
			streamed += d.Text
		}
		if streamed != got.Text {
			t.Errorf("seed %d: streamed %q, want %q", seed, streamed, got.Text)
		}
		// An answer to messages is a text of its own, and so is one to the
		// tokens that a template has made.
		ids, _, _ := e.Prompt(context.Background(), r)
		r.Prompt, r.Tokens, r.NewText = "", ids, true
		if own := generateOne(t, e, r); own.Text != tok.Decode(own.Tokens, true) {
			t.Errorf("seed %d: %q with NewText", seed, own.Text)
		}
		r.Tokens, r.NewText, r.Messages = nil, false, []chat.Message{{Role: "user", Content: "abc"}}
		if own := generateOne(t, e, r); own.Text != tok.Decode(own.Tokens, true) {
			t.Errorf("seed %d: %q to messages", seed, own.Text)
		}
		if got.Tokens[0] == space {
			begins++
			if !strings.HasPrefix(got.Text, " ") {
				t.Errorf("seed %d, %v: %q does not begin with a space", seed, got.Tokens, got.Text)
			}
		}
	}
	if begins == 0 {
		t.Error("no answer begins with a space: the test tests nothing")
	}
}
