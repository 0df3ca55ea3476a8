package tokenizer

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// pbBytes is a field of a protocol buffer that holds bytes.
func pbBytes(number int, b string) string {
	return string(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(number<<3|2)), uint64(len(b)))) + b
}

// pbInt is a field that holds an integer.
func pbInt(number int, v uint64) string {
	return string(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(number<<3)), v))
}

// pbPiece is a piece of a SentencePiece model.
func pbPiece(text string, score float32, kind int) string {
	s := pbBytes(1, text) + string(binary.LittleEndian.AppendUint32([]byte{2<<3 | 5}, math.Float32bits(score)))
	if kind != pieceNormal {
		s += pbInt(3, uint64(kind))
	}
	return pbBytes(1, s)
}

// smallSPM is a SentencePiece model of type BPE: <unk> <s> </s> [INST] <user>
// ▁ a b ab ▁ab, and whatever follows.
func smallSPM(more ...string) []byte {
	s := pbPiece("<unk>", 0, pieceUnknown) + pbPiece("<s>", 0, pieceControl) + pbPiece("</s>", 0, pieceControl) +
		pbPiece("[INST]", 0, pieceControl) + pbPiece("<user>", 0, pieceUserDefined) +
		pbPiece("▁", -4, 1) + pbPiece("a", -5, 1) + pbPiece("b", -6, 1) + pbPiece("ab", -1, 1) + pbPiece("▁ab", -2, 1)
	trainer, normalizer := pbInt(3, 2), pbInt(4, 0)
	return []byte(s + strings.Join(more, "") + pbBytes(2, trainer) + pbBytes(3, normalizer))
}

func TestParseSentencePiece(t *testing.T) {
	tk := must(t)(ParseSentencePiece(smallSPM()))
	if tk.Kind() != "SentencePiece BPE" || tk.BOS() != 1 || tk.EOS() != 2 || tk.UNK() != 0 || tk.PAD() != -1 || tk.Size() != 10 {
		t.Errorf("%s BOS %d EOS %d UNK %d PAD %d size %d", tk.Kind(), tk.BOS(), tk.EOS(), tk.UNK(), tk.PAD(), tk.Size())
	}
	for _, c := range []struct {
		text          string
		ids, ordinary []int
	}{
		{"", []int{}, []int{}}, {"ab", []int{9}, []int{9}}, {" ab", []int{5, 9}, []int{5, 9}}, {"abab", []int{9, 8}, []int{9, 8}},
		{"a<user>b", []int{5, 6, 4, 7}, []int{5, 6, 0, 7}}, {"<s>", []int{5, 0}, []int{5, 0}}, {"axyb", []int{5, 6, 0, 7}, []int{5, 6, 0, 7}},
	} {
		if got := tk.Encode(c.text, false); !slices.Equal(got, c.ids) {
			t.Errorf("Encode %q: got %v, want %v", c.text, got, c.ids)
		}
		if got := tk.EncodeOrdinary(c.text); !slices.Equal(got, c.ordinary) {
			t.Errorf("EncodeOrdinary %q: got %v, want %v", c.text, got, c.ordinary)
		}
	}
	if got, want := tk.Encode("a", true), []int{1, 5, 6}; !slices.Equal(got, want) {
		t.Errorf("with BOS: got %v, want %v", got, want)
	}
	for _, c := range []struct {
		ids  []int
		skip bool
		want string
	}{
		{[]int{1, 9, 5, 8, 2}, true, "ab ab"}, {[]int{1, 9, 5, 8, 2}, false, "<s> ab ab</s>"}, {[]int{0, 8}, true, " \u2047 ab"}, {[]int{5, 5, 8}, true, " ab"},
	} {
		if got := tk.Decode(c.ids, c.skip); got != c.want {
			t.Errorf("Decode %v: got %q, want %q", c.ids, got, c.want)
		}
	}

	// A piece that may not be used is split again the way it was made.
	tk = must(t)(ParseSentencePiece(smallSPM(pbPiece("aab", -0.5, pieceUnused), pbPiece("aa", -3, 1))))
	if got, want := tk.Encode("aab", false), []int{5, 6, 8}; !slices.Equal(got, want) {
		t.Errorf("unused: got %v, want %v", got, want)
	}
}

func TestParseSentencePieceErrors(t *testing.T) {
	normal := pbPiece("<unk>", 0, pieceUnknown)
	huge := pbPiece(strings.Repeat("x", 8000), 0, 1)
	for _, c := range []struct{ name, model, want string }{
		{"nothing", "", "has no pieces"},
		{"cut off", string(smallSPM()[:40]), "has length"},
		{"text", "hello world", "wire type"},
		{"number", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "a number is cut off or too long"},
		{"length", "\x0a\xff\xff\xff\xff\x0f", "field 1: has length 4294967295"},
		{"field 0", "\x02\x00", "field number 0"},
		{"no unk", pbPiece("a", 0, 1), "has no piece of type unknown"},
		{"two unks", normal + pbPiece("b", 0, pieceUnknown), "both of type unknown"},
		{"twice", normal + pbPiece("a", 0, 1) + pbPiece("a", 1, 1), `pieces 1 and 2 are both "a"`},
		{"empty", normal + pbPiece("", 0, 1), "piece 1: is empty"},
		{"not UTF-8", normal + pbPiece("\xff", 0, 1), "piece 1: is not UTF-8"},
		{"long", normal + huge, "piece 1: is 8000 bytes long"},
		{"type", normal + pbPiece("a", 0, 9), "piece 1: type 9 is not supported"},
		{"NaN", normal + pbPiece("a", float32(math.NaN()), 1), "piece 1: its score is not a number"},
		{"model type", normal + pbBytes(2, pbInt(3, 4)), "model_type 4 is not supported"},
		{"bytes", normal + pbBytes(2, pbInt(35, 1)), "has byte_fallback and no piece <0x00>"},
		{"escape", normal + pbBytes(3, pbInt(5, 0)), "escape_whitespaces false is not supported"},
		{"denormalizer", normal + pbBytes(5, pbBytes(2, "abc")), "a denormalizer is not supported"},
		{"charsmap", normal + pbBytes(3, pbBytes(2, "ab")), "precompiled charsmap: "},
		{"charsmap growth", normal + pbBytes(3, pbBytes(2, "\x04\x00\x00\x00\x00\x00\x00\x00"+strings.Repeat("x", 5000))), "has a replacement of 5000 bytes"},
	} {
		_, err := ParseSentencePiece([]byte(c.model))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "tokenizer: SentencePiece model: ") {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

// smallTiktoken has the bytes, and pieces with ranks that follow.
func smallTiktoken(pieces ...string) []byte {
	var b strings.Builder
	n := 0
	line := func(p string) {
		fmt.Fprintf(&b, "%s %d\n", base64.StdEncoding.EncodeToString([]byte(p)), n)
		n++
	}
	for c := range 256 {
		line(string([]byte{byte(c)}))
	}
	for _, p := range pieces {
		line(p)
	}
	return []byte(b.String())
}

func TestParseTiktoken(t *testing.T) {
	tk := must(t)(ParseTiktoken(smallTiktoken("th", "he", "the", " the", "\xe4\xbd"), map[string]int{"<|begin_of_text|>": 300, "<|end_of_text|>": 301}))
	if tk.Kind() != "tiktoken BPE" || tk.BOS() != 300 || tk.EOS() != 301 || tk.UNK() != -1 || tk.Size() != 302 || !tk.Special(301) {
		t.Errorf("%s BOS %d EOS %d UNK %d size %d", tk.Kind(), tk.BOS(), tk.EOS(), tk.UNK(), tk.Size())
	}
	for _, c := range []struct {
		text string
		ids  []int
	}{
		{"the the", []int{258, 259}}, {"he", []int{257}}, {"thhe", []int{256, 257}}, {"你", []int{260, 0xa0}}, {"<|end_of_text|>", []int{301}},
	} {
		if got := tk.Encode(c.text, false); !slices.Equal(got, c.ids) {
			t.Errorf("%q: got %v, want %v", c.text, got, c.ids)
		}
		if got := tk.Decode(c.ids, false); got != c.text {
			t.Errorf("%v: got %q, want %q", c.ids, got, c.text)
		}
	}
	if got, want := tk.Encode("he", true), []int{300, 257}; !slices.Equal(got, want) {
		t.Errorf("with BOS: got %v, want %v", got, want)
	}
	s := tk.NewStream(true)
	if got := []string{s.Push(300), s.Push(260), s.Push(0xa0), s.Push(260), s.Flush()}; !slices.Equal(got, []string{"", "", "你", "", "\uFFFD"}) {
		t.Errorf("stream: got %q", got)
	}
	if got := s.Push('a') + s.Flush(); got != "a" {
		t.Errorf("stream after Flush: got %q", got)
	}

	good := string(smallTiktoken())
	for _, c := range []struct {
		name, file string
		special    map[string]int
		want       string
	}{
		{"nothing", "", nil, "byte 0x00 has no rank"},
		{"no rank", "YQ==\n", nil, "line 1: is not a piece and its rank"},
		{"base64", "!!! 0\n", nil, `line 1: "!!!" is not a piece in base64`},
		{"rank", "YQ== x\n", nil, `line 1: "x" is not a rank`},
		{"large rank", "YQ== 4294967296\n", nil, "is not a rank"},
		{"twice", "YQ== 0\nYQ== 1\n", nil, `line 2: "a" is there twice`},
		{"same rank", good + "dGhl 0\n", nil, "both have ID 0"},
		{"special", good, map[string]int{"<x>": 5}, `special token "<x>": ID 5 is that of`},
		{"special ID", good, map[string]int{"<x>": 1 << 40}, "ID 1099511627776 is out of range"},
		{"special piece", good, map[string]int{"a": 300}, `token "a": has ID 97 and is to have 300`},
	} {
		_, err := ParseTiktoken([]byte(c.file), c.special)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "tokenizer: tiktoken vocabulary: ") {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

// smallGGUF is a byte-level vocabulary.
func smallGGUF() GGUFVocab {
	v := GGUFVocab{Model: "gpt2", Pre: "smollm", BOS: 258, EOS: 259, UNK: -1, PAD: -1}
	for _, l := range byteLetters {
		v.Tokens = append(v.Tokens, l)
		v.Types = append(v.Types, 1)
	}
	v.Tokens = append(v.Tokens, "th", "the", "<s>", "<|im_end|>", "<tool é>", "ĠĠ")
	v.Types = append(v.Types, 1, 1, 3, 4, 4, 1)
	v.Merges = []string{"t h", "th e", "Ġ Ġ"}
	return v
}

func TestFromGGUF(t *testing.T) {
	v := smallGGUF()
	tk := must(t)(FromGGUF(v))
	if tk.BOS() != 258 || tk.EOS() != 259 || tk.UNK() != -1 || !tk.Special(259) || tk.Special(260) || tk.Kind() != "byte-level BPE" {
		t.Errorf("BOS %d EOS %d UNK %d special %v %v", tk.BOS(), tk.EOS(), tk.UNK(), tk.Special(259), tk.Special(260))
	}
	id := func(s string) int { n, _ := tk.ID(s); return n }
	for _, c := range []struct {
		text string
		ids  []int
	}{
		{"the", []int{257}}, {"12", []int{'1', '2'}}, {"<s>the<|im_end|>", []int{258, 257, 259}}, {"<tool é>", []int{260}}, {"   a", []int{261, 32, 'a'}},
	} {
		want := make([]int, len(c.ids))
		for i, n := range c.ids {
			if want[i] = n; n < 256 {
				want[i] = id(byteLetters[n])
			}
		}
		if got := tk.Encode(c.text, true); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", c.text, got, want)
		}
		if got := tk.Decode(want, false); got != c.text {
			t.Errorf("%v: got %q, want %q", want, got, c.text)
		}
	}
	yes, no := true, false
	v.AddBOS, v.AddEOS = &yes, &yes
	if got, want := must(t)(FromGGUF(v)).Encode("the", true), []int{258, 257, 259}; !slices.Equal(got, want) {
		t.Errorf("with BOS and EOS: got %v, want %v", got, want)
	}
	v.AddBOS, v.AddEOS = nil, nil
	v.Pre = "llama-bpe"
	if got, want := must(t)(FromGGUF(v)).Encode("the", true), []int{258, 257}; !slices.Equal(got, want) {
		t.Errorf("like Llama 3: got %v, want %v", got, want)
	}
	v.AddBOS = &no
	if got, want := must(t)(FromGGUF(v)).Encode("the", true), []int{257}; !slices.Equal(got, want) {
		t.Errorf("without BOS: got %v, want %v", got, want)
	}
	v.Name = "Phi-3 mini"
	if got, want := must(t)(FromGGUF(v)).Encode("<|im_end|> \nthe", true), []int{259, 257}; !slices.Equal(got, want) {
		t.Errorf("Phi-3: got %v, want %v", got, want)
	}

	for _, pre := range []string{"", "default", "gpt-2", "qwen2", "llama-bpe", "smollm", "falcon", "deepseek-llm", "deepseek-coder", "deepseek-v3",
		"tekken", "gpt-4o", "smaug-bpe", "command-r"} {
		v := smallGGUF()
		v.Pre = pre
		tk := must(t)(FromGGUF(v))
		text := "Hello  wörld, it's 12345 o'clock!\n\n 你好\u3000ok "
		if got := tk.Decode(tk.Encode(text, false), false); got != text {
			t.Errorf("pre-tokenizer %q: round trip gives %q", pre, got)
		}
	}

	spm := GGUFVocab{Model: "llama", Tokens: []string{"<unk>", "<s>", "▁", "a", "▁a"}, Scores: []float32{0, 0, -3, -2, -1}, Types: []int32{2, 3, 1, 1, 1},
		BOS: 1, EOS: -1, UNK: 0, PAD: -1}
	tk = must(t)(FromGGUF(spm))
	if got, want := tk.Encode("a<s>a", true), []int{1, 4, 1, 4}; !slices.Equal(got, want) {
		t.Errorf("llama: got %v, want %v", got, want)
	}
	spm.AddSpacePrefix = &no
	if got, want := must(t)(FromGGUF(spm)).Encode("a<s>a", true), []int{1, 3, 1, 3}; !slices.Equal(got, want) {
		t.Errorf("llama without prefix: got %v, want %v", got, want)
	}
	t5 := spm
	t5.Model, t5.EOS, t5.AddSpacePrefix, t5.RemoveExtraWhitespaces = "t5", 1, &yes, &yes
	if got, want := must(t)(FromGGUF(t5)).Encode("  a  a ", true), []int{4, 4, 1}; !slices.Equal(got, want) {
		t.Errorf("t5: got %v, want %v", got, want)
	}

	for _, c := range []struct {
		name   string
		change func(v *GGUFVocab)
		want   string
	}{
		{"nothing", func(v *GGUFVocab) { *v = GGUFVocab{} }, "has no tokens"},
		{"model", func(v *GGUFVocab) { v.Model = "bert" }, `model "bert" is not supported`},
		{"pre", func(v *GGUFVocab) { v.Pre = "foo" }, `pre-tokenizer "foo" is not supported`},
		{"BOS", func(v *GGUFVocab) { v.BOS = 5000 }, "BOS: ID 5000 is not in the vocabulary"},
		{"EOS", func(v *GGUFVocab) { v.EOS = -2 }, "EOS: ID -2 is not in the vocabulary"},
		{"types", func(v *GGUFVocab) { v.Types = v.Types[1:] }, "token types"},
		{"scores", func(v *GGUFVocab) { v.Scores = make([]float32, 3) }, "3 scores"},
		{"no scores", func(v *GGUFVocab) { v.Model = "llama" }, "has no scores"},
		{"merge", func(v *GGUFVocab) { v.Merges = []string{"ab"} }, `merge 0: "ab" is not two pieces`},
		{"empty merge", func(v *GGUFVocab) { v.Merges = []string{""} }, `merge 0: "" is not two pieces`},
		{"unknown merge", func(v *GGUFVocab) { v.Merges = []string{"a q"} }, `merge 0: "aq" is not in the vocabulary`},
		{"twice", func(v *GGUFVocab) { v.Tokens[0] = "a" }, `are both "a"`},
		{"UTF-8", func(v *GGUFVocab) { v.Tokens[0] = "\xff" }, "token 0: is not UTF-8"},
	} {
		v := smallGGUF()
		c.change(&v)
		_, err := FromGGUF(v)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "tokenizer: GGUF vocabulary: ") {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

func TestLoad(t *testing.T) {
	spm := string(smallSPM())
	for _, c := range []struct {
		name       string
		files      map[string]string
		text       string
		ids, plain []int // with special tokens, and without
		bos, eos   int
	}{
		{"model alone", map[string]string{"tokenizer.model": spm}, "a<s>b[INST]", []int{1, 5, 6, 1, 5, 7, 3}, []int{5, 6, 1, 5, 7, 3}, 1, 2},
		{"config", map[string]string{"tokenizer.model": spm,
			"tokenizer_config.json": `{"add_bos_token": false, "add_eos_token": true, "legacy": false, "eos_token": {"content": "[INST]"}}`},
			"a<s>b", []int{5, 6, 1, 7, 3}, []int{5, 6, 1, 7}, 1, 3},
		{"renamed", map[string]string{"tokenizer.model": spm,
			"tokenizer_config.json": `{"added_tokens_decoder": {"4": {"content": "<|im_start|>", "special": true}, "12": {"content": "<new>", "rstrip": true}}}`},
			"<|im_start|><new> a<user>", []int{1, 4, 12, 5, 6, 4}, []int{4, 12, 5, 6, 4}, 1, 2},
		{"added", map[string]string{"tokenizer.model": spm, "added_tokens.json": `{"<pad>": 10}`, "special_tokens_map.json": `{"pad_token": "<pad>"}`},
			"<pad>a", []int{1, 10, 5, 6}, []int{10, 5, 6}, 1, 2},
		{"json before model", map[string]string{"tokenizer.model": spm, "tokenizer_config.json": `{"bos_token": "th", "eos_token": null}`,
			"tokenizer.json": string(byteSpec().json(t))}, "the", []int{257}, []int{257}, 256, -1},
		{"tiktoken", map[string]string{"tokenizer.model": string(smallTiktoken("ab"))}, "ab<|eot_id|>", []int{257, 256, 257 + 9}, []int{256, 257 + 9}, 257, 258},
		{"tiktoken renamed", map[string]string{"tokenizer.model": string(smallTiktoken("ab")), "tokenizer_config.json": `{"eos_token": "<|mine|>",
			"added_tokens_decoder": {"259": {"content": "<|mine|>", "special": true}, "270": {"content": "<|eot_id|>", "special": true}}}`},
			"ab<|mine|><|eot_id|>", []int{257, 256, 259, 270}, []int{256, 259, 270}, 257, 259},
		{"DeBERTa", map[string]string{"spm.model": pbPiece("[PAD]", 0, 3) + pbPiece("[CLS]", 0, 3) + pbPiece("[SEP]", 0, 3) + pbPiece("[UNK]", 0, 2) +
			pbPiece("▁a", -1, 1) + pbPiece("b", -2, 1) + pbPiece("▁", -3, 1)}, "  a xb [MASK]", []int{1, 4, 6, 3, 5, 7, 2}, []int{4, 6, 3, 5, 7}, 1, 2},
	} {
		dir := fstest.MapFS{}
		for name, data := range c.files {
			dir[name] = &fstest.MapFile{Data: []byte(data)}
		}
		tk, err := Load(dir)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := tk.Encode(c.text, true); !slices.Equal(got, c.ids) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.ids)
		}
		if got := tk.Encode(c.text, false); !slices.Equal(got, c.plain) {
			t.Errorf("%s, without special tokens: got %v, want %v", c.name, got, c.plain)
		}
		if tk.BOS() != c.bos || tk.EOS() != c.eos {
			t.Errorf("%s: BOS %d, EOS %d, want %d, %d", c.name, tk.BOS(), tk.EOS(), c.bos, c.eos)
		}
		for _, id := range tk.EncodeOrdinary(c.text) {
			if tk.Special(id) && id != tk.UNK() {
				t.Errorf("%s: EncodeOrdinary gives special token %d", c.name, id)
			}
		}
	}

	for _, c := range []struct{ name, file, data, want string }{
		{"nothing", "config.json", "{}", "there is no tokenizer.json"},
		{"config", "tokenizer_config.json", "{", "tokenizer_config.json: "},
		{"map", "special_tokens_map.json", `{"bos_token": 1}`, "special_tokens_map.json: "},
		{"json", "tokenizer.json", "{}", "tokenizer.json: "},
		{"model", "tokenizer.model", "", "tokenizer.model: has no pieces"},
		{"ID", "tokenizer_config.json", `{"added_tokens_decoder": {"x": {"content": "a"}}}`, `added_tokens_decoder: "x" is not an ID`},
		{"large ID", "added_tokens.json", `{"a": 99999999999}`, "ID 99999999999 is out of range"},
	} {
		dir := fstest.MapFS{c.file: {Data: []byte(c.data)}}
		if c.name == "ID" || c.name == "large ID" {
			dir["tokenizer.model"] = &fstest.MapFile{Data: smallSPM()}
		}
		_, err := Load(dir)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), "tokenizer: ") != 1 {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	if _, err := Load(failing{}); err == nil || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("a file system that fails: got %v", err)
	}
}

// failing is a file system that cannot read.
type failing struct{}

func (failing) Open(string) (fs.File, error) { return nil, fmt.Errorf("no disk") }
