package tokenizer

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A spec is a small tokenizer.json in the making.
type spec map[string]any

// byteSpec is byte-level BPE of the 256 bytes, with "th", "the" and " the".
func byteSpec() spec {
	vocab := map[string]int{}
	for _, l := range byteLetters {
		vocab[l] = len(vocab)
	}
	for _, p := range []string{"th", "the", "Ġthe"} {
		vocab[p] = len(vocab)
	}
	return spec{
		"model":         map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{"t h", "th e", "Ġ the"}},
		"pre_tokenizer": map[string]any{"type": "ByteLevel", "add_prefix_space": false},
		"decoder":       map[string]any{"type": "ByteLevel"},
	}
}

// with is s with a value in place of another; model.x is x of the model.
func (s spec) with(key string, value any) spec {
	out := spec{}
	for k, v := range s {
		out[k] = v
	}
	if k, ok := strings.CutPrefix(key, "model."); ok {
		m := map[string]any{}
		for k, v := range s["model"].(map[string]any) {
			m[k] = v
		}
		m[k] = value
		out["model"] = m
		return out
	}
	out[key] = value
	return out
}

func (s spec) json(t testing.TB) []byte {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s spec) parse(t testing.TB) *Tokenizer {
	t.Helper()
	return must(t)(ParseJSON(s.json(t)))
}

// tok is an added token of a spec.
func tok(content string, id int, options ...string) map[string]any {
	m := map[string]any{"content": content, "id": id, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}
	for _, o := range options {
		m[o] = m[o] == false
	}
	return m
}

func TestAccessors(t *testing.T) {
	s := byteSpec().with("added_tokens", []any{tok("<s>", 259), tok("<x>", 260, "special")}).with("model.unk_token", "<s>").
		with("post_processor", map[string]any{"type": "TemplateProcessing",
			"single":         []any{map[string]any{"SpecialToken": map[string]any{"id": "<s>", "type_id": 0}}, map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}},
			"special_tokens": map[string]any{"<s>": map[string]any{"id": "<s>", "ids": []int{259}, "tokens": []string{"<s>"}}}})
	tk := s.parse(t)
	if got, want := tk.Kind(), "byte-level BPE"; got != want {
		t.Errorf("Kind: got %q, want %q", got, want)
	}
	if got, want := tk.Size(), 261; got != want {
		t.Errorf("Size: got %d, want %d", got, want)
	}
	if tk.BOS() != 259 || tk.EOS() != -1 || tk.UNK() != -1 || tk.PAD() != -1 {
		t.Errorf("BOS %d EOS %d UNK %d PAD %d", tk.BOS(), tk.EOS(), tk.UNK(), tk.PAD())
	}
	for _, c := range []struct {
		id      int
		piece   string
		ok      bool
		special bool
	}{
		{258, "Ġthe", true, false}, {259, "<s>", true, true}, {260, "<x>", true, false},
		{261, "", false, false}, {-1, "", false, false}, {1 << 40, "", false, false}, {259 + 1<<32, "", false, false},
	} {
		piece, ok := tk.Token(c.id)
		if piece != c.piece || ok != c.ok || tk.Special(c.id) != c.special {
			t.Errorf("ID %d: got %q, %v, special %v; want %q, %v, %v", c.id, piece, ok, tk.Special(c.id), c.piece, c.ok, c.special)
		}
		if !c.ok {
			continue
		}
		if id, ok := tk.ID(c.piece); id != c.id || !ok {
			t.Errorf("ID of %q: got %d, %v, want %d", c.piece, id, ok, c.id)
		}
	}
	if id, ok := tk.ID("nothing"); id != -1 || ok {
		t.Errorf("ID of a piece that is not there: got %d, %v", id, ok)
	}
	if got, want := tk.Encode("the", true), []int{259, 257}; !slices.Equal(got, want) {
		t.Errorf("Encode: got %v, want %v", got, want)
	}
	if got, want := tk.Encode("", true), []int{259}; !slices.Equal(got, want) {
		t.Errorf("Encode of nothing: got %v, want %v", got, want)
	}
	if got := tk.Encode("", false); got == nil || len(got) != 0 {
		t.Errorf("Encode of nothing: got %v", got)
	}
	if got, want := tk.Decode([]int{259, 257, 1 << 20, -5, 260, 258}, true), "the<x> the"; got != want {
		t.Errorf("Decode: got %q, want %q", got, want)
	}
	if got, want := tk.Decode([]int{259, 257}, false), "<s>the"; got != want {
		t.Errorf("Decode: got %q, want %q", got, want)
	}
}

// TestEncodeOrdinary: what is not plain is not recognised, in whatever way the
// model could come upon it.
func TestEncodeOrdinary(t *testing.T) {
	plain := []any{tok("<s>", 259), tok("<tool>", 260, "special"), tok("你", 261, "special"), tok("\n\n", 262, "special"),
		tok("→", 263, "special"), tok("THE", 264, "special")}
	s := byteSpec().with("added_tokens", plain)
	for _, c := range []struct {
		text string
		want string // what it decodes to when every ID is special or added
	}{
		{"<s>", ""}, {"a<s>b", ""}, {"<tool>", ""}, {"你", "你"}, {"a\n\nb", "\n\n"}, {"→<s>", "→"}, {"THE", "THE"},
	} {
		tk := s.parse(t)
		var added string
		for _, id := range tk.EncodeOrdinary(c.text) {
			if id >= 259 {
				added += tk.Decode([]int{id}, false)
			}
		}
		if added != c.want {
			t.Errorf("%q: got added tokens %q, want %q", c.text, added, c.want)
		}
		if got := tk.Decode(tk.EncodeOrdinary(c.text), true); got != c.text {
			t.Errorf("%q: decodes to %q", c.text, got)
		}
	}

	// A model that would make a special token by merging, by taking a word
	// whole, or as a character.
	vocab := map[string]int{"<unk>": 0, "a": 1, "b": 2, "ab": 3, "abab": 4, "c": 5}
	m := map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{"a b", "ab ab"}, "unk_token": "<unk>", "ignore_merges": true}
	tk := spec{"model": m, "added_tokens": []any{tok("abab", 4), tok("c", 5), tok("<unk>", 0)}}.parse(t)
	for _, c := range []struct {
		text          string
		ids, ordinary []int
	}{
		{"abab", []int{4}, []int{3, 3}}, {"ababab", []int{4, 3}, []int{3, 3, 3}}, {"c", []int{5}, []int{0}}, {"<unk>", []int{0}, []int{0, 0, 0, 0, 0}},
	} {
		if got := tk.Encode(c.text, false); !slices.Equal(got, c.ids) {
			t.Errorf("Encode %q: got %v, want %v", c.text, got, c.ids)
		}
		if got := tk.EncodeOrdinary(c.text); !slices.Equal(got, c.ordinary) {
			t.Errorf("EncodeOrdinary %q: got %v, want %v", c.text, got, c.ordinary)
		}
	}

	u := map[string]any{"type": "Unigram", "vocab": []any{[]any{"<unk>", 0}, []any{"<s>", 0}, []any{"<", -3}, []any{"s", -3}, []any{">", -3}}, "unk_id": 0}
	tk = spec{"model": u, "added_tokens": []any{tok("<s>", 1)}}.parse(t)
	if got, want := tk.Encode("<s>", false), []int{1}; !slices.Equal(got, want) {
		t.Errorf("Encode: got %v, want %v", got, want)
	}
	if got, want := tk.EncodeOrdinary("<s>"), []int{2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("EncodeOrdinary: got %v, want %v", got, want)
	}
}

// TestConcurrent encodes in several goroutines at once and compares; the race
// detector looks on.
func TestConcurrent(t *testing.T) {
	g := readGolden(t)
	for _, name := range []string{"Llama", "Llama 3", "Unigram", "DeepSeek"} {
		i := slices.IndexFunc(g.Cases, func(c goldenCase) bool { return c.Name == name })
		tk := must(t)(ParseJSON(g.json(t, &g.Cases[i])))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for n := range 200 {
					k := n % len(g.Texts)
					if got := tk.Encode(g.Texts[k], true); !slices.Equal(got, g.Cases[i].IDs[k]) {
						t.Errorf("%s: %q: got %v, want %v", name, g.Texts[k], got, g.Cases[i].IDs[k])
						return
					}
					tk.EncodeOrdinary(g.Texts[k])
					tk.Decode(g.Cases[i].IDs[k], true)
				}
			})
		}
		wg.Wait()
	}
}

// TestInvalidText: text that is not UTF-8 is encoded as if its faults were
// U+FFFD.
func TestInvalidText(t *testing.T) {
	tk := byteSpec().parse(t)
	for _, c := range [][2]string{
		{"\xff", "\uFFFD"}, {"a\xe4\xbdb", "a\uFFFDb"}, {"\xe4\xbd\xa0\xe4", "\u4f60\uFFFD"}, {"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"}, {"\xc0\x80", "\uFFFD\uFFFD"},
	} {
		for _, got := range [][]int{tk.Encode(c[0], false), tk.EncodeOrdinary(c[0])} {
			if want := tk.Encode(c[1], false); !slices.Equal(got, want) {
				t.Errorf("%q: got %v, want %v", c[0], got, want)
			}
		}
	}
}

// TestLongText: time grows in proportion, or nearly so, to the length of a
// text, even if it is one word.
func TestLongText(t *testing.T) {
	g := readGolden(t)
	random := rand.New(rand.NewPCG(1, 2))
	letters := make([]byte, 1<<17)
	for i := range letters {
		letters[i] = "theofandqui "[random.IntN(11)]
	}
	texts := map[string]string{
		"letters": string(letters), "same": strings.Repeat("o", 1<<17), "spaces": strings.Repeat(" ", 1<<17),
		"newlines": strings.Repeat("\n ", 1<<16), "special": strings.Repeat("<s>", 1<<15), "unknown": strings.Repeat("\u4e00", 1<<16),
		"marks": "a" + strings.Repeat("\u0301\u0327", 1<<15), "punctuation": strings.Repeat("!'s", 1<<16),
	}
	for _, c := range g.Cases {
		if !slices.Contains([]string{"Llama", "Llama 3", "Qwen 2", "Unigram", "Metaspace first false", "Whitespace", "normalizer NFC"}, c.Name) {
			continue
		}
		tk := must(t)(ParseJSON(g.json(t, &c)))
		for name, text := range texts {
			start := time.Now()
			ids := tk.Encode(text, true)
			tk.Decode(ids, false)
			// A quadratic method would take minutes.
			d := time.Since(start)
			t.Logf("%s, %s: %v", c.Name, name, d)
			if d > 20*time.Second {
				t.Errorf("%s, %s: took %v for %d bytes", c.Name, name, d, len(text))
			}
		}
	}
}

func ExampleTokenizer_Encode() {
	tk, err := ParseJSON([]byte(`{
		"model": {"type": "BPE", "unk_token": "<unk>",
			"vocab": {"<unk>": 0, "<s>": 1, "a": 2, "b": 3, "ab": 4}, "merges": [["a", "b"]]},
		"added_tokens": [{"id": 1, "content": "<s>", "special": true}]
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(tk.Encode("<s>abb", false))
	fmt.Println(tk.EncodeOrdinary("<s>abb"))
	// Output:
	// [1 4 3]
	// [0 0 0 4 3]
}
