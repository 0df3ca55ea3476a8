package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// valueType is the number that files have for the type of v, or −1 if there is
// none.
func valueType(v any) int {
	switch v.(type) {
	case uint8:
		return typeU8
	case int8:
		return typeI8
	case uint16:
		return typeU16
	case int16:
		return typeI16
	case uint32:
		return typeU32
	case int32:
		return typeI32
	case uint64:
		return typeU64
	case int64:
		return typeI64
	case float32:
		return typeF32
	case float64:
		return typeF64
	case bool:
		return typeBool
	case string:
		return typeString
	case []uint8, []int8, []uint16, []int16, []uint32, []int32, []uint64, []int64, []float32, []float64, []bool, []string, []any:
		return typeArray
	}
	return -1
}

// writable reports whether v, which lies in so many arrays, has a type that files
// know, and so has all that lies in it.
func writable(v any, depth int) bool {
	list, ok := v.([]any)
	if !ok {
		return valueType(v) >= 0
	}
	for _, x := range list {
		if depth+1 == maxNesting || valueType(x) != typeArray || !writable(x, depth+1) {
			return false
		}
	}
	return true
}

func appendString(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}

// appendValue appends the type of v, which valueType knows, and v.
func appendValue(b []byte, v any) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(valueType(v)))
	return appendBare(b, v)
}

// appendBare appends v without its type; an array with that of its elements.
func appendBare(b []byte, v any) []byte {
	le := binary.LittleEndian
	switch v := v.(type) {
	case uint8:
		return append(b, v)
	case int8:
		return append(b, byte(v))
	case uint16:
		return le.AppendUint16(b, v)
	case int16:
		return le.AppendUint16(b, uint16(v))
	case uint32:
		return le.AppendUint32(b, v)
	case int32:
		return le.AppendUint32(b, uint32(v))
	case uint64:
		return le.AppendUint64(b, v)
	case int64:
		return le.AppendUint64(b, uint64(v))
	case float32:
		return le.AppendUint32(b, math.Float32bits(v))
	case float64:
		return le.AppendUint64(b, math.Float64bits(v))
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case string:
		return appendString(b, v)
	case []uint8:
		return appendArray(b, typeU8, v)
	case []int8:
		return appendArray(b, typeI8, v)
	case []uint16:
		return appendArray(b, typeU16, v)
	case []int16:
		return appendArray(b, typeI16, v)
	case []uint32:
		return appendArray(b, typeU32, v)
	case []int32:
		return appendArray(b, typeI32, v)
	case []uint64:
		return appendArray(b, typeU64, v)
	case []int64:
		return appendArray(b, typeI64, v)
	case []float32:
		return appendArray(b, typeF32, v)
	case []float64:
		return appendArray(b, typeF64, v)
	case []bool:
		return appendArray(b, typeBool, v)
	case []string:
		return appendArray(b, typeString, v)
	case []any:
		return appendArray(b, typeArray, v)
	}
	panic(fmt.Sprintf("gguf: a value of type %T", v))
}

func appendArray[T any](b []byte, typ uint32, v []T) []byte {
	b = binary.LittleEndian.AppendUint32(b, typ)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(v)))
	for _, x := range v {
		b = appendBare(b, x)
	}
	return b
}
