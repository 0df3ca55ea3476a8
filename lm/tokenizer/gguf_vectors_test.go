package tokenizer

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
)

// ggufKeys reads the keys tokenizer.ggml.* of a GGUF file.
func ggufKeys(t testing.TB, b []byte) GGUFVocab {
	t.Helper()
	take := func(n int) []byte { s := b[:n]; b = b[n:]; return s }
	u32 := func() uint32 { return binary.LittleEndian.Uint32(take(4)) }
	u64 := func() uint64 { return binary.LittleEndian.Uint64(take(8)) }
	str := func() string { return string(take(int(u64()))) }
	var value func(kind uint32) any
	value = func(kind uint32) any {
		switch kind {
		case 0, 1:
			return uint32(take(1)[0])
		case 2, 3:
			return uint32(binary.LittleEndian.Uint16(take(2)))
		case 4, 5:
			return u32()
		case 6:
			return math.Float32frombits(u32())
		case 7:
			return take(1)[0] != 0
		case 8:
			return str()
		case 9:
			kind, n := u32(), u64()
			var all []any
			for range n {
				all = append(all, value(kind))
			}
			return all
		case 10, 11, 12:
			return u64()
		}
		t.Fatalf("GGUF value type %d", kind)
		return nil
	}
	if string(take(4)) != "GGUF" || u32() < 2 {
		t.Fatal("not a GGUF file of version 2 or 3")
	}
	u64()
	keys := map[string]any{}
	for range u64() {
		key := str()
		keys[strings.TrimPrefix(key, "tokenizer.ggml.")] = value(u32())
	}
	id := func(key string) int {
		if v, ok := keys[key].(uint32); ok && v != math.MaxUint32 {
			return int(v)
		}
		return -1
	}
	flag := func(key string) *bool {
		if v, ok := keys[key].(bool); ok {
			return &v
		}
		return nil
	}
	v := GGUFVocab{
		BOS: id("bos_token_id"), EOS: id("eos_token_id"), UNK: id("unknown_token_id"), PAD: id("padding_token_id"),
		AddBOS: flag("add_bos_token"), AddEOS: flag("add_eos_token"),
		AddSpacePrefix: flag("add_space_prefix"), RemoveExtraWhitespaces: flag("remove_extra_whitespaces"),
	}
	v.Model, _ = keys["model"].(string)
	v.Pre, _ = keys["pre"].(string)
	all := func(key string) []any { a, _ := keys[key].([]any); return a }
	for _, x := range all("tokens") {
		v.Tokens = append(v.Tokens, x.(string))
	}
	for _, x := range all("scores") {
		v.Scores = append(v.Scores, x.(float32))
	}
	for _, x := range all("token_type") {
		v.Types = append(v.Types, int32(x.(uint32)))
	}
	for _, x := range all("merges") {
		v.Merges = append(v.Merges, x.(string))
	}
	return v
}

// llamacpp are the texts of llama.cpp's vectors for a vocabulary, and their
// IDs without BOS.
func llamacpp(t testing.TB, name string) (texts []string, ids [][]int) {
	t.Helper()
	texts = strings.Split(string(testdata(t, "llamacpp-vocab/ggml-vocab-"+name+".gguf.inp")), "\n__ggml_vocab_test__\n")
	out := string(testdata(t, "llamacpp-vocab/ggml-vocab-"+name+".gguf.out"))
	for _, line := range strings.Split(out, "\n") {
		var all []int
		for _, f := range strings.Fields(line) {
			id, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, id)
		}
		ids = append(ids, all)
	}
	if len(texts) != len(ids) {
		t.Fatalf("%s: %d texts, %d lines of IDs", name, len(texts), len(ids))
	}
	return texts, ids
}

func TestLlamacppVectors(t *testing.T) {
	for _, name := range []string{"llama-spm", "phi-3", "gpt-2", "deepseek-llm"} {
		t.Run(name, func(t *testing.T) {
			tok := must(t)(FromGGUF(ggufKeys(t, testdata(t, "llamacpp-vocab/ggml-vocab-"+name+".gguf"))))
			c := &tally{t: t, name: name}
			texts, ids := llamacpp(t, name)
			for i, text := range texts {
				c.ids(text, tok.Encode(text, false), ids[i])
				c.ids(text, tok.EncodeOrdinary(text), ids[i])
				c.text("round trip", tok.Decode(ids[i], true), text)
				c.text("stream", stream(tok, ids[i], true), text)
			}
			c.done()
		})
	}
	t.Run("llama-bpe", func(t *testing.T) {
		tok := must(t)(Load(dir(t, map[string]string{"tokenizer.model": "tokenizers/llama3/tokenizer.model"})))
		c := &tally{t: t, name: "llama-bpe with the file of Llama 3"}
		texts, ids := llamacpp(t, "llama-bpe")
		for i, text := range texts {
			c.ids(text, tok.Encode(text, false), ids[i])
			c.ids(text, tok.EncodeOrdinary(text), ids[i])
			c.text("round trip", tok.Decode(ids[i], true), text)
		}
		c.done()
	})
	t.Run("bert-bge", func(t *testing.T) {
		v := ggufKeys(t, testdata(t, "llamacpp-vocab/ggml-vocab-bert-bge.gguf"))
		if _, err := FromGGUF(v); err == nil || !strings.Contains(err.Error(), `model "bert" is not supported`) {
			t.Errorf("got error %v", err)
		}
	})
	t.Run("stories260K", func(t *testing.T) {
		tok := must(t)(FromGGUF(ggufKeys(t, testdata(t, "stories260K/stories260K.gguf"))))
		var gold struct {
			Texts []string
			IDs   [][]int
		}
		unmarshal(t, "vectors/stories260K_tok_gold.json", &gold)
		c := &tally{t: t, name: "stories260K.gguf"}
		for i, text := range gold.Texts {
			c.ids(text, tok.Encode(text, false), gold.IDs[i])
		}
		c.done()
	})
}

func TestTransformersJSVectors(t *testing.T) {
	var gold map[string]map[string]map[string]struct {
		Text    string
		IDs     []int
		Decoded *string
	}
	unmarshal(t, "vectors/transformersjs_tokenizer_vectors.json", &gold)
	gguf := func(name string) func(t *testing.T) *Tokenizer {
		return func(t *testing.T) *Tokenizer {
			return must(t)(FromGGUF(ggufKeys(t, testdata(t, "llamacpp-vocab/ggml-vocab-"+name+".gguf"))))
		}
	}
	files := func(as, name string) func(t *testing.T) *Tokenizer {
		return func(t *testing.T) *Tokenizer { return must(t)(Load(dir(t, map[string]string{as: name}))) }
	}
	for _, m := range []struct {
		family, name string
		special      bool
		make         func(t *testing.T) *Tokenizer
	}{
		{"llama", "Xenova/llama-tokenizer", true, files("tokenizer.model", "tokenizers/llama2/tokenizer.model")},
		{"llama", "Xenova/llama3-tokenizer", false, files("tokenizer.model", "tokenizers/llama3/tokenizer.model")},
		{"llama", "Xenova/llama3-tokenizer-new", true, files("tokenizer.model", "tokenizers/llama3/tokenizer.model")},
		{"deberta_v2", "Xenova/nli-deberta-v3-small", true, files("spm.model", "tokenizers/deberta-v3/spm.model")},
		{"gpt2", "Xenova/gpt2", false, gguf("gpt-2")},
		{"gpt2", "openai-community/gpt2", false, gguf("gpt-2")},
	} {
		t.Run(m.name, func(t *testing.T) {
			tok := m.make(t)
			c := &tally{t: t, name: m.name}
			cases := gold[m.family][m.name]
			if len(cases) == 0 {
				t.Fatal("no vectors")
			}
			cleaned := 0
			for key, v := range cases {
				c.ids(v.Text, tok.Encode(v.Text, m.special), v.IDs)
				got := tok.Decode(v.IDs, false)
				if v.Decoded == nil {
					continue
				}
				// These texts have gone through clean_up_tokenization_spaces,
				// which is no part of decoding.
				if got != *v.Decoded && cleanUp(got) == *v.Decoded {
					cleaned++
					got = *v.Decoded
				}
				c.text(fmt.Sprintf("text of %s", key), got, *v.Decoded)
			}
			t.Logf("%d texts agree after clean_up_tokenization_spaces only", cleaned)
			c.done()
		})
	}
}

// cleanUp does what transformers does with spaces before punctuation.
func cleanUp(s string) string {
	return strings.NewReplacer(" .", ".", " ?", "?", " !", "!", " ,", ",", " ' ", "'", " n't", "n't",
		" 'm", "'m", " 's", "'s", " 've", "'ve", " 're", "'re").Replace(s)
}
