package model

import (
	"context"
	"os"
	"strings"
	"testing"
)

// The benchmarks measure tokens per second of the model that EXPO_MODEL names,
// a directory or a GGUF file.
func benchModel(b *testing.B, opt LoadOptions) *Model {
	path := os.Getenv("EXPO_MODEL")
	switch {
	case path == "":
		b.Skip("EXPO_MODEL: not set")
	case strings.HasSuffix(path, ".gguf"):
		return loadGGUF(b, path, opt)
	}
	return loadDir(b, path, opt)
}

// bench reads tokens after a context of some length, in sequences at once.
func bench(b *testing.B, m *Model, sequences, before, tokens int) {
	ctx := context.Background()
	batch := make([]Step, sequences)
	for i := range batch {
		c := m.NewCache()
		defer c.Free()
		if before > 0 {
			if err := m.Forward(ctx, []Step{{Cache: c, Tokens: sequence("before", before, 1000)}}); err != nil {
				b.Fatal(err)
			}
		}
		batch[i] = Step{Cache: c, Tokens: sequence("bench", tokens, 1000), Want: []int{tokens - 1}, Logits: func(int, []float32) {}}
	}
	for b.Loop() {
		if err := m.Forward(ctx, batch); err != nil {
			b.Fatal(err)
		}
		for i := range batch {
			batch[i].Cache.Truncate(before)
		}
	}
	b.ReportMetric(float64(b.N*sequences*tokens)/b.Elapsed().Seconds(), "tokens/s")
}

func BenchmarkDecode(b *testing.B) {
	for _, q := range []struct {
		name string
		q    Quantization
	}{{"stored", AsStored}, {"q8_0", Q8_0}} {
		b.Run(q.name, func(b *testing.B) {
			m := benchModel(b, LoadOptions{Quantize: q.q})
			b.SetBytes(m.Bytes())
			bench(b, m, 1, 128, 1)
		})
	}
}

func BenchmarkDecodeLong(b *testing.B) { bench(b, benchModel(b, LoadOptions{}), 1, 4000, 1) }
func BenchmarkDecode16(b *testing.B)   { bench(b, benchModel(b, LoadOptions{}), 16, 128, 1) }
func BenchmarkPrefill(b *testing.B)    { bench(b, benchModel(b, LoadOptions{}), 1, 0, 512) }
