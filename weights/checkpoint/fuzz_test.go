package checkpoint

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

func FuzzIndex(f *testing.F) {
	for _, s := range []string{
		`{"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}`,
		`{"weight_map": {"a": "../x", "b": "/x", "c": "sub/x", "d": "..", "e": ""}}`,
		`{"weight_map": {"a": "x", "a": "y"}}`, `{"weight_map": {"a": null}}`, `{"weight_map": []}`, `{}`, `[]`, `null`, ``,
		"{\"weight_map\": {\"a\": \"\xff\x00\\u0000\"}}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := parseIndex(b)
		if err != nil {
			if x != nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("index %v came with the error %q", x, err)
			}
			return
		}
		if !json.Valid(b) {
			t.Fatal("accepted what is no JSON")
		}
		used := make(map[string]bool)
		for _, file := range x.weights {
			used[file] = true
		}
		if len(used) == 0 || !slices.Equal(x.files, slices.Sorted(maps.Keys(used))) {
			t.Fatalf("files %q, want %v", x.files, used)
		}
		for _, file := range x.files {
			if file == "" || file == "." || file == ".." || strings.ContainsAny(file, `/\`) {
				t.Fatalf("accepted %q", file)
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		`{"torch_dtype": "float32", "text_config": {"dtype": "float16", "quantization_config": {"quant_method": "fp8"}}, "quantization_config": 1}`,
		`{"quantization_config":1 , "compression_config":2 , "a":3, "quantization_config" : {"dtype": "x"}}`,
		"{\r\n\t\"dtype\" : \"bfloat16\" ,\r\n\"a\": [NaN, -Infinity, {\"dtype\": \"float32\"}]\r\n}\r\n",
		`{"d\u0074ype": "\ud83d", "x_config": {"x_config": {"torch_dtype": ""}}}`, `{"a": NaN}`, `{NaN: 1}`, `{}`, `[]`, ``, `{"":{"":[[{}]]}}`,
		`{"dtype": {"dtype": "float32"}, "dtype": "float32", "dtype": null}`,
	} {
		f.Add([]byte(s), uint8(tensor.BF16), true)
		f.Add([]byte(s), uint8(tensor.Invalid), true)
		f.Add([]byte(s), uint8(tensor.F32), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, d uint8, removal bool) {
		c, err := ParseConfig(b)
		if err != nil {
			if c != nil || strings.Contains(err.Error(), "\n") {
				t.Fatalf("config %v came with the error %q", c, err)
			}
			return
		}
		c.DType()
		c.Quantization()
		c.blockSize()
		c.TieWordEmbeddings()
		dtype := tensor.DType(d)
		var remove []string
		if removal {
			remove = quantizationKeys
		}
		out, err := c.Edited(dtype, remove...)
		if err != nil {
			if dtype == tensor.Invalid || dtype.ConfigName() != "" {
				t.Fatalf("%q could not be edited: %v", b, err)
			}
			return
		}
		if dtype == tensor.Invalid && !removal && !bytes.Equal(out, b) {
			t.Fatalf("%q without any edit became %q", b, out)
		}
		got, err := ParseConfig(out)
		if err != nil {
			t.Fatalf("%q became %q: %v", b, out, err)
		}
		want := editedDocument(c.fields, dtype, remove, true).(map[string]any)
		if !reflect.DeepEqual(got.fields, want) {
			t.Fatalf("%q became %q, which says\n%v, want\n%v", b, out, got.fields, want)
		}
		again, err := got.Edited(dtype, remove...)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("editing %q again gives %q, %v", out, again, err)
		}
	})
}

// editedDocument is what Edited promises, done to the parsed document. own
// tells whether v is the top or the configuration of a sub-model.
func editedDocument(v any, dtype tensor.DType, remove []string, own bool) any {
	m, ok := v.(map[string]any)
	if !ok || !own {
		return v
	}
	out := make(map[string]any)
	for k, v := range m {
		if slices.Contains(remove, k) {
			continue
		}
		if s, ok := v.(string); ok && dtype != tensor.Invalid && (k == "dtype" || k == "torch_dtype") {
			if d, err := tensor.ParseConfigDType(s); err != nil || d != dtype {
				v = dtype.ConfigName()
			}
		}
		sub := strings.HasSuffix(k, "_config") && !strings.HasPrefix(k, "quantization") && k != "compression_config"
		out[k] = editedDocument(v, dtype, remove, sub)
	}
	return out
}

func FuzzDequantize(f *testing.F) {
	f.Add([]byte{5, 7}, []byte{3, 2}, uint8(2), uint8(4), uint16(3), uint16(40))
	f.Add([]byte{5, 7}, []byte{5, 1}, uint8(0), uint8(0), uint16(0), uint16(9))
	f.Add([]byte{3, 5, 7}, []byte{3, 3, 2}, uint8(2), uint8(4), uint16(1), uint16(2))
	f.Add([]byte{3, 5, 7}, []byte{3}, uint8(0), uint8(0), uint16(1), uint16(2))
	f.Add([]byte{130, 129}, []byte{2, 2}, uint8(0), uint8(0), uint16(5), uint16(600))
	f.Add([]byte{}, []byte{}, uint8(1), uint8(1), uint16(0), uint16(5))
	f.Add([]byte{0, 3}, []byte{0, 1}, uint8(1), uint8(1), uint16(0), uint16(5))
	f.Fuzz(func(t *testing.T, shape, grid []byte, br, bc uint8, off, n uint16) {
		q, okQ := codesOf("a.weight", tensor.F8E4M3, shape)
		s, okS := codesOf("a.weight_scale_inv", tensor.U8, grid)
		if !okQ || !okS {
			return
		}
		block := [2]int{int(br), int(bc)}
		if br == 0 || bc == 0 {
			block = [2]int{}
		}
		d, err := newDequantizer(q, s, block)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q", err)
			}
			return
		}
		x := tensor.Tensor{Name: "a.weight", DType: tensor.F32, Shape: q.Shape, Data: d}
		whole := checkpointtest.Bytes(x)
		p := make([]byte, n)
		if m, _ := d.ReadAt(p, min(int64(off), x.Size())); !bytes.Equal(p[:m], whole[min(int(off), len(whole)):][:m]) {
			t.Fatalf("%d bytes at %d differ from those of the whole", n, off)
		}
		codes, scales := checkpointtest.Values(q), scaleValues(s)
		used := make(map[float32]bool)
		for i, v := range checkpointtest.Values(x) {
			// Codes and scales are such that a product tells its factors.
			ratio := v / codes[i]
			if i == 0 && !sameBits(ratio, scales[0]) {
				t.Fatalf("the first element is scaled by %v, want %v", ratio, scales[0])
			}
			used[ratio] = true
		}
		if len(used) > len(scales) {
			t.Fatalf("%d scales were used of %d", len(used), len(scales))
		}
		for r := range used {
			if !slices.Contains(scales, r) {
				t.Fatalf("a scale of %v was used, which is none of %v", r, scales)
			}
		}
	})
}

// codesOf is a tensor of at most 2¹⁶ elements that are no zero and no NaN: as
// FP8 between 1 and 2, as exponents near 2⁰.
func codesOf(name string, d tensor.DType, dims []byte) (tensor.Tensor, bool) {
	if len(dims) > 4 {
		return tensor.Tensor{}, false
	}
	var shape []int
	n := 1.0
	for _, v := range dims {
		shape = append(shape, int(v))
		n *= math.Max(float64(v), 1)
	}
	if n > 1<<16 {
		return tensor.Tensor{}, false
	}
	size, _ := tensor.Elements(shape)
	b := make([]byte, size)
	for i := range b {
		if d == tensor.U8 {
			b[i] = byte(100 + i%50)
		} else {
			b[i] = byte(0x38 + i%8)
		}
	}
	return checkpointtest.Raw(name, d, shape, b), true
}
