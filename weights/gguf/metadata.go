package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Metadata are the pairs of key and value of a file.
type Metadata struct {
	keys   []string
	values map[string]any
}

// Keys are all keys, in the order of the file.
func (m *Metadata) Keys() []string { return slices.Clone(m.keys) }

// Value is the value of a key, or nil if there is none: a uint8, int8, uint16,
// int16, uint32, int32, uint64, int64, float32, float64, bool or string, a slice
// of one of them, or, for an array of arrays, an []any of such slices. It must not
// be changed. Strings are as in the file, which need not be UTF-8.
func (m *Metadata) Value(key string) any { return m.values[key] }

// String is the value of a key that has a string.
func (m *Metadata) String(key string) (v string, ok bool) {
	v, ok = m.values[key].(string)
	return v, ok
}

// Bool is the value of a key that has a truth value.
func (m *Metadata) Bool(key string) (v, ok bool) {
	v, ok = m.values[key].(bool)
	return v, ok
}

// Int is the value of a key that has an integer of any type, unless it is beyond
// an int64. Files that mean "none" have 4294967295 in places.
func (m *Metadata) Int(key string) (v int64, ok bool) {
	switch v := m.values[key].(type) {
	case uint8:
		return int64(v), true
	case int8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case uint64:
		return int64(v), v <= math.MaxInt64
	}
	return 0, false
}

// Float is the value of a key that has a floating-point number of either type.
func (m *Metadata) Float(key string) (v float64, ok bool) {
	switch v := m.values[key].(type) {
	case float32:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// Strings is the value of a key that has an array of strings. It must not be
// changed.
func (m *Metadata) Strings(key string) (v []string, ok bool) {
	v, ok = m.values[key].([]string)
	return v, ok
}

// Ints is the value of a key that has an array of integers of any type, unless one
// is beyond an int64.
func (m *Metadata) Ints(key string) (v []int64, ok bool) {
	switch v := m.values[key].(type) {
	case []uint8:
		return widened(v), true
	case []int8:
		return widened(v), true
	case []uint16:
		return widened(v), true
	case []int16:
		return widened(v), true
	case []uint32:
		return widened(v), true
	case []int32:
		return widened(v), true
	case []int64:
		return slices.Clone(v), true
	case []uint64:
		if slices.ContainsFunc(v, func(x uint64) bool { return x > math.MaxInt64 }) {
			return nil, false
		}
		return widened(v), true
	}
	return nil, false
}

func widened[T uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64](v []T) []int64 {
	w := make([]int64, len(v))
	for i, x := range v {
		w[i] = int64(x)
	}
	return w
}

// Floats is the value of a key that has an array of floating-point numbers of
// either type.
func (m *Metadata) Floats(key string) (v []float64, ok bool) {
	switch v := m.values[key].(type) {
	case []float32:
		w := make([]float64, len(v))
		for i, x := range v {
			w[i] = float64(x)
		}
		return w, true
	case []float64:
		return slices.Clone(v), true
	}
	return nil, false
}

// The types of values, by the numbers that files have for them.
const (
	typeU8 = iota
	typeI8
	typeU16
	typeI16
	typeU32
	typeI32
	typeF32
	typeBool
	typeString
	typeArray
	typeU64
	typeI64
	typeF64
)

// maxNesting is how deep arrays may lie in each other. No known key has an array
// of arrays.
const maxNesting = 8

// metadata reads n pairs.
func (s *scanner) metadata(m *Metadata, n int) error {
	m.keys = make([]string, 0, room(n))
	m.values = make(map[string]any, room(n))
	for range n {
		s.key = ""
		at := s.pos()
		key, err := s.name("a key", maxKey)
		if err != nil {
			return err
		}
		s.key = key
		if _, ok := m.values[key]; ok {
			return s.errorf(at, "the key stands twice")
		}
		typ, err := s.u32("the type of the value")
		if err != nil {
			return err
		}
		v, err := s.value(typ)
		if err != nil {
			return err
		}
		if key == alignmentKey {
			if err := s.align(v, at); err != nil {
				return err
			}
		}
		m.keys = append(m.keys, key)
		m.values[key] = v
	}
	s.key = ""
	return nil
}

// value reads one value.
func (s *scanner) value(typ uint32) (any, error) {
	if typ == typeArray {
		return s.array(1)
	}
	v, err := s.slice(typ, 1, 0)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case []uint8:
		return v[0], nil
	case []int8:
		return v[0], nil
	case []uint16:
		return v[0], nil
	case []int16:
		return v[0], nil
	case []uint32:
		return v[0], nil
	case []int32:
		return v[0], nil
	case []uint64:
		return v[0], nil
	case []int64:
		return v[0], nil
	case []float32:
		return v[0], nil
	case []float64:
		return v[0], nil
	case []bool:
		return v[0], nil
	case []string:
		return v[0], nil
	}
	panic(fmt.Sprintf("gguf: no value of type %d", typ))
}

// array reads an array that lies so deep.
func (s *scanner) array(depth int) (any, error) {
	typ, err := s.u32("the type of an array")
	if err != nil {
		return nil, err
	}
	each := int64(1)
	switch typ {
	case typeU16, typeI16:
		each = 2
	case typeU32, typeI32, typeF32:
		each = 4
	case typeU64, typeI64, typeF64:
		each = 8
	case typeString:
		each = minString
	case typeArray:
		each = 4 + 8
	}
	n, err := s.count("elements in an array", each)
	if err != nil {
		return nil, err
	}
	return s.slice(typ, n, depth)
}

// slice reads n values of a type, of which count has checked that they can be
// there.
func (s *scanner) slice(typ uint32, n, depth int) (any, error) {
	le := binary.LittleEndian
	switch typ {
	case typeU8:
		return values(s, n, 1, func(b []byte) uint8 { return b[0] })
	case typeI8:
		return values(s, n, 1, func(b []byte) int8 { return int8(b[0]) })
	case typeU16:
		return values(s, n, 2, le.Uint16)
	case typeI16:
		return values(s, n, 2, func(b []byte) int16 { return int16(le.Uint16(b)) })
	case typeU32:
		return values(s, n, 4, le.Uint32)
	case typeI32:
		return values(s, n, 4, func(b []byte) int32 { return int32(le.Uint32(b)) })
	case typeU64:
		return values(s, n, 8, le.Uint64)
	case typeI64:
		return values(s, n, 8, func(b []byte) int64 { return int64(le.Uint64(b)) })
	case typeF32:
		return values(s, n, 4, func(b []byte) float32 { return math.Float32frombits(le.Uint32(b)) })
	case typeF64:
		return values(s, n, 8, func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) })
	case typeBool:
		return s.bools(n)
	case typeString:
		v := make([]string, 0, room(n))
		for range n {
			x, err := s.str("a string", math.MaxInt64)
			if err != nil {
				return nil, err
			}
			v = append(v, x)
		}
		return v, nil
	case typeArray:
		if depth == maxNesting {
			return nil, s.errorf(s.pos(), "has arrays more than %d deep in each other", maxNesting)
		}
		v := make([]any, 0, room(n))
		for range n {
			x, err := s.array(depth + 1)
			if err != nil {
				return nil, err
			}
			v = append(v, x)
		}
		return v, nil
	}
	return nil, s.errorf(s.pos(), "has a value of type %d, which is not known", typ)
}

// values reads n numbers of so many bytes.
func values[T any](s *scanner, n, size int, number func([]byte) T) ([]T, error) {
	if int64(n) > s.left()/int64(size) {
		return nil, s.ends("a value")
	}
	v := make([]T, 0, room(n))
	for len(v) < n {
		b, err := s.take(min(window/size, n-len(v))*size, "a value")
		if err != nil {
			return nil, err
		}
		for ; len(b) > 0; b = b[size:] {
			v = append(v, number(b))
		}
	}
	return v, nil
}

// bools reads n truth values, which are bytes of 0 or 1.
func (s *scanner) bools(n int) ([]bool, error) {
	pos := s.pos()
	b, err := values(s, n, 1, func(b []byte) uint8 { return b[0] })
	if err != nil {
		return nil, err
	}
	v := make([]bool, n)
	for i, x := range b {
		if x > 1 {
			return nil, s.errorf(pos+int64(i), "a truth value of %d, want 0 or 1", x)
		}
		v[i] = x == 1
	}
	return v, nil
}

// alignmentKey has what the offsets of tensors are multiples of, if not 32.
const alignmentKey = "general.alignment"

// align takes the value of alignmentKey, a pair that stands at an offset.
func (s *scanner) align(v any, at int64) error {
	a, ok := v.(uint32)
	switch {
	case !ok:
		return s.errorf(at, "the value is a %T, want a uint32", v)
	case a == 0 || a&(a-1) != 0:
		return s.errorf(at, "%d is not a power of two", a)
	}
	s.alignment = int64(a)
	return nil
}
