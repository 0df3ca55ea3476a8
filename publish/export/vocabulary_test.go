package export

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"expo/lm/tokenizer"
)

// byteLevel is a tokenizer.json of byte-level BPE with a pre-tokenizer, a few
// merges and two added tokens.
func byteLevel(pre string, whole bool) string {
	vocab := map[string]int{}
	for i := range 256 {
		vocab[letters(string([]byte{byte(i)}))] = i
	}
	merges := []string{"h e", "l l", "he ll", "Ġ w", "1 2"}
	for _, m := range merges {
		vocab[strings.ReplaceAll(m, " ", "")] = len(vocab)
	}
	v, _ := json.Marshal(vocab)
	m, _ := json.Marshal(merges)
	return fmt.Sprintf(`{"version":"1.0","normalizer":null,"pre_tokenizer":%s,"post_processor":null,"decoder":{"type":"ByteLevel"},
"added_tokens":[{"id":%d,"content":"<|im_end|>","special":true,"normalized":false},{"id":%d,"content":"<tool>","special":false,"normalized":false}],
"model":{"type":"BPE","vocab":%s,"merges":%s,"ignore_merges":%v}}`, pre, len(vocab), len(vocab)+1, v, m, whole)
}

const plainBytes = `{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}`

func splitBy(pattern string) string {
	b, _ := json.Marshal(pattern)
	return `{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":` + string(b) + `},"behavior":"Isolated","invert":false},` + plainBytes + `]}`
}

func TestByteLevel(t *testing.T) {
	for _, c := range []struct {
		pre, json string
		whole     bool
	}{
		{"gpt-2", `{"type":"ByteLevel","add_prefix_space":false}`, false},
		{"smollm", `{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":false}]}`, false},
		{"qwen2", splitBy(qwen2Split), false},
		{"llama-bpe", splitBy(llama3Split), true},
		{"smaug-bpe", splitBy(llama3Split), false},
		{"tekken", splitBy(tekkenSplit), true},
		{"", `{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":false},{"type":"ByteLevel"}]}`, false},
		{"", splitBy(`\d+`), false},
		{"", `{"type":"Sequence","pretokenizers":[{"type":"Whitespace"},{"type":"ByteLevel"}]}`, false},
	} {
		files := fstest.MapFS{
			"tokenizer.json":        {Data: []byte(byteLevel(c.json, c.whole))},
			"tokenizer_config.json": {Data: []byte(`{"eos_token":"<|im_end|>","pad_token":"<|im_end|>"}`)},
		}
		v, notes, err := readVocabulary(files, testRows, []int{261, 262, 5000}, false)
		if c.pre == "" {
			if err == nil {
				t.Errorf("%s: no error", c.json)
			}
			continue
		}
		if err != nil || len(notes) > 0 {
			t.Errorf("%s: %v, %v", c.pre, err, notes)
			continue
		}
		if v.Pre != c.pre || v.Model != "gpt2" || v.EOS != 261 || v.PAD != 261 || v.BOS != -1 || v.eot != 262 || *v.AddBOS || *v.AddEOS {
			t.Errorf("%s: %+v", c.pre, v)
		}
		if len(v.Tokens) != testRows || v.Types[261] != tokenControl || v.Types[262] != tokenUserDefined || v.Types[263] != tokenUnused || v.Types[5] != tokenNormal {
			t.Errorf("%s: %d tokens, types %v", c.pre, len(v.Tokens), v.Types[255:265])
		}
		if !slices.Equal(v.Merges, []string{"h e", "l l", "he ll", "Ġ w", "1 2"}) || v.Scores != nil {
			t.Errorf("%s: merges %q, %d scores", c.pre, v.Merges, len(v.Scores))
		}
	}
}

func TestLlamaJSON(t *testing.T) {
	for _, c := range []struct {
		normalizer string
		prefix     bool
	}{
		{prependSpace, true},
		{`{"type":"Replace","pattern":{"String":" "},"content":"▁"}`, false},
	} {
		files := testFiles(nil)
		files["tokenizer.json"] = &fstest.MapFile{Data: []byte(llamaTokenizer(c.normalizer))}
		v, notes, err := readVocabulary(files, testRows, nil, false)
		if err != nil || len(notes) > 0 {
			t.Fatalf("%v, %v", err, notes)
		}
		if *v.AddSpacePrefix != c.prefix || !*v.AddBOS || *v.AddEOS || v.BOS != 1 || v.EOS != 2 || v.UNK != 0 || v.PAD != -1 || v.eot != -1 {
			t.Errorf("%+v", v)
		}
		for id, want := range map[int]int32{0: tokenUnknown, 1: tokenControl, 2: tokenControl, 3: tokenByte, 258: tokenByte, 259: tokenNormal, 299: tokenUnused} {
			if v.Types[id] != want {
				t.Errorf("token %d is of type %d, want %d", id, v.Types[id], want)
			}
		}
		if a, b := v.Scores[slices.Index(v.Tokens, "▁t")], v.Scores[slices.Index(v.Tokens, "▁the")]; !(a > b) {
			t.Errorf("an earlier merge scores %v, a later one %v", a, b)
		}
	}
}

// spm writes a SentencePiece model file.
func spm(pieces []string, types []int, prefix bool, modelType byte) []byte {
	var b []byte
	message := func(number int, m []byte) []byte {
		out := binary.AppendUvarint(nil, uint64(number<<3|2))
		out = binary.AppendUvarint(out, uint64(len(m)))
		return append(out, m...)
	}
	for i, p := range pieces {
		m := message(1, []byte(p))
		m = append(m, 2<<3|5)
		m = binary.LittleEndian.AppendUint32(m, math.Float32bits(-float32(i)))
		m = append(m, 3<<3, byte(types[i]))
		b = append(b, message(1, m)...)
	}
	b = append(b, message(2, []byte{3 << 3, modelType, 35<<3&0x7F | 0x80, 35 >> 4, 1})...)
	normalizer := []byte{3 << 3, 0, 4 << 3, 0}
	if prefix {
		normalizer[1] = 1
	}
	return append(b, message(3, normalizer)...)
}

func TestSentencePiece(t *testing.T) {
	pieces, types := []string{"<unk>", "<s>", "</s>"}, []int{tokenUnknown, tokenControl, tokenControl}
	for i := range 256 {
		pieces, types = append(pieces, fmt.Sprintf("<0x%02X>", i)), append(types, tokenByte)
	}
	for _, p := range []string{"▁t", "he", "▁the", "▁", "t", "h", "e", "a", "\x00"} {
		pieces, types = append(pieces, p), append(types, tokenNormal)
	}
	pieces, types = append(pieces, "[UNUSED_TOKEN_1]"), append(types, tokenUserDefined)
	last := len(pieces) - 1
	for _, prefix := range []bool{true, false} {
		files := fstest.MapFS{
			"tokenizer.model": {Data: spm(pieces, types, prefix, 2)},
			"tokenizer_config.json": {Data: fmt.Appendf(nil, `{"bos_token":"<s>","eos_token":"</s>","unk_token":"<unk>","pad_token":"</s>",
"added_tokens_decoder":{"%d":{"content":"<|im_end|>","special":true},"%d":{"content":"<extra>","special":false}}}`, last, last+1)},
		}
		v, notes, err := readVocabulary(files, testRows, nil, true)
		if err != nil || len(notes) > 0 {
			t.Fatalf("%v, %v", err, notes)
		}
		if v.Model != "llama" || *v.AddSpacePrefix != prefix || !*v.AddBOS || v.PAD != 2 || v.eot != last {
			t.Errorf("%+v", v)
		}
		if v.Tokens[last-1] != "\U0001F409" || v.Tokens[last] != "<|im_end|>" || v.Types[last] != tokenControl || v.Tokens[last+1] != "<extra>" || v.Types[last+1] != tokenUserDefined {
			t.Errorf("%q, %v", v.Tokens[last-1:last+3], v.Types[last-1:last+3])
		}
	}
	if _, err := spmPieces(spm(pieces, types, true, 1), fstest.MapFS{}); err == nil {
		t.Error("a Unigram model: no error")
	}
}

func TestTiktoken(t *testing.T) {
	var b strings.Builder
	n := 0
	add := func(piece string) {
		fmt.Fprintf(&b, "%s %d\n", base64.StdEncoding.EncodeToString([]byte(piece)), n)
		n++
	}
	for i := range 256 {
		add(string([]byte{byte(i)}))
	}
	for _, p := range []string{"he", "ll", "hell", " w", "\xe6\x97", "日"} {
		add(p)
	}
	files := fstest.MapFS{"tokenizer.model": {Data: []byte(b.String())}}
	v, notes, err := readVocabulary(files, 2000, nil, true)
	if err != nil || len(notes) > 0 {
		t.Fatalf("%v, %v", err, notes)
	}
	want := []string{"h e", "l l", "he ll", "Ġ w", "æ Ĺ", "æĹ ¥"}
	if v.Pre != "llama-bpe" || !slices.Equal(v.Merges, want) || v.Tokens[v.BOS] != "<|begin_of_text|>" || !*v.AddBOS {
		t.Errorf("%s, merges %q, want %q, BOS %q", v.Pre, v.Merges, want, v.Tokens[max(v.BOS, 0)])
	}
}

// TestPublished reads tokenizers of published models. Where llama.cpp cannot do
// what a tokenizer does the number of notes says so.
func TestPublished(t *testing.T) {
	for _, c := range []struct {
		dir, file string
		rows      int
		notes     int
	}{
		{"stories260K/hf", "", 512, 0},
		{"tokenizers/llama2", "tokenizer.model", 32000, 0},
		{"tokenizers/mistral-7b-v0.1_npm-lenml", "", 32000, 0},
		{"tokenizers/mistral-7b-instruct-v0.3", "", 32768, 1}, // a space before the first word only
		{"tokenizers/internlm2", "tokenizer_internlm2.model", 92544, 0},
		{"tokenizers/llama3", "tokenizer.model", 128256, 0},
	} {
		dir := testdata(t, c.dir)
		files := fstest.MapFS{}
		for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				files[name] = &fstest.MapFile{Data: b}
			}
		}
		if c.file != "" {
			delete(files, "tokenizer.json")
			files["tokenizer.model"] = &fstest.MapFile{Data: read(t, filepath.Join(dir, c.file))}
		}
		_, notes, err := readVocabulary(files, c.rows, nil, true)
		if err != nil || len(notes) != c.notes {
			t.Errorf("%s: %v, %q", c.dir, err, notes)
		}
	}
}

// FuzzPieces gives files of tokenizers that nobody has checked.
func FuzzPieces(f *testing.F) {
	f.Add([]byte(llamaTokenizer(prependSpace)))
	f.Add([]byte(byteLevel(splitBy(llama3Split), true)))
	f.Add(spm([]string{"<unk>", "a"}, []int{2, 1}, true, 2))
	f.Add([]byte("YQ== 0\nYg== 1\nYWI= 2\n"))
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":1000000},"merges":["a b"]},"added_tokens":[{"id":-1,"content":"x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, name := range []string{"tokenizer.json", "tokenizer.model"} {
			files := fstest.MapFS{name: {Data: b}}
			v, err := pieces(files)
			if err != nil {
				continue
			}
			if len(v.Tokens) != len(v.Types) || v.Scores != nil && len(v.Scores) != len(v.Tokens) {
				t.Errorf("%d tokens, %d types, %d scores", len(v.Tokens), len(v.Types), len(v.Scores))
			}
			tokenizer.FromGGUF(v)
		}
		readVocabulary(fstest.MapFS{"tokenizer.json": {Data: b}}, 1000, []int{1}, true)
	})
}

func TestLetters(t *testing.T) {
	seen := map[string]bool{}
	for i := range 256 {
		seen[letters(string([]byte{byte(i)}))] = true
	}
	if len(seen) != 256 {
		t.Errorf("%d letters for 256 bytes: %q", len(seen), slices.Sorted(maps.Keys(seen)))
	}
	if got := letters(" \n\x7f\xa1\xad\xff"); got != "ĠĊġ¡Ńÿ" {
		t.Errorf("got %q", got)
	}
}
