package tokenizer

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// fuzzTexts are encoded with whatever tokenizer a fuzzer comes up with.
var fuzzTexts = []string{"", " ", "the <s>the</s> 123 don't", "é\u0301你🦙\n\n  \t", strings.Repeat("a", 100), "\xff\xc3"}

// exercise does with tk what there is to do, and checks what always holds.
func exercise(t *testing.T, tk *Tokenizer, texts ...string) {
	t.Helper()
	for _, text := range texts {
		ids := tk.Encode(text, true)
		for _, id := range ids {
			if _, ok := tk.Token(id); !ok || id < 0 || id >= tk.Size() {
				t.Fatalf("%q: ID %d is not in the vocabulary of size %d", text, id, tk.Size())
			}
		}
		if again := tk.Encode(text, true); !slices.Equal(again, ids) {
			t.Fatalf("%q: got %v, then %v", text, ids, again)
		}
		ordinary := tk.EncodeOrdinary(text)
		for _, id := range ordinary {
			if tk.Special(id) && id != tk.UNK() {
				t.Fatalf("%q: EncodeOrdinary gives special token %d", text, id)
			}
		}
		for _, ids := range [][]int{ids, ordinary, {0, 1, 2, 3, tk.Size() - 1, tk.Size(), -1}} {
			for _, skip := range []bool{true, false} {
				want := tk.Decode(ids, skip)
				if !utf8.ValidString(want) {
					t.Fatalf("%v decode to %q, which is not UTF-8", ids, want)
				}
				s := tk.NewStream(skip)
				var got strings.Builder
				for _, id := range ids {
					part := s.Push(id)
					if !utf8.ValidString(part) {
						t.Fatalf("%v: Push(%d) gives %q, which is not UTF-8", ids, id, part)
					}
					got.WriteString(part)
				}
				got.WriteString(s.Flush())
				if got.String() != want {
					t.Fatalf("%v: a stream gives %q, Decode %q", ids, got.String(), want)
				}
			}
		}
	}
}

func FuzzParseJSON(f *testing.F) {
	g := readGolden(f)
	for i := range g.Cases {
		// The models are large for a fuzzer; a small one does.
		small := byteSpec()
		if c := &g.Cases[i]; i%4 == 0 {
			f.Add([]byte(spec{"model": object{"type": "BPE", "vocab": object{"<unk>": 0, "▁": 1, "a": 2, "▁a": 3, "<0x41>": 4}, "merges": []any{[]any{"▁", "a"}}, "unk_token": "<unk>"},
				"normalizer": c.Normalizer, "pre_tokenizer": c.PreTokenizer, "decoder": c.Decoder}.json(f)))
		} else if i == 1 {
			f.Add(small.json(f))
		}
	}
	f.Add([]byte(`{"model":{"type":"Unigram","vocab":[["<unk>",0],["a",-1],["aa",-1.5],["▁",-2]],"unk_id":0,"byte_fallback":true}}`))
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0,"##b":1,"ab":2},"merges":["a ##b"],"continuing_subword_prefix":"##","end_of_word_suffix":"b"},"added_tokens":[{"id":3,"content":"x","lstrip":true,"rstrip":true,"single_word":true,"normalized":true}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		if tk, err := ParseJSON(b); err == nil {
			exercise(t, tk, fuzzTexts...)
		} else if msg := err.Error(); !strings.HasPrefix(msg, "tokenizer: ") || strings.Contains(msg, "\n") {
			t.Errorf("error %q", msg)
		}
	})
}

func FuzzParseSentencePiece(f *testing.F) {
	f.Add(smallSPM())
	f.Add(smallSPM(pbPiece("aab", -0.5, pieceUnused), pbPiece("\n\n", 0, pieceUserDefined), pbBytes(2, pbInt(24, 1))))
	f.Add([]byte(pbPiece("<unk>", 0, pieceUnknown) + pbPiece("▁a", -1, 1) + pbPiece("x", -2, pieceUserDefined) + pbBytes(3, pbBytes(2, string(smallCharsmap()[:64])))))
	f.Add([]byte(pbPiece("<unk>", 0, pieceUnknown) + pbBytes(3, pbBytes(2, string(smallCharsmap())))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if tk, err := ParseSentencePiece(b); err == nil {
			exercise(t, tk, fuzzTexts...)
		}
	})
}

func FuzzParseTiktoken(f *testing.F) {
	f.Add(smallTiktoken(), "<x>", 256)
	f.Add(smallTiktoken("th", "he", "the"), "the", 300)
	f.Add([]byte("YQ== 0\r\n\nYg== 1"), "", 0)
	f.Fuzz(func(t *testing.T, b []byte, name string, id int) {
		if tk, err := ParseTiktoken(b, map[string]int{name: id}); err == nil {
			exercise(t, tk, fuzzTexts...)
		}
	})
}

func FuzzFromGGUF(f *testing.F) {
	f.Add("gpt2", "gpt-2", "a\nb\nab\n<s>", "a b", 3, []byte{1, 1, 1, 3})
	f.Add("llama", "", "<unk>\n<s>\n▁\na\n▁a", "", 1, []byte{2, 3, 1, 1, 4})
	f.Add("t5", "", "<unk>\n</s>\n▁\na\n▁a", "", -1, []byte{2, 3, 1, 1, 5})
	f.Fuzz(func(t *testing.T, model, pre, tokens, merges string, bos int, types []byte) {
		v := GGUFVocab{Model: model, Pre: pre, Tokens: strings.Split(tokens, "\n"), Merges: strings.Split(merges, "\n"), BOS: bos, EOS: -1, UNK: -1, PAD: -1}
		for i, k := range types {
			v.Types = append(v.Types, int32(k))
			v.Scores = append(v.Scores, -float32(i))
		}
		if tk, err := FromGGUF(v); err == nil {
			exercise(t, tk, fuzzTexts...)
		}
	})
}

// FuzzText encodes and decodes: byte-level tokenizers give back the text.
func FuzzText(f *testing.F) {
	g := readGolden(f)
	for _, text := range append(g.Texts, fuzzTexts...) {
		f.Add(text)
	}
	var all []*Tokenizer
	var exact []bool
	for i := range g.Cases {
		c := &g.Cases[i]
		switch c.Name {
		case "Llama", "Metaspace first false", "Unigram", "normalizer Precompiled", "normalizer Bert (True, True, None, True)", "added token lstrip True", "words":
			all, exact = append(all, must(f)(ParseJSON(g.json(f, c)))), append(exact, false)
		case "Llama 3", "cl100k", "o200k", "DeepSeek", "SmolLM":
			all, exact = append(all, must(f)(ParseJSON(g.json(f, c)))), append(exact, true)
		}
	}
	all, exact = append(all, must(f)(ParseSentencePiece(smallSPM()))), append(exact, false)
	f.Fuzz(func(t *testing.T, text string) {
		for i, tk := range all {
			exercise(t, tk, text)
			if want := wellFormed(text); exact[i] {
				if got := tk.Decode(tk.Encode(text, false), false); got != want {
					t.Errorf("%q becomes %q", want, got)
				}
				if got := tk.Decode(tk.EncodeOrdinary(text), false); got != want {
					t.Errorf("%q becomes %q", want, got)
				}
			}
		}
	})
}
