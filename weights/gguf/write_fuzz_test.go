package gguf

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"testing"
)

// FuzzWrite writes again what files of unknown origin hold.
func FuzzWrite(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, everyPair, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(newFile(2, 1).pair("general.alignment", 64).tensor("a", F32, 0, 3).tensor("b", Q8_0, 64, 32, 2).data(256))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := open(b)
		if err != nil {
			return
		}
		var pairs []Pair
		for _, key := range r.Metadata().Keys() {
			pairs = append(pairs, Pair{key, r.Metadata().Value(key)})
		}
		ts := slices.Collect(r.Tensors())
		var w bytes.Buffer
		if err := Write(&w, pairs, ts); err != nil {
			// Readers take names of one byte more than ggml keeps.
			if !slices.ContainsFunc(ts, func(x Tensor) bool { return len(x.Name) > maxWritten }) {
				t.Fatal(err)
			}
			return
		}
		again, err := open(w.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pairs {
			if got := again.Metadata().Value(p.Key); !reflect.DeepEqual(got, p.Value) && !hasNaN(p.Value) {
				t.Errorf("%s: got %v, want %v", p.Key, got, p.Value)
			}
		}
		var second bytes.Buffer
		if err := Write(&second, pairs, slices.Collect(again.Tensors())); err != nil || !bytes.Equal(w.Bytes(), second.Bytes()) {
			t.Errorf("written twice: other bytes, %v", err)
		}
	})
}

func hasNaN(v any) bool {
	switch v := v.(type) {
	case float32:
		return v != v
	case float64:
		return math.IsNaN(v)
	case []float32:
		return slices.ContainsFunc(v, func(x float32) bool { return x != x })
	case []float64:
		return slices.ContainsFunc(v, math.IsNaN)
	case []any:
		return slices.ContainsFunc(v, hasNaN)
	}
	return false
}
