package local

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"expo/lm/generate/grammar"
	"expo/lm/tokenizer"
)

// vocabularies gives real tokenizers to f, where there are some.
func vocabularies(t testing.TB, f func(name string, tok *tokenizer.Tokenizer)) {
	root := os.Getenv("EXPO_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "shared", "data")
	}
	dirs, _ := filepath.Glob(filepath.Join(root, "tokenizers", "*"))
	for _, dir := range dirs {
		if tok, err := tokenizer.Load(os.DirFS(dir)); err == nil {
			f(filepath.Base(dir), tok)
		}
	}
	if len(dirs) == 0 {
		t.Skip("EXPO_TESTDATA: no tokenizers")
	}
}

// TestTokenBytes sees that the bytes of tokens are what they add to a text.
func TestTokenBytes(t *testing.T) {
	const text = `He said: "naïve", 日本語 🙂 {"a": [1, 2.5e3]}` + "\n\n  x\ty"
	check := func(name string, tok *tokenizer.Tokenizer) {
		bytesOf := tokenBytes(tok)
		ids := tok.Encode(text, false)
		var b strings.Builder
		for _, id := range ids {
			b.Write(bytesOf(id))
		}
		got := strings.TrimPrefix(b.String(), " ")
		if want := strings.TrimPrefix(tok.Decode(ids, false), " "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		for _, id := range []int{tok.BOS(), tok.EOS(), tok.UNK(), tok.Size() + 5} {
			if id >= 0 && len(bytesOf(id)) > 0 {
				t.Errorf("%s: token %d has bytes %q", name, id, bytesOf(id))
			}
		}
	}
	spm, err := tokenizer.ParseSentencePiece(sentencePiece(40))
	if err != nil {
		t.Fatal(err)
	}
	bytesOf := tokenBytes(spm)
	for id, want := range []string{"", "", "", "\xE2", "\x82", "\xAC", "\n", " ", "a", "b"} {
		if got := string(bytesOf(id)); got != want {
			t.Errorf("token %d: %q, want %q", id, got, want)
		}
	}
	vocabularies(t, check)
}

// BenchmarkForm is the time to find the tokens that may come next, at each of
// the tokens of a document, in vocabularies of real models.
func BenchmarkForm(b *testing.B) {
	const schema = `{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"},"tags":{"type":"array","items":{"type":"string"}},
		"boss":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},"required":["name","age","tags","boss"],"additionalProperties":false}`
	const doc = `{"name": "Ann of Green Gables", "age": 31, "tags": ["first tag", "second, \"quoted\"", "3"], "boss": {"name": "Bob", "age": 50, "tags": [], "boss": null}}`
	vocabularies(b, func(name string, tok *tokenizer.Tokenizer) {
		b.Run(name, func(b *testing.B) {
			start := time.Now()
			v := grammar.NewVocabulary(tok.Size(), tokenBytes(tok))
			made := time.Since(start)
			g, err := grammar.Schema([]byte(schema))
			if err != nil {
				b.Fatal(err)
			}
			ids := tok.Encode(doc, false)
			var times []time.Duration
			for b.Loop() {
				m := g.Matcher(v)
				for _, id := range ids {
					start := time.Now()
					if !m.Allowed().Has(id) || !m.Accept(id) {
						b.Fatalf("token %d of %q is not allowed", id, doc)
					}
					times = append(times, time.Since(start))
				}
			}
			first := slices.Max(times[:len(ids)])
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "µs/token(p50)")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "µs/token(p99)")
			b.ReportMetric(float64(first.Microseconds()), "µs/token(first)")
			b.ReportMetric(float64(made.Milliseconds()), "ms/index")
			b.ReportMetric(float64(tok.Size()), "tokens")
		})
	})
}
