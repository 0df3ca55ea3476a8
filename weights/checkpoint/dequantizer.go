package checkpoint

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"expo/weights/tensor"
)

// dequantizer computes the float32 values of a scaled FP8 weight on demand.
// The weight is taken as (matrices, rows, columns); each matrix has a grid of
// (gridRows, gridColumns) scales, one for each block of (blockRows,
// blockColumns).
type dequantizer struct {
	q, scale                tensor.Tensor
	rows, columns           int64
	gridRows, gridColumns   int64
	blockRows, blockColumns int64

	once   sync.Once
	scales []float32
	err    error
}

// usualBlock is the block of every published model, and what a configuration
// without weight_block_size means.
const usualBlock = 128

// maxScales bounds the memory for one weight's scales. A torch file may name
// more than it holds, by a stride of 0.
const maxScales = 1 << 26

// newDequantizer finds out how s is laid over q. block is (rows, columns), or
// (0, 0) if the configuration names none.
func newDequantizer(q, s tensor.Tensor, block [2]int) (*dequantizer, error) {
	d := &dequantizer{q: q, scale: s, rows: 1, columns: 1}
	if !s.DType.Float() && s.DType != tensor.U8 && s.DType != tensor.F8E8M0 {
		return nil, fmt.Errorf("%s: a scale of type %v is not known", s.Name, s.DType)
	}
	if _, err := tensor.Size(tensor.F32, q.Shape); err != nil {
		return nil, fmt.Errorf("%s: %w", q.Name, err)
	}
	if n := s.Elements(); n > maxScales {
		return nil, fmt.Errorf("%s: holds %d scales, more than the %d that are allowed", s.Name, n, maxScales)
	}
	dims := len(q.Shape)
	if dims > 0 {
		d.columns = int64(q.Shape[dims-1])
	}
	if dims > 1 {
		d.rows = int64(q.Shape[dims-2])
	}
	if q.Elements() == 0 {
		return d, nil
	}
	refuse := func(why string) (*dequantizer, error) {
		return nil, fmt.Errorf("%s: shape %v does not fit the weight's %v%s", s.Name, s.Shape, q.Shape, why)
	}
	if s.Elements() == 1 { // also for a stack of matrices
		d.gridRows, d.gridColumns = 1, 1
		d.rows = q.Elements() / d.columns
		d.blockRows, d.blockColumns = d.rows, d.columns
		return d, nil
	}
	switch lead := q.Shape[:max(dims-2, 0)]; {
	case dims == 1 && len(s.Shape) == 1:
		d.gridRows, d.gridColumns = 1, int64(s.Shape[0])
	case dims > 1 && len(s.Shape) == dims && slices.Equal(s.Shape[:dims-2], lead):
		d.gridRows, d.gridColumns = int64(s.Shape[dims-2]), int64(s.Shape[dims-1])
	case dims > 1 && slices.Equal(s.Shape, q.Shape[:dims-1]):
		d.gridRows, d.gridColumns = d.rows, 1
	case dims > 1 && slices.Equal(s.Shape, lead):
		d.gridRows, d.gridColumns = 1, 1
	default:
		return refuse("")
	}
	fits := func(r, c int64) bool {
		return d.gridRows == ceilDiv(d.rows, r) && d.gridColumns == ceilDiv(d.columns, c)
	}
	// Where the configuration says nothing and the grid divides the weight, the
	// block is read off the shapes, as transformers does; but 130 rows in two
	// blocks are 128 and 2, as everyone writes them, and not 65 and 65.
	r, c := int64(block[0]), int64(block[1])
	switch {
	case d.gridRows == 1 && d.gridColumns == 1:
		d.blockRows, d.blockColumns = d.rows, d.columns
	case d.gridRows == d.rows && d.gridColumns == 1:
		d.blockRows, d.blockColumns = 1, d.columns
	case r > 0 && fits(r, c):
		d.blockRows, d.blockColumns = r, c
	case r > 0:
		return refuse(fmt.Sprintf(" in blocks of %v", block))
	case fits(usualBlock, usualBlock):
		d.blockRows, d.blockColumns = usualBlock, usualBlock
	case d.gridRows > 0 && d.gridColumns > 0 && d.rows%d.gridRows == 0 && d.columns%d.gridColumns == 0:
		d.blockRows, d.blockColumns = d.rows/d.gridRows, d.columns/d.gridColumns
	default:
		return refuse("")
	}
	return d, nil
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }

// load reads the scales, one for 16,384 elements at the usual blocks.
func (d *dequantizer) load() error {
	d.once.Do(func() {
		n := d.scale.Elements()
		d.scales = make([]float32, n)
		if d.scale.DType.Float() {
			d.err = d.scale.ReadFloat32(d.scales, 0)
			return
		}
		b := make([]byte, n)
		if d.err = tensor.ReadFull(d.scale.Data, b, 0); d.err != nil {
			d.err = fmt.Errorf("%s: %w", d.scale.Name, d.err)
			return
		}
		for i, e := range b {
			switch e {
			case 0xff:
				d.scales[i] = float32(math.NaN())
			default:
				d.scales[i] = float32(math.Ldexp(1, int(e)-127))
			}
		}
	})
	return d.err
}

// ReadAt fills p with little-endian float32 values; off and len(p) may be any
// number of bytes.
func (d *dequantizer) ReadAt(p []byte, off int64) (int, error) {
	if err := d.load(); err != nil {
		return 0, err
	}
	size := d.q.Elements() * 4
	if off < 0 || off > size {
		return 0, fmt.Errorf("checkpoint: %s: offset %d of %d", d.q.Name, off, size)
	}
	want := len(p)
	if int64(want) > size-off {
		p = p[:size-off]
	}
	const chunk = 16 << 10
	vals := make([]float32, min(chunk, len(p)/4+2))
	buf := make([]byte, 4*len(vals))
	for done := 0; done < len(p); {
		pos := off + int64(done)
		first := pos / 4
		n := min(int64(len(vals)), d.q.Elements()-first)
		if err := d.values(vals[:n], first); err != nil {
			return done, err
		}
		for i, v := range vals[:n] {
			binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
		}
		done += copy(p[done:], buf[pos%4:4*n])
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

// values fills dst with the elements from first on.
func (d *dequantizer) values(dst []float32, first int64) error {
	if err := d.q.ReadFloat32(dst, first); err != nil {
		return err
	}
	for i := 0; i < len(dst); {
		at := first + int64(i)
		row, column := at/d.columns, at%d.columns
		matrix, row := row/d.rows, row%d.rows
		s := d.scales[(matrix*d.gridRows+row/d.blockRows)*d.gridColumns+column/d.blockColumns]
		end := min((column/d.blockColumns+1)*d.blockColumns, d.columns)
		n := int(min(end-column, int64(len(dst)-i)))
		for j := range dst[i : i+n] {
			dst[i+j] *= s
		}
		i += n
	}
	return nil
}

// Dequantized reports whether a tensor is one that Dequantize computes.
func Dequantized(t tensor.Tensor) bool {
	_, ok := t.Data.(*dequantizer)
	return ok
}
