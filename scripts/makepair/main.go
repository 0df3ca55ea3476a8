// Command makepair writes a synthetic BF16 pair of checkpoints, sft and
// aligned, with the tensor names and shapes of a Llama of the wanted size.
//
//	go run ./scripts/makepair -o DIR [-bytes 3e9] [-shards 4] [-hidden 4096] [-vocab 32000] [-seed 1]
//
// Weights are drawn from N(0, 0.02); aligned differs from sft as preference
// training leaves BF16 weights: two thirds are unchanged, the others move by a
// few units in the last place. Norm weights are near 1. The same arguments
// give the same bytes.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"expo/weights/safetensors"
	"expo/weights/tensor"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("makepair: ")
	out := flag.String("o", "", "`folder` in which sft/ and aligned/ are made")
	size := flag.Float64("bytes", 3e9, "least number of bytes of each model")
	shards := flag.Int("shards", 4, "files per model")
	hidden := flag.Int("hidden", 4096, "hidden size")
	vocab := flag.Int("vocab", 32000, "rows of the embedding and of the head")
	seed := flag.Uint64("seed", 1, "seed")
	flag.Parse()
	if *out == "" || *shards < 1 || *hidden < 128 || *hidden%128 != 0 || *vocab < 1 || flag.NArg() > 0 {
		log.Print("needs -o DIR, at least one shard, and a hidden size that is a multiple of 128")
		flag.Usage()
		os.Exit(2)
	}
	m := newModel(*hidden, *vocab, int64(*size), *seed)
	for _, side := range []string{"sft", "aligned"} {
		n, err := m.write(filepath.Join(*out, side), side == "aligned", *shards)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %d bytes of tensors, %d layers, %d shards\n", filepath.Join(*out, side), n, m.layers, *shards)
	}
}

// model is the list of tensors and the tables that their values come from.
type model struct {
	hidden, intermediate, vocab, layers int

	names  []string
	shapes [][]int
	seeds  []uint64

	weights [1 << 16]uint16 // BF16 patterns of N(0, 0.02)
	norms   [1 << 16]uint16 // of N(1, 0.05)
	steps   [1 << 8]uint16  // units in the last place by which aligned moves
}

func newModel(hidden, vocab int, size int64, seed uint64) *model {
	m := &model{hidden: hidden, vocab: vocab}
	m.intermediate = (hidden*11008/4096 + 31) / 32 * 32 // Llama-7B's ratio
	head := int64(2) * int64(vocab) * int64(hidden) * 2
	layer := int64(4*hidden*hidden+3*hidden*m.intermediate+2*hidden) * 2
	m.layers = max(1, int((size-head+layer-1)/layer))

	m.add("model.embed_tokens.weight", vocab, hidden)
	for i := range m.layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		m.add(p+"self_attn.q_proj.weight", hidden, hidden)
		m.add(p+"self_attn.k_proj.weight", hidden, hidden)
		m.add(p+"self_attn.v_proj.weight", hidden, hidden)
		m.add(p+"self_attn.o_proj.weight", hidden, hidden)
		m.add(p+"mlp.gate_proj.weight", m.intermediate, hidden)
		m.add(p+"mlp.up_proj.weight", m.intermediate, hidden)
		m.add(p+"mlp.down_proj.weight", hidden, m.intermediate)
		m.add(p+"input_layernorm.weight", hidden)
		m.add(p+"post_attention_layernorm.weight", hidden)
	}
	m.add("model.norm.weight", hidden)
	m.add("lm_head.weight", vocab, hidden)

	r := rand.New(rand.NewPCG(seed, 0x6578706f))
	for i := range m.weights {
		m.weights[i] = bf16(float32(r.NormFloat64() * 0.02))
		m.norms[i] = bf16(float32(1 + r.NormFloat64()*0.05))
	}
	for i := range m.steps {
		switch k := int16(1 + r.ExpFloat64()*1.2); {
		case i < len(m.steps)*2/3:
		case i%2 == 0:
			m.steps[i] = uint16(k)
		default:
			m.steps[i] = uint16(-k)
		}
	}
	for range m.names {
		m.seeds = append(m.seeds, r.Uint64())
	}
	return m
}

func (m *model) add(name string, shape ...int) {
	m.names = append(m.names, name)
	m.shapes = append(m.shapes, shape)
}

func (m *model) tensor(i int, aligned bool) tensor.Tensor {
	v := &values{seed: m.seeds[i], table: &m.weights}
	if len(m.shapes[i]) == 1 {
		v.table = &m.norms
	}
	if aligned {
		v.steps = &m.steps
	}
	t := tensor.Tensor{Name: m.names[i], DType: tensor.BF16, Shape: m.shapes[i], Data: v}
	v.size = t.Size()
	return t
}

// write makes one model in dir, its tensors in order and split evenly by
// bytes, with index and config.json, and returns the bytes of its tensors.
func (m *model) write(dir string, aligned bool, shards int) (int64, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return 0, err
	}
	var total int64
	for i := range m.names {
		total += m.tensor(i, aligned).Size()
	}
	parts := make([][]tensor.Tensor, shards)
	var at int64
	for i := range m.names {
		t := m.tensor(i, aligned)
		// The middle of the tensor decides, so that none is split.
		k := int(float64(at+t.Size()/2) / float64(total) * float64(shards))
		parts[min(k, shards-1)] = append(parts[min(k, shards-1)], t)
		at += t.Size()
	}
	weightMap := map[string]string{}
	for i, ts := range parts {
		if len(ts) == 0 {
			return 0, fmt.Errorf("%s: shard %d of %d would be empty: ask for fewer", dir, i+1, shards)
		}
		file := "model.safetensors"
		if shards > 1 {
			file = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, shards)
		}
		for _, t := range ts {
			weightMap[t.Name] = file
		}
		safetensors.Sort(ts)
		if err := writeShard(filepath.Join(dir, file), ts); err != nil {
			return 0, err
		}
	}
	if shards > 1 {
		index := map[string]any{"metadata": map[string]any{"total_size": total}, "weight_map": weightMap}
		if err := writeJSON(filepath.Join(dir, "model.safetensors.index.json"), index); err != nil {
			return 0, err
		}
	}
	return total, writeJSON(filepath.Join(dir, "config.json"), map[string]any{
		"architectures":           []string{"LlamaForCausalLM"},
		"model_type":              "llama",
		"dtype":                   "bfloat16",
		"hidden_size":             m.hidden,
		"intermediate_size":       m.intermediate,
		"num_hidden_layers":       m.layers,
		"num_attention_heads":     m.hidden / 128,
		"num_key_value_heads":     m.hidden / 128,
		"vocab_size":              m.vocab,
		"max_position_embeddings": 4096,
		"rms_norm_eps":            1e-5,
		"tie_word_embeddings":     false,
	})
}

func writeShard(path string, ts []tensor.Tensor) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := safetensors.Write(w, ts, map[string]string{"format": "pt"}); err != nil {
		f.Close()
		return err
	}
	if err := w.Flush(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o666)
}

// values computes BF16 elements where they are read. Two elements take the
// bits of one hash of their position: an entry of table and one of steps each.
type values struct {
	seed  uint64
	size  int64
	table *[1 << 16]uint16
	steps *[1 << 8]uint16 // nil for the SFT side
}

func (v *values) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > v.size {
		return 0, fmt.Errorf("makepair: offset %d of %d", off, v.size)
	}
	n := int(min(int64(len(p)), v.size-off))
	for i := 0; i < n; {
		at := off + int64(i)
		four := v.pair(uint64(at / 4))
		i += copy(p[i:n], four[at%4:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (v *values) pair(k uint64) [4]byte {
	h := (k + v.seed) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	x, y := v.table[h&0xffff], v.table[h>>16&0xffff]
	if v.steps != nil {
		x += v.steps[h>>32&0xff]
		y += v.steps[h>>40&0xff]
	}
	return [4]byte{byte(x), byte(x >> 8), byte(y), byte(y >> 8)}
}

// bf16 rounds a finite number to nearest even.
func bf16(f float32) uint16 {
	b := math.Float32bits(f)
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
