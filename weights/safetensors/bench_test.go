package safetensors

import (
	"bytes"
	"fmt"
	"testing"

	"expo/weights/tensor"
)

// manyTensors are n empty tensors with the names of a large decoder.
func manyTensors(n int) []tensor.Tensor {
	parts := []string{"input_layernorm", "mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", "self_attn.k_proj", "self_attn.o_proj", "self_attn.q_proj", "self_attn.v_proj"}
	ts := make([]tensor.Tensor, n)
	for i := range ts {
		ts[i] = mem(fmt.Sprintf("model.layers.%d.%s.weight", i/len(parts), parts[i%len(parts)]), tensor.BF16, []int{0, 4096})
	}
	return ts
}

func BenchmarkNewReader(b *testing.B) {
	for _, n := range []int{300, 1500, 700_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var w bytes.Buffer
			if err := Write(&w, manyTensors(n), map[string]string{"format": "pt"}); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(w.Len()))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := open(w.Bytes()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNewLayout(b *testing.B) {
	ts := manyTensors(1500)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewLayout(ts, nil); err != nil {
			b.Fatal(err)
		}
	}
}
