package expo_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"expo"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

func TestRebuild(t *testing.T) {
	sft, aligned := large(tensor.BF16, 5)
	aligned.Config, aligned.Files = `{"dtype": "bfloat16"}`, map[string]string{"tokenizer.json": "{}"}
	aligned.Set(checkpointtest.Ints("ids", tensor.I16, []int{5}, []int64{1, 2, 3, 4, 5}))
	sft.Set(aligned.Tensor("ids"))
	p := disk(t, sft, aligned)
	opt := expo.Options{Alpha: 0.3, Rounding: expo.Stochastic, Seed: 1, DType: tensor.F16}
	// at changes two bytes at an element of a tensor.
	at := func(dir, name string, element int64) {
		c := open(t, dir)
		defer c.Close()
		edit(t, dir, "model.safetensors", func(b []byte) []byte {
			off := 8 + int64(binary.LittleEndian.Uint64(b))
			for x := range c.Tensors() {
				if x.Name == name {
					b[off+2*element] ^= 1
				}
				off += x.Size()
			}
			return b
		})
	}
	for _, tt := range []struct {
		name   string
		damage func(dir string)
		want   []string
	}{
		{"nothing", func(string) {}, nil},
		{"one element", func(dir string) { at(dir, "embed.weight", 599_999) }, []string{"embed.weight: 1 of 600000 elements differ, the first is element 599999"}},
		{"two elements of two blocks", func(dir string) { at(dir, "embed.weight", 65_537); at(dir, "embed.weight", 400_000) },
			[]string{"embed.weight: 2 of 600000 elements differ, the first is element 65537"}},
		{"an integer", func(dir string) { at(dir, "ids", 3) }, []string{"ids: 1 of 5 elements differ, the first is element 3"}},
		{"a small file", func(dir string) { checkpointtest.File(t, filepath.Join(dir, "tokenizer.json"), "{} ") }, []string{"tokenizer.json: differs"}},
		{"config.json", func(dir string) { checkpointtest.File(t, filepath.Join(dir, "config.json"), `{"dtype": "float16" }`) }, []string{"config.json: differs"}},
		{"a small file gone", func(dir string) { os.Remove(filepath.Join(dir, "tokenizer.json")) }, []string{"tokenizer.json: missing"}},
		{"other tensors", func(dir string) {
			m := aligned.Clone()
			m.Config, m.Files = "", nil
			m.Tensors = nil
			c := open(t, dir)
			for x := range c.Tensors() {
				switch x.Name {
				case "h.0.weight":
					x.Shape = []int{11, 7}
				case "h.1.weight":
					x.Name = "h.2.weight"
				}
				x.Data = tensor.Bytes(checkpointtest.Bytes(x))
				m.Set(x)
			}
			c.Close()
			m.Write(t, dir)
		}, []string{"h.0.weight: is F16 [11 7], should be F16 [7 11]", "h.1.weight: missing", "h.2.weight: not a tensor of the result"}},
	} {
		dir, _ := write(t, p, opt, expo.WriteOptions{NoDigest: true})
		tt.damage(dir)
		v, err := expo.Rebuild(t.Context(), open(t, dir), p, expo.RebuildOptions{Jobs: 2})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if len(v.Problems) != len(tt.want) {
			t.Errorf("%s: problems %q, want %q", tt.name, v.Problems, tt.want)
			continue
		}
		for _, w := range tt.want {
			mentions(t, v.Problems, w)
		}
		if v.Files != 2 {
			t.Errorf("%s: %d small files compared, want 2", tt.name, v.Files)
		}
	}
}

// TestRebuildSample checks that a share of the tensors is chosen by seed, and
// that damage is found in whatever was chosen and nowhere else.
func TestRebuildSample(t *testing.T) {
	sft, aligned := checkpointtest.Pair(2, tensor.BF16)
	p := disk(t, sft, aligned)
	dir, _ := write(t, p, expo.Options{Alpha: 0.3}, expo.WriteOptions{})
	// The last bit of the file belongs to one tensor.
	edit(t, dir, "model.safetensors", flip(-1))
	c := open(t, dir)
	found := 0
	for seed := range uint64(40) {
		v, err := expo.Rebuild(t.Context(), c, p, expo.RebuildOptions{Sample: 0.25, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		if v.Tensors != 6 { // of 22, rounded up
			t.Fatalf("%d tensors, want 6", v.Tensors)
		}
		again, err := expo.Rebuild(t.Context(), c, p, expo.RebuildOptions{Sample: 0.25, Seed: seed})
		if err != nil || len(again.Problems) != len(v.Problems) {
			t.Errorf("seed %d: %v, and %v", seed, v.Problems, again)
		}
		found += len(v.Problems)
	}
	if found == 0 || found == 40 {
		t.Errorf("found in %d of 40 samples", found)
	}
	for _, share := range []float64{0, 1} {
		if v, err := expo.Rebuild(t.Context(), c, p, expo.RebuildOptions{Sample: share}); err != nil || v.Tensors != c.Len() || len(v.Problems) != 1 {
			t.Errorf("sample %g: %+v, %v", share, v, err)
		}
	}
	if v, err := expo.Rebuild(t.Context(), c, p, expo.RebuildOptions{Sample: 1e-9}); err != nil || v.Tensors != 1 {
		t.Errorf("a tiny sample: %+v, %v", v, err)
	}
}

// TestRebuildRefuses lists inputs that the record does not name.
func TestRebuildRefuses(t *testing.T) {
	sft, aligned := checkpointtest.Pair(2, tensor.BF16)
	p := disk(t, sft, aligned)
	dir, _ := write(t, p, expo.Options{Alpha: 0.3}, expo.WriteOptions{})
	c := open(t, dir)
	longer := sft.Clone()
	longer.Set(checkpointtest.Floats("more", tensor.F32, []int{1}, []float32{1}))
	sharded := aligned.Clone()
	sharded.Shards = 2
	for name, tt := range map[string]struct {
		p    expo.Pair
		want string
	}{
		"the SFT model":     {expo.Pair{SFT: disk(t, longer, aligned).SFT, Aligned: p.Aligned}, "the record names model.safetensors of"},
		"the aligned model": {expo.Pair{SFT: p.SFT, Aligned: disk(t, sft, sharded).Aligned}, "has 2 weight files, the record names 1"},
	} {
		if _, err := expo.Rebuild(t.Context(), c, tt.p, expo.RebuildOptions{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
	if _, err := expo.Rebuild(t.Context(), p.SFT, p, expo.RebuildOptions{}); err == nil || !strings.Contains(err.Error(), "no expo.json") {
		t.Errorf("without a record: error %v", err)
	}
	// A pair of the same sizes gets as far as the weights.
	v, err := expo.Rebuild(t.Context(), c, expo.Pair{SFT: p.Aligned, Aligned: p.SFT}, expo.RebuildOptions{})
	if err != nil || len(v.Problems) < 20 {
		t.Errorf("swapped: %+v, %v", v, err)
	}
}
