package tokenizer

import (
	"strings"
	"testing"
	"testing/fstest"
)

// benchmarkModels are tokenizers of each kind.
func benchmarkModels(b *testing.B) map[string]func(b *testing.B) *Tokenizer {
	file := func(name string, parse func([]byte) (*Tokenizer, error)) func(b *testing.B) *Tokenizer {
		return func(b *testing.B) *Tokenizer { return must(b)(parse(testdata(b, name))) }
	}
	return map[string]func(b *testing.B) *Tokenizer{
		"Llama3": func(b *testing.B) *Tokenizer {
			return must(b)(Load(fstest.MapFS{"tokenizer.model": {Data: testdata(b, "tokenizers/llama3/tokenizer.model")}}))
		},
		"GPT2": func(b *testing.B) *Tokenizer {
			return must(b)(FromGGUF(ggufKeys(b, testdata(b, "llamacpp-vocab/ggml-vocab-gpt-2.gguf"))))
		},
		"DeepSeek": func(b *testing.B) *Tokenizer { // split by regular expressions
			return must(b)(FromGGUF(ggufKeys(b, testdata(b, "llamacpp-vocab/ggml-vocab-deepseek-llm.gguf"))))
		},
		"Mistral": file("tokenizers/mistral-7b-v0.1_npm-lenml/tokenizer.json", ParseJSON),
		"Llama2":  file("tokenizers/llama2/tokenizer.model", ParseSentencePiece),
		"DeBERTa": file("tokenizers/deberta-v3/spm.model", ParseSentencePiece),
	}
}

func BenchmarkEncode(b *testing.B) {
	for name, load := range benchmarkModels(b) {
		b.Run(name, func(b *testing.B) {
			tok := load(b)
			for what, text := range map[string]string{
				"English": string(testdata(b, "datasets/alpaca_eval.jsonl")),
				"Mixed":   strings.Repeat(string(testdata(b, "llamacpp-vocab/ggml-vocab-gpt-2.gguf.inp")), 100),
			} {
				b.Run(what, func(b *testing.B) {
					b.SetBytes(int64(len(text)))
					b.ReportAllocs()
					for b.Loop() {
						tok.Encode(text, true)
					}
				})
			}
		})
	}
}

// BenchmarkEncodeShort encodes a prompt rather than a book.
func BenchmarkEncodeShort(b *testing.B) {
	for name, load := range benchmarkModels(b) {
		b.Run(name, func(b *testing.B) {
			tok := load(b)
			text := "What are the names of some famous actors that started their careers on Broadway?\n"
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				tok.Encode(text, true)
			}
		})
	}
}

// BenchmarkEncodeWord encodes one word of a megabyte.
func BenchmarkEncodeWord(b *testing.B) {
	for name, load := range benchmarkModels(b) {
		b.Run(name, func(b *testing.B) {
			tok := load(b)
			for what, text := range map[string]string{
				"letters": strings.Repeat("abcdefghijklmnopqrstuvwxyzetaoinshrdlu", 1<<20/38),
				"same":    strings.Repeat("a", 1<<20),
			} {
				b.Run(what, func(b *testing.B) {
					b.SetBytes(int64(len(text)))
					for b.Loop() {
						tok.Encode(text, true)
					}
				})
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, load := range benchmarkModels(b) {
		b.Run(name, func(b *testing.B) {
			tok := load(b)
			text := string(testdata(b, "datasets/alpaca_eval.jsonl"))
			ids := tok.Encode(text, false)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				tok.Decode(ids, true)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for name, load := range benchmarkModels(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				load(b)
			}
		})
	}
}
