package expo

import (
	"maps"
	"slices"
	"testing"
	"testing/fstest"

	"expo/weights/checkpoint"
)

func files(kv ...string) fstest.MapFS {
	fs := fstest.MapFS{}
	for i := 0; i < len(kv); i += 2 {
		fs[kv[i]] = &fstest.MapFile{Data: []byte(kv[i+1])}
	}
	return fs
}

func TestTokens(t *testing.T) {
	for _, tt := range []struct {
		name string
		fs   fstest.MapFS
		want map[int]string
	}{
		{"none", files(), nil},
		{"BPE", files("tokenizer.json", `{"model": {"vocab": {"a": 0, "b": 1}}}`), map[int]string{0: "a", 1: "b"}},
		{"added tokens win", files("tokenizer.json", `{"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 1, "content": "<s>"}, {"id": 2, "content": "</s>"}]}`), map[int]string{0: "a", 1: "<s>", 2: "</s>"}},
		{"unigram", files("tokenizer.json", `{"model": {"vocab": [["<unk>", 0.0], ["x", -1.5]]}}`), map[int]string{0: "<unk>", 1: "x"}},
		{"vocab.json", files("vocab.json", `{"a": 0}`, "added_tokens.json", `{"b": 1}`), map[int]string{0: "a", 1: "b"}},
		{"tokenizer.json before vocab.json", files("vocab.json", `{"a": 0}`, "tokenizer.json", `{"model": {"vocab": {"c": 0}}}`), map[int]string{0: "c"}},
		{"added tokens alone", files("added_tokens.json", `{"b": 1}`), nil},
		{"one id twice", files("vocab.json", `{"b": 0, "a": 0, "c": 0}`), map[int]string{0: "a"}},
		{"not JSON", files("tokenizer.json", `{`), nil},
		{"no vocabulary", files("tokenizer.json", `{"model": {}}`), nil},
		{"a number for a vocabulary", files("tokenizer.json", `{"model": {"vocab": 3}}`), nil},
		{"empty entries", files("tokenizer.json", `{"model": {"vocab": [[], [3], ["x"]]}}`), map[int]string{1: "", 2: "x"}},
	} {
		if got := tokens(tt.fs); !maps.Equal(got, tt.want) || (got == nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestVocabularies(t *testing.T) {
	const tok = "tokenizer.json"
	vocab := func(v string) string { return `{"model": {"vocab": ` + v + `}}` }
	for _, tt := range []struct {
		name         string
		sft, aligned fstest.MapFS
		want         []string
		conflicts    []string
	}{
		{"equal", files(tok, vocab(`{"a": 0}`)), files(tok, vocab(`{ "a" : 0 }`)), nil, nil},
		{"none at all", files(), files(), nil, nil},
		{"added", files(tok, vocab(`{"a": 0}`)), files(tok, vocab(`{"a": 0, "<pad>": 1}`)), []string{`tokenizer: 1 token only in aligned: 1 "<pad>"`}, nil},
		{"removed", files(tok, vocab(`{"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5}`)), files(tok, vocab(`{"a": 0}`)), []string{`tokenizer: 5 tokens only in SFT: 1 "b", 2 "c", 3 "d", 4 "e", …`}, nil},
		{"renamed", files(tok, vocab(`{"a": 0, "b\u001b": 1}`)), files(tok, vocab(`{"a": 0, "c": 1}`)),
			[]string{`tokenizer: 1 id names different tokens, whose rows are mixed: 1 is "b\x1b" in SFT, "c" in aligned`},
			[]string{`tokenizer: 1 id names different tokens, whose rows are mixed: 1 is "b\x1b" in SFT, "c" in aligned`}},
		{"vocab.json", files("vocab.json", `{"a": 0}`), files("vocab.json", `{"b": 0}`),
			[]string{`tokenizer: 1 id names different tokens, whose rows are mixed: 0 is "a" in SFT, "b" in aligned`},
			[]string{`tokenizer: 1 id names different tokens, whose rows are mixed: 0 is "a" in SFT, "b" in aligned`}},
		{"one side alone", files(), files(tok, vocab(`{"a": 0}`)), []string{"the SFT model has no tokenizer.json or vocab.json to compare the vocabularies by"}, nil},
		{"the other alone", files(tok, vocab(`{"a": 0}`)), files(), []string{"the aligned model has no tokenizer.json or vocab.json to compare the vocabularies by"}, nil},
		{"sentencepiece", files("tokenizer.model", "x"), files("tokenizer.model", "y"), []string{"tokenizer.model differs"}, nil},
		{"sentencepiece, equal", files("tokenizer.model", "x"), files("tokenizer.model", "x"), nil, nil},
		{"templates equal in two places", files("tokenizer_config.json", `{"chat_template": "{{x}}"}`), files("chat_template.jinja", "{{x}}"), nil, nil},
		{"templates differ", files("tokenizer_config.json", `{"chat_template": "{{x}}"}`), files("chat_template.jinja", "{{y}}"), []string{"chat template: the two differ; the result has the aligned model's"}, nil},
		{"template only in aligned", files("tokenizer_config.json", `{"chat_template": null}`), files("chat_template.jinja", "{{y}}"), []string{"chat template: only the aligned model has one"}, nil},
		{"template only in SFT", files("chat_template.jinja", "{{y}}"), files("tokenizer_config.json", "["), []string{"chat template: only the SFT model has one"}, nil},
		{"named templates", files("tokenizer_config.json", `{"chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "{{x}}"}]}`), files("chat_template.jinja", "{{x}}"), nil, nil},
	} {
		s, err := checkpoint.New("sft", nil, tt.sft)
		if err != nil {
			t.Fatal(err)
		}
		a, err := checkpoint.New("aligned", nil, tt.aligned)
		if err != nil {
			t.Fatal(err)
		}
		if got := vocabularies(s, a); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if got := VocabularyConflicts(s, a); !slices.Equal(got, tt.conflicts) {
			t.Errorf("%s: conflicts %q, want %q", tt.name, got, tt.conflicts)
		}
	}
}

// FuzzTokens checks that no tokenizer.json makes the comparison panic, and
// that a file equals itself.
func FuzzTokens(f *testing.F) {
	f.Add([]byte(`{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": -1, "content": "x"}]}`))
	f.Add([]byte(`{"model": {"vocab": [["a", 1], [], [null]]}}`))
	f.Add([]byte(`{"model": {"vocab": {"a": 1.5}}}`))
	f.Add([]byte(`{"model": {"vocab": null}, "chat_template": [{}]}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := fstest.MapFS{"tokenizer.json": {Data: b}, "tokenizer_config.json": {Data: b}}
		got := tokens(fs)
		if changed := changedTokens(got, tokens(fs)); changed != nil {
			t.Errorf("differs from itself: %q", changed)
		}
		chatTemplate(fs)
		compareTokens(got, map[int]string{0: "a"})
	})
}
