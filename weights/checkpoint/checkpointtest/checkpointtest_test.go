package checkpointtest_test

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"testing"

	"expo/weights/checkpoint"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

func TestPairIsDeterministic(t *testing.T) {
	for _, d := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16, tensor.F8E4M3} {
		s1, a1 := checkpointtest.Pair(7, d)
		s2, a2 := checkpointtest.Pair(7, d)
		if !reflect.DeepEqual(s1, s2) || !reflect.DeepEqual(a1, a2) {
			t.Errorf("%v: two calls differ", d)
		}
		if s3, _ := checkpointtest.Pair(8, d); reflect.DeepEqual(s1, s3) {
			t.Errorf("%v: two seeds agree", d)
		}
	}
}

// TestPairDelta checks that the twins differ as preference training leaves
// them: nearly everywhere a little, nowhere much.
func TestPairDelta(t *testing.T) {
	limits := map[tensor.DType]float64{tensor.F32: 0.04, tensor.BF16: 0.03, tensor.F16: 0.004, tensor.F8E4M3: 0.13}
	for d, limit := range limits {
		sft, aligned := checkpointtest.Pair(1, d)
		var same, all int
		for i, s := range sft.Tensors {
			a := aligned.Tensors[i]
			if a.Name != s.Name || a.DType != d || !slices.Equal(a.Shape, s.Shape) {
				t.Fatalf("%v: %s %v %v against %s %v %v", d, s.Name, s.DType, s.Shape, a.Name, a.DType, a.Shape)
			}
			sv, av := checkpointtest.Values(s), checkpointtest.Values(a)
			for j := range sv {
				all++
				if sv[j] == av[j] {
					same++
				}
				if diff := math.Abs(float64(av[j] - sv[j])); math.Abs(float64(sv[j])) > 0.03 && diff > limit*math.Abs(float64(sv[j])) {
					t.Errorf("%v: %s[%d]: %v became %v", d, s.Name, j, sv[j], av[j])
				}
			}
		}
		if same < all/5 || same > all/2 {
			t.Errorf("%v: %d of %d elements are equal", d, same, all)
		}
	}
}

func TestWriteOpens(t *testing.T) {
	sft, _ := checkpointtest.Pair(3, tensor.BF16)
	write := map[string]func(m checkpointtest.Model, dir string){
		"safetensors": func(m checkpointtest.Model, dir string) { m.Write(t, dir) },
		"bin":         func(m checkpointtest.Model, dir string) { m.WriteBin(t, dir) },
	}
	for name, w := range write {
		for _, shards := range []int{0, 1, 3} {
			m := sft.Clone()
			m.Shards = shards
			dir := t.TempDir()
			w(m, dir)
			c, err := checkpoint.Open(dir)
			if err != nil {
				t.Fatalf("%s, %d shards: %v", name, shards, err)
			}
			if got, want := len(c.Shards()), max(shards, 1); got != want {
				t.Errorf("%s: %d shards, want %d", name, got, want)
			}
			for _, want := range m.Tensors {
				got, ok := c.Tensor(want.Name)
				if !ok || got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) ||
					string(checkpointtest.Bytes(got)) != string(checkpointtest.Bytes(want)) {
					t.Errorf("%s, %d shards: %s differs", name, shards, want.Name)
				}
			}
			if c.Len() != len(m.Tensors) {
				t.Errorf("%s, %d shards: %d tensors, want %d", name, shards, c.Len(), len(m.Tensors))
			}
			if n, ok := c.Config().Int("vocab_size"); !ok || n != checkpointtest.VocabSize {
				t.Errorf("%s: vocab_size %d", name, n)
			}
			small, err := c.SmallFiles()
			if want := append(slices.Sorted(maps.Keys(m.Files)), "config.json"); err != nil || !slices.Equal(small, slices.Sorted(slices.Values(want))) {
				t.Errorf("%s: small files %v, %v, want %v", name, small, err, want)
			}
			c.Close()
		}
	}
}

func TestFloats(t *testing.T) {
	inf := float32(math.Inf(1))
	tests := []struct {
		d        tensor.DType
		in, want []float32
	}{
		{tensor.F32, []float32{1.1, -0.3}, []float32{1.1, -0.3}},
		{tensor.F64, []float32{1.1, -0.3}, []float32{1.1, -0.3}},
		// Between 1 and 2 BF16 has steps of 2⁻⁷: ties go to the even code.
		{tensor.BF16, []float32{1 + 1./256, 1 + 3./256, -1 - 3./256, 1e39 * 0}, []float32{1, 1 + 4./256, -1 - 4./256, 0}},
		{tensor.F16, []float32{65504, 70000, inf, -inf, 1. / (1 << 25), 1. / (1 << 24)}, []float32{65504, 65504, inf, -inf, 0, 1. / (1 << 24)}},
		{tensor.F8E4M3, []float32{448, 1000, inf, 1.0625, 1.1875, -17}, []float32{448, 448, 448, 1, 1.25, -16}},
		{tensor.F8E5M2, []float32{57344, 60000, inf, 1.125}, []float32{57344, 57344, inf, 1}},
	}
	for _, tt := range tests {
		got := checkpointtest.Values(checkpointtest.Floats("x", tt.d, []int{len(tt.in)}, tt.in))
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v of %v = %v, want %v", tt.d, tt.in, got, tt.want)
		}
	}
	if v := checkpointtest.Values(checkpointtest.Floats("x", tensor.F8E4M3, nil, []float32{float32(math.NaN())})); v[0] == v[0] {
		t.Errorf("NaN became %v", v[0])
	}
}

func TestModelEdits(t *testing.T) {
	sft, _ := checkpointtest.Pair(1, tensor.BF16)
	m := sft.Clone()
	m.Remove("lm_head.weight")
	m.Set(checkpointtest.Ints("extra", tensor.I64, []int{2}, []int64{1, -1}))
	m.Set(checkpointtest.Floats("model.norm.weight", tensor.F32, []int{1}, []float32{2}))
	if len(m.Tensors) != len(sft.Tensors) || sft.Tensor("lm_head.weight").Name == "" {
		t.Errorf("the original has %d tensors, the edited %d", len(sft.Tensors), len(m.Tensors))
	}
	if got := m.Tensor("model.norm.weight"); got.DType != tensor.F32 || sft.Tensor("model.norm.weight").DType != tensor.BF16 {
		t.Errorf("model.norm.weight is %v in the copy, %v in the original", got.DType, sft.Tensor("model.norm.weight").DType)
	}
	if got := checkpointtest.Bytes(m.Tensor("extra")); string(got) != "\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff" {
		t.Errorf("extra = %x", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("Remove of a missing tensor went unnoticed")
		}
	}()
	m.Remove("lm_head.weight")
}
