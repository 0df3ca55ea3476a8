package checkpointtest

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"

	"expo/weights/tensor"
)

// Floats is a tensor over memory with the given values, row-major. Values are
// rounded to nearest, ties to even; one beyond the largest finite value of the
// type becomes that value, an infinity stays one where the type has it. It
// panics if the number of values is not that of the shape, or the type is
// none of F64, F32, BF16, F16, F8_E4M3 and F8_E5M2.
func Floats(name string, d tensor.DType, shape []int, vals []float32) tensor.Tensor {
	var b []byte
	switch d {
	case tensor.F64:
		for _, v := range vals {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(float64(v)))
		}
	case tensor.F32:
		for _, v := range vals {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	default:
		codes := newCodes(d)
		for _, v := range vals {
			b = codes.append(b, v)
		}
	}
	return Raw(name, d, shape, b)
}

// Ints is Floats for BOOL and the integer types; values are cut to the type's
// width.
func Ints(name string, d tensor.DType, shape []int, vals []int64) tensor.Tensor {
	width := d.Bits() / 8
	var b []byte
	for _, v := range vals {
		b = append(b, binary.LittleEndian.AppendUint64(nil, uint64(v))[:width]...)
	}
	return Raw(name, d, shape, b)
}

// Raw is a tensor over the given bytes, of any type. It panics if their number
// is not that of type and shape.
func Raw(name string, d tensor.DType, shape []int, b []byte) tensor.Tensor {
	t := tensor.Tensor{Name: name, DType: d, Shape: shape, Data: tensor.Bytes(b)}
	if want := t.Size(); want != int64(len(b)) {
		panic(fmt.Sprintf("checkpointtest: %s: %d bytes for %v of shape %v, want %d", name, len(b), d, shape, want))
	}
	return t
}

// Bytes reads the whole of a tensor and panics if that fails.
func Bytes(t tensor.Tensor) []byte {
	b := make([]byte, t.Size())
	if err := tensor.ReadFull(t.Data, b, 0); err != nil {
		panic(fmt.Sprintf("checkpointtest: %s: %v", t.Name, err))
	}
	return b
}

// Values reads the whole of a tensor as float32 and panics if that fails.
func Values(t tensor.Tensor) []float32 {
	v := make([]float32, t.Elements())
	if err := t.ReadFloat32(v, 0); err != nil {
		panic(fmt.Sprintf("checkpointtest: %v", err))
	}
	return v
}

// codes rounds to a type of 8 or 16 bits by looking up its values, so that it
// shares no arithmetic with the conversions that tests check.
type codes struct {
	width  int
	values []float64 // of the codes 0, 1, … with sign 0, finite and ascending
	inf    int       // code of +Inf, or -1
	nan    int
}

func newCodes(d tensor.DType) *codes {
	if d.Bits() > 16 || !d.Float() {
		panic(fmt.Sprintf("checkpointtest: %v is not a floating-point type that Floats knows", d))
	}
	c := &codes{width: d.Bits() / 8, inf: -1}
	n := 1 << (d.Bits() - 1)
	var b []byte
	for code := range n {
		b = c.put(b, code)
	}
	all := Values(Raw("codes", d, []int{n}, b))
	for code, v := range all {
		switch {
		case math.IsInf(float64(v), 1):
			c.inf = code
		case v != v:
			c.nan = code
		default:
			c.values = append(c.values, float64(v))
		}
	}
	return c
}

func (c *codes) put(b []byte, code int) []byte {
	b = append(b, byte(code))
	if c.width == 2 {
		b = append(b, byte(code>>8))
	}
	return b
}

func (c *codes) append(b []byte, v float32) []byte {
	if v != v {
		return c.put(b, c.nan)
	}
	sign := 0
	if math.Signbit(float64(v)) {
		sign = 1 << (8*c.width - 1)
	}
	x := math.Abs(float64(v))
	if math.IsInf(x, 1) && c.inf >= 0 {
		return c.put(b, sign|c.inf)
	}
	// Codes of one sign ascend with their values, from 0 on.
	i := sort.SearchFloat64s(c.values, x)
	switch {
	case i == len(c.values):
		i--
	case i > 0:
		below, above := x-c.values[i-1], c.values[i]-x
		if below < above || below == above && (i-1)%2 == 0 {
			i--
		}
	}
	return c.put(b, sign|i)
}
