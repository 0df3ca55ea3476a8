package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"expo/weights/tensor"
)

// builder writes a file piece by piece, right or wrong.
type builder struct{ b []byte }

// newFile begins a file of version 3.
func newFile(tensors, keys uint64) *builder {
	f := &builder{b: []byte("GGUF")}
	return f.u32(3).u64(tensors).u64(keys)
}

func (f *builder) u8(v uint8) *builder { f.b = append(f.b, v); return f }
func (f *builder) u32(v uint32) *builder {
	f.b = binary.LittleEndian.AppendUint32(f.b, v)
	return f
}
func (f *builder) u64(v uint64) *builder {
	f.b = binary.LittleEndian.AppendUint64(f.b, v)
	return f
}
func (f *builder) str(s string) *builder {
	f.u64(uint64(len(s)))
	f.b = append(f.b, s...)
	return f
}

// pair is a pair with a number of 32 bits.
func (f *builder) pair(key string, v uint32) *builder { return f.str(key).u32(typeU32).u32(v) }

// tensor describes one, dims in the file's order.
func (f *builder) tensor(name string, typ Type, offset uint64, dims ...uint64) *builder {
	f.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		f.u64(d)
	}
	return f.u32(uint32(typ)).u64(offset)
}

// data ends the description: padding and n bytes.
func (f *builder) data(n int) []byte {
	for len(f.b)%32 != 0 {
		f.b = append(f.b, 0)
	}
	for i := range n {
		f.b = append(f.b, byte(i))
	}
	return f.b
}

func open(b []byte) (*Reader, error) { return NewReader(tensor.Bytes(b), int64(len(b))) }

// written is a file with what a Reader has found in another, laid out anew.
func written(r *Reader) ([]byte, error) {
	f := newFile(uint64(r.Len()), uint64(len(r.Metadata().Keys())))
	for _, key := range r.Metadata().Keys() {
		f.str(key)
		if err := f.typed(r.Metadata().Value(key), true); err != nil {
			return nil, err
		}
	}
	var data []byte
	for t := range r.Tensors() {
		for int64(len(data))%r.alignment != 0 {
			data = append(data, 0)
		}
		var dims []uint64
		for i := len(t.Shape) - 1; i >= 0; i-- {
			dims = append(dims, uint64(t.Shape[i]))
		}
		f.tensor(t.Name, t.Type, uint64(len(data)), dims...)
		b := make([]byte, t.Size)
		if err := tensor.ReadFull(t.Data, b, 0); err != nil {
			return nil, err
		}
		data = append(data, b...)
	}
	for r.Len() > 0 && int64(len(f.b))%r.alignment != 0 {
		f.b = append(f.b, 0)
	}
	return append(f.b, data...), nil
}

// typed writes a value, after its type if that is asked for.
func (f *builder) typed(v any, withType bool) error {
	number := func(typ uint32, size int, bits uint64) {
		if withType {
			f.u32(typ)
		}
		f.b = append(f.b, binary.LittleEndian.AppendUint64(nil, bits)[:size]...)
	}
	switch v := v.(type) {
	case uint8:
		number(typeU8, 1, uint64(v))
	case int8:
		number(typeI8, 1, uint64(v))
	case uint16:
		number(typeU16, 2, uint64(v))
	case int16:
		number(typeI16, 2, uint64(v))
	case uint32:
		number(typeU32, 4, uint64(v))
	case int32:
		number(typeI32, 4, uint64(v))
	case uint64:
		number(typeU64, 8, v)
	case int64:
		number(typeI64, 8, uint64(v))
	case float32:
		number(typeF32, 4, uint64(math.Float32bits(v)))
	case float64:
		number(typeF64, 8, math.Float64bits(v))
	case bool:
		var b uint64
		if v {
			b = 1
		}
		number(typeBool, 1, b)
	case string:
		if withType {
			f.u32(typeString)
		}
		f.str(v)
	case []uint8:
		return array(f, typeU8, v)
	case []int8:
		return array(f, typeI8, v)
	case []uint16:
		return array(f, typeU16, v)
	case []int16:
		return array(f, typeI16, v)
	case []uint32:
		return array(f, typeU32, v)
	case []int32:
		return array(f, typeI32, v)
	case []uint64:
		return array(f, typeU64, v)
	case []int64:
		return array(f, typeI64, v)
	case []float32:
		return array(f, typeF32, v)
	case []float64:
		return array(f, typeF64, v)
	case []bool:
		return array(f, typeBool, v)
	case []string:
		return array(f, typeString, v)
	case []any:
		f.u32(typeArray).u32(typeArray).u64(uint64(len(v)))
		for _, x := range v {
			at := len(f.b)
			if err := f.typed(x, true); err != nil {
				return err
			}
			f.b = append(f.b[:at], f.b[at+4:]...) // its own type is known
		}
	default:
		return fmt.Errorf("a value of type %T", v)
	}
	return nil
}

func array[T any](f *builder, typ uint32, v []T) error {
	f.u32(typeArray).u32(typ).u64(uint64(len(v)))
	for _, x := range v {
		if err := f.typed(x, false); err != nil {
			return err
		}
	}
	return nil
}
