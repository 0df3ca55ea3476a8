package gguf

import (
	"math"
	"os"
	"reflect"
	"testing"
)

func TestMetadata(t *testing.T) {
	b, err := os.ReadFile("testdata/golden.gguf")
	if err != nil {
		t.Fatal(err)
	}
	r, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	m := r.Metadata()
	want := []struct {
		key   string
		value any
	}{
		{"general.architecture", "llama"},
		{"u8", uint8(200)},
		{"i8", int8(-100)},
		{"u16", uint16(60000)},
		{"i16", int16(-30000)},
		{"u32", uint32(math.MaxUint32)},
		{"i32", int32(math.MinInt32)},
		{"u64", uint64(1 << 63)},
		{"i64", int64(math.MinInt64)},
		{"f32", float32(1.5)},
		{"f64", 0.1},
		{"yes", true},
		{"no", false},
		{"string", "ä\n"},
		{"strings", []string{"a", "", "🐉"}},
		{"ints", []int32{1, -2, 3}},
		{"floats", []float32{0.5, -0.25}},
		{"bools", []bool{true, false, true}},
		{"nested", []any{[]int32{1, 2}, []int32{3}}},
		{"general.alignment", uint32(64)},
	}
	keys := m.Keys()
	if len(keys) != len(want) {
		t.Fatalf("keys %q, want %d of them", keys, len(want))
	}
	for i, w := range want {
		if keys[i] != w.key {
			t.Errorf("key %d is %s, want %s", i, keys[i], w.key)
		}
		if got := m.Value(w.key); !reflect.DeepEqual(got, w.value) {
			t.Errorf("%s: got %T %v, want %T %v", w.key, got, got, w.value, w.value)
		}
	}
	if v := m.Value("none"); v != nil {
		t.Errorf("a value of a key that is not there: %v", v)
	}
}

func TestGetters(t *testing.T) {
	f := newFile(0, 0)
	n := uint64(0)
	add := func(key string, v any) {
		n++
		if err := f.str(key).typed(v, true); err != nil {
			t.Fatal(err)
		}
	}
	add("u8", uint8(1))
	add("i8", int8(-1))
	add("u16", uint16(2))
	add("i16", int16(-2))
	add("u32", uint32(3))
	add("i32", int32(-3))
	add("u64", uint64(4))
	add("i64", int64(-4))
	add("huge", uint64(1<<63))
	add("f32", float32(0.5))
	add("f64", 0.25)
	add("bool", true)
	add("string", "s")
	add("u8s", []uint8{1})
	add("i8s", []int8{-1})
	add("u16s", []uint16{2})
	add("i16s", []int16{-2})
	add("u32s", []uint32{3})
	add("i32s", []int32{-3})
	add("u64s", []uint64{4})
	add("i64s", []int64{-4})
	add("huges", []uint64{1, 1 << 63})
	add("f32s", []float32{0.5})
	add("f64s", []float64{0.25})
	add("strings", []string{"s"})
	add("none", []float32{})
	f.b[16] = byte(n) // the number of keys
	r, err := open(f.b)
	if err != nil {
		t.Fatal(err)
	}
	m := r.Metadata()

	ints := map[string]int64{"u8": 1, "i8": -1, "u16": 2, "i16": -2, "u32": 3, "i32": -3, "u64": 4, "i64": -4}
	floats := map[string]float64{"f32": 0.5, "f64": 0.25}
	for _, key := range append(m.Keys(), "missing") {
		if got, ok := m.Int(key); ok != has(ints, key) || ok && got != ints[key] {
			t.Errorf("Int(%q) = %d, %t", key, got, ok)
		}
		if got, ok := m.Float(key); ok != has(floats, key) || ok && got != floats[key] {
			t.Errorf("Float(%q) = %v, %t", key, got, ok)
		}
		if got, ok := m.Bool(key); ok != (key == "bool") || got != ok {
			t.Errorf("Bool(%q) = %t, %t", key, got, ok)
		}
		if got, ok := m.String(key); ok != (key == "string") || ok && got != "s" {
			t.Errorf("String(%q) = %q, %t", key, got, ok)
		}
		if got, ok := m.Strings(key); ok != (key == "strings") || ok && got[0] != "s" {
			t.Errorf("Strings(%q) = %q, %t", key, got, ok)
		}
		one := key
		if len(key) > 1 && key[len(key)-1] == 's' && key != "strings" {
			one = key[:len(key)-1]
		}
		if got, ok := m.Ints(key); ok != (one != key && has(ints, one)) || ok && (len(got) != 1 || got[0] != ints[one]) {
			t.Errorf("Ints(%q) = %v, %t", key, got, ok)
		}
		if got, ok := m.Floats(key); key == "none" {
			if !ok || len(got) != 0 {
				t.Errorf("Floats(%q) = %v, %t", key, got, ok)
			}
		} else if ok != (one != key && has(floats, one)) || ok && (len(got) != 1 || got[0] != floats[one]) {
			t.Errorf("Floats(%q) = %v, %t", key, got, ok)
		}
	}
	keys := m.Keys()
	keys[0] = "changed"
	if m.Keys()[0] != "u8" {
		t.Error("Keys gives its own slice away")
	}
}

func has[V any](m map[string]V, key string) bool {
	_, ok := m[key]
	return ok
}
