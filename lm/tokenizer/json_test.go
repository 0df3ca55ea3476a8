package tokenizer

import (
	"encoding/base64"
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// object is a JSON object.
type object = map[string]any

func TestParseJSONErrors(t *testing.T) {
	base := byteSpec()
	model := func(vocab any, merges any) object { return object{"type": "BPE", "vocab": vocab, "merges": merges} }
	list := func(c object, n int) []any {
		all := make([]any, n)
		for i := range all {
			all[i] = c
		}
		return all
	}
	twice := object{"type": "Replace", "pattern": object{"String": "a"}, "content": "aa"}
	deep := object{"type": "Lowercase"}
	for range 1000 {
		deep = object{"type": "Sequence", "normalizers": []any{deep}}
	}
	for _, c := range []struct {
		name string
		spec spec
		want string
	}{
		{"no model", spec{}, "has no model"},
		{"no vocab", spec{"model": object{"type": "BPE"}}, "vocab is not an object of integers"},
		{"model", base.with("model.type", "WordPiece"), "model WordPiece: is not supported"},
		{"word level", base.with("model.type", "WordLevel"), "model WordLevel: is not supported"},
		{"normalizer", base.with("normalizer", object{"type": "Rot13"}), "normalizer \"Rot13\": is not supported"},
		{"in a sequence", base.with("normalizer", object{"type": "Sequence", "normalizers": []any{object{"type": "Foo"}}}), "normalizer Foo: is not supported"},
		{"null", base.with("normalizer", object{"type": "Sequence", "normalizers": []any{nil}}), "has an element null"},
		{"no type", base.with("pre_tokenizer", object{"pattern": 1}), "pre_tokenizer without a type: is not supported"},
		{"pre-tokenizer", base.with("pre_tokenizer", object{"type": "UnicodeScripts"}), "pre_tokenizer UnicodeScripts: is not supported"},
		{"fixed length", base.with("pre_tokenizer", object{"type": "FixedLength", "length": 5}), "pre_tokenizer FixedLength: is not supported"},
		{"CTC", base.with("decoder", object{"type": "CTC"}), "decoder CTC: is not supported"},
		{"WordPiece", base.with("decoder", object{"type": "Sequence", "decoders": []any{object{"type": "WordPiece"}}}), "decoder WordPiece: is not supported"},
		{"BPEDecoder", base.with("decoder", object{"type": "BPEDecoder"}), "decoder BPEDecoder: is not supported"},
		{"post-processor", base.with("post_processor", object{"type": "Foo"}), "post_processor Foo: is not supported"},
		{"behavior", base.with("pre_tokenizer", object{"type": "Split", "pattern": object{"String": "a"}, "behavior": "Eaten"}), `behavior "Eaten" is not supported`},
		{"pattern", base.with("pre_tokenizer", object{"type": "Split", "pattern": "a", "behavior": "Removed"}), "has no pattern"},
		{"regex", base.with("pre_tokenizer", object{"type": "Split", "pattern": object{"Regex": "(a"}, "behavior": "Removed"}), `pattern "(a": `},
		{"metaspace", base.with("pre_tokenizer", object{"type": "Metaspace", "replacement": "ab"}), "replacement is not one character"},
		{"scheme", base.with("pre_tokenizer", object{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "last"}), `prepend_scheme "last" is not supported`},
		{"schemes", base.with("decoder", object{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "add_prefix_space": false}), "contradicts"},
		{"strip", base.with("decoder", object{"type": "Strip", "content": " ", "start": -1}), "negative"},
		{"charsmap", base.with("normalizer", object{"type": "Precompiled", "precompiled_charsmap": "!"}), "precompiled_charsmap: "},
		{"charsmap size", base.with("normalizer", object{"type": "Precompiled", "precompiled_charsmap": "/////wAAAAA="}), "does not fit"},
		{"template", base.with("post_processor", object{"type": "TemplateProcessing", "single": []any{}}), "no sequence A"},
		{"template B", base.with("post_processor", object{"type": "TemplateProcessing", "single": []any{object{"Sequence": object{"id": "B"}}}}), "single is not"},
		{"template token", base.with("post_processor", object{"type": "TemplateProcessing", "single": []any{object{"SpecialToken": object{"id": "x"}}}}), `special token "x": has no IDs`},
		{"template ID", base.with("post_processor", object{"type": "BertProcessing", "cls": []any{"a", 1 << 40}, "sep": []any{"a", 1}}), "ID 1099511627776 is out of range"},
		{"template missing", base.with("post_processor", object{"type": "BertProcessing", "cls": []any{"a", 5000}, "sep": []any{"a", 1}}), "ID 5000 is not in the vocabulary"},
		{"two processors", base.with("post_processor", object{"type": "Sequence", "processors": list(object{"type": "BertProcessing", "cls": []any{"a", 5}, "sep": []any{"a", 1}}, 2)}), "adds tokens already"},
		{"same ID", spec{"model": model(object{"a": 1, "b": 1}, []any{})}, `pieces "a" and "b" both have ID 1`},
		{"negative ID", spec{"model": model(object{"a": -1}, []any{})}, `piece "a": ID -1 is out of range`},
		{"large ID", spec{"model": model(object{"a": 1 << 31}, []any{})}, "ID 2147483648 is out of range"},
		{"fraction", spec{"model": model(object{"a": 1.5}, []any{})}, "vocab is not an object of integers"},
		{"merge", spec{"model": model(object{"a": 1}, []any{"a b"})}, `merge 0: "b" is not in the vocabulary`},
		{"merged", spec{"model": model(object{"a": 1, "b": 2}, []any{"a b"})}, `merge 0: "ab" is not in the vocabulary`},
		{"merge of three", spec{"model": model(object{"a": 1}, []any{"a a a"})}, `merge 0: "a a a" is not two pieces`},
		{"merge of one", spec{"model": model(object{"a": 1}, []any{[]any{"a"}})}, "merge 0: is not two pieces"},
		{"merges", spec{"model": model(object{"a": 1}, []any{"a a", []any{"a", "a"}})}, "merges are not a list"},
		{"unk_id", spec{"model": object{"type": "Unigram", "vocab": []any{[]any{"a", 0}}, "unk_id": 1}}, "unk_id 1: is not in the vocabulary"},
		{"unigram", spec{"model": object{"type": "Unigram", "vocab": []any{[]any{"a", 0, 1}}}}, "vocab is not a list of pieces with scores"},
		{"unigram piece", spec{"model": object{"type": "Unigram", "vocab": []any{[]any{strings.Repeat("a", 9000), 0}}}}, "piece 0: is 9000 bytes long"},
		{"added ID", base.with("added_tokens", []any{tok("<s>", 1<<40)}), "ID 1099511627776 is out of range"},
		{"added place", base.with("added_tokens", []any{tok("<s>", 300)}), `added token "<s>": the file gives it ID 300, its place is 259`},
		{"added twice", base.with("added_tokens", []any{tok("<s>", 259), tok("<s>", 259, "lstrip")}), `added token "<s>": is there twice`},
		{"added length", base.with("added_tokens", []any{tok(strings.Repeat("x", 5000), 259)}), "is 5000 bytes long"},
		{"added growth", base.with("added_tokens", []any{tok(strings.Repeat("a", 1000), 259, "normalized")}).with("normalizer", object{"type": "Sequence", "normalizers": list(twice, 11)}), "bytes long, at most 1024 are allowed"},
		{"growth", base.with("normalizer", object{"type": "Sequence", "normalizers": list(twice, 40)}), "more than 4096 times longer"},
		{"growth of words", base.with("pre_tokenizer", object{"type": "Sequence", "pretokenizers": list(object{"type": "ByteLevel"}, 40)}), "more than 4096 times longer"},
		{"growth of text", base.with("decoder", object{"type": "Sequence", "decoders": list(twice, 40)}), "more than 4096 times longer"},
		{"many", base.with("normalizer", object{"type": "Sequence", "normalizers": list(object{"type": "StripAccents"}, 100)}), "more than 64 elements"},
		{"deep", base.with("normalizer", deep), "elements"},
		{"insert", base.with("normalizer", object{"type": "Prepend", "prepend": strings.Repeat("x", 2000)}), "puts in 2000 bytes"},
	} {
		_, err := ParseJSON(c.spec.json(t))
		if err == nil {
			t.Errorf("%s: no error", c.name)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, c.want) || !strings.HasPrefix(msg, "tokenizer: ") || strings.Count(msg, "tokenizer: ") != 1 || strings.Contains(msg, "\n") {
			t.Errorf("%s:\n got %s\nwant %s", c.name, msg, c.want)
		}
	}
	for _, b := range []string{"", "{", "[]", "null", `"a"`, strings.Repeat("[", 100000), `{"model":` + strings.Repeat(`{"a":`, 20000)} {
		if _, err := ParseJSON([]byte(b)); err == nil {
			t.Errorf("%.20q: no error", b)
		}
	}
}

// TestSparseIDs: large IDs take no memory.
func TestSparseIDs(t *testing.T) {
	var before, after runtime.MemStats
	s := spec{"model": object{"type": "BPE", "vocab": object{"a": 0, "b": maxID, "ab": 1 << 30}, "merges": []any{[]any{"a", "b"}}}}
	b := s.json(t)
	runtime.ReadMemStats(&before)
	tk := must(t)(ParseJSON(b))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("took %d bytes", n)
	}
	if got, want := tk.Encode("abba", false), []int{1 << 30, maxID, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if p, ok := tk.Token(1 << 30); p != "ab" || !ok || tk.Size() != maxID+1 {
		t.Errorf("Token %q, %v; Size %d", p, ok, tk.Size())
	}
	if _, ok := tk.Token(5); ok {
		t.Error("ID 5 has a piece")
	}
}

// TestOldFiles: types that were not written once, and options that are ignored.
func TestOldFiles(t *testing.T) {
	tk := spec{"model": object{"vocab": object{"a": 0, "b": 1, "ab": 2}, "merges": []string{"#version: 0.2", "a b"}, "dropout": 0.5}}.parse(t)
	if got, want := tk.Encode("abab", false), []int{2, 2}; !slices.Equal(got, want) {
		t.Errorf("BPE: got %v, want %v", got, want)
	}
	if got, want := tk.Decode([]int{2, 0}, false), "ab a"; got != want {
		t.Errorf("without a decoder: got %q, want %q", got, want)
	}
	tk = spec{"model": object{"vocab": []any{[]any{"a", -1}, []any{"aa", -1.5}}}}.parse(t)
	if got, want := tk.Encode("aaab", false), []int{0, 1}; !slices.Equal(got, want) && !slices.Equal(got, []int{1, 0}) {
		t.Errorf("Unigram: got %v, want %v", got, want)
	}
	never := object{"type": "Metaspace", "replacement": "▁", "add_prefix_space": false}
	tk = spec{"model": object{"type": "BPE", "vocab": object{"a": 0, "▁": 1}, "merges": []any{}}, "pre_tokenizer": never, "decoder": never}.parse(t)
	if got, want := tk.Encode("a a", false), []int{0, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("Metaspace: got %v, want %v", got, want)
	}
	if got, want := tk.Decode([]int{1, 0, 1}, false), " a "; got != want {
		t.Errorf("Metaspace: got %q, want %q", got, want)
	}
}

// TestMergePaths compares the two ways of merging with the definition.
func TestMergePaths(t *testing.T) {
	g := readGolden(t)
	for _, c := range g.Cases {
		if c.Name != "Llama" && c.Name != "ByteLevel False False" {
			continue
		}
		m := must(t)(ParseJSON(g.json(t, &c))).model.(*bpe)
		for _, text := range g.Texts {
			if m.bytes == nil {
				text = strings.ReplaceAll(" "+text, " ", meta)
			}
			text = strings.Repeat(text, 1+maxShort/max(1, len(text)))
			run := func(merge func(b *bpeState, word string, ordinary bool)) []int32 {
				var b bpeState
				m.symbolsByID(&b, text, false)
				if merge != nil && len(b.symbols) > 0 {
					merge(&b, text, false)
				}
				var ids []int32
				for _, s := range b.symbols {
					if s.len > 0 {
						ids = append(ids, s.id)
					}
				}
				return ids
			}
			want := run(nil)
			for {
				at, best := -1, merge{rank: noMerge}
				for i := range len(want) - 1 {
					if v, ok := m.pairs.get(uint64(want[i])<<32 | uint64(want[i+1])); ok && uint32(v>>32) < best.rank {
						at, best = i, merge{uint32(v >> 32), int32(v & (barredBit - 1))}
					}
				}
				if at < 0 {
					break
				}
				want = slices.Replace(want, at, at+2, best.id)
			}
			if got := run(m.mergeLong); !slices.Equal(got, want) {
				t.Errorf("long %q: got %v, want %v", text, got, want)
			}
			if len(text) <= maxShort {
				if got := run(m.mergeShort); !slices.Equal(got, want) {
					t.Errorf("short %q: got %v, want %v", text, got, want)
				}
			}
		}
	}
}

// TestRegexpBomb: a pattern that takes exponential time ends, and what it did
// not get to stays in one piece.
func TestRegexpBomb(t *testing.T) {
	s := byteSpec().with("pre_tokenizer", object{"type": "Sequence", "pretokenizers": []any{
		object{"type": "Split", "pattern": object{"Regex": `(?:a|aa|a+)+\z`}, "behavior": "Isolated"},
		object{"type": "Split", "pattern": object{"Regex": `(x+x+)+y`}, "behavior": "Isolated"},
		object{"type": "ByteLevel", "use_regex": false, "add_prefix_space": false},
	}})
	tk := s.parse(t)
	text := strings.Repeat("the"+strings.Repeat("a", 40)+"b"+strings.Repeat("x", 40), 50)
	start := time.Now()
	got := tk.Encode(text, false)
	if d := time.Since(start); d > 15*time.Second {
		t.Errorf("took %v", d)
	}
	if tk.Decode(got, false) != text {
		t.Error("the text is not what it was")
	}
}

// smallCharsmap is a table that replaces "A" by "a", "é" by "e" and "AB" by
// "<ab>".
func smallCharsmap() []byte {
	texts := "a\x00e\x00<ab>\x00"
	// Each node has a block of 256 units of its own, at its offset; the unit of
	// the value is the first of the block.
	units := make([]uint32, 256*8)
	at := func(node uint32) uint32 { return node * 256 }
	link := func(from uint32, c byte, to uint32, leaf bool) {
		// A unit's offset is relative to itself: position xor target.
		i := at(from) ^ uint32(c)
		units[i] = (i^at(to))<<10 | uint32(c)
		if leaf {
			units[i] |= 1 << 8
		}
	}
	units[0] = at(1) << 10
	link(1, 'A', 2, true)
	units[at(2)] = 1<<31 | 0
	link(2, 'B', 3, true)
	units[at(3)] = 1<<31 | 4
	link(1, 0xC3, 4, false)
	link(4, 0xA9, 5, true)
	units[at(5)] = 1<<31 | 2
	b := binary.LittleEndian.AppendUint32(nil, uint32(4*len(units)))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint32(b, u)
	}
	return append(b, texts...)
}

func TestCharsmap(t *testing.T) {
	m, err := parseCharsmap(smallCharsmap())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ in, want, graphemes string }{
		{"", "", ""}, {"xAx", "xax", "xax"}, {"ABé", "<ab>e", "aBe"}, {"AAB", "a<ab>", "aaB"}, {"\xc3\xa8", "\xc3\xa8", "\xc3\xa8"},
		{"A\u0301é\u0301", "a\u0301e\u0301", "ae"}, // a short cluster is replaced as a whole
		{"A\u0301\u0301\u0301", "a\u0301\u0301\u0301", "a\u0301\u0301\u0301"},
	} {
		var got strings.Builder
		for text := c.in; text != ""; {
			s, n := m.longest(text)
			got.WriteString(s)
			text = text[n:]
		}
		if got.String() != c.want {
			t.Errorf("%+q: got %+q, want %+q", c.in, got.String(), c.want)
		}
		if got := m.graphemes(c.in); got != c.graphemes {
			t.Errorf("graphemes of %+q: got %+q, want %+q", c.in, got, c.graphemes)
		}
	}
	tk := byteSpec().with("normalizer", object{"type": "Precompiled", "precompiled_charsmap": base64.StdEncoding.EncodeToString(smallCharsmap())}).parse(t)
	if got, want := tk.Decode(tk.Encode("A ABÉé", false), false), "a aBÉe"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
