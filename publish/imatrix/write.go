package imatrix

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"expo/weights/gguf"
	"expo/weights/tensor"
)

// WriteGGUF writes the format of llama-imatrix since 2025, a GGUF file.
func (m *Matrix) WriteGGUF(w io.Writer) error {
	pairs := []gguf.Pair{
		{Key: typeKey, Value: fileType},
		{Key: datasetsKey, Value: append([]string{}, m.Datasets...)},
		{Key: chunksKey, Value: uint32(m.Chunks)},
		{Key: chunkSizeKey, Value: uint32(m.ChunkSize)},
	}
	var ts []gguf.Tensor
	add := func(name string, rows, cols int, x []float32) {
		t := gguf.Tensor{Name: name, Type: gguf.F32, Shape: []int{rows, cols}, Data: tensor.Bytes(littleEndian(x))}
		if rows == 1 {
			t.Shape = t.Shape[1:] // ggml does not count dimensions of 1
		}
		ts = append(ts, t)
	}
	for _, name := range m.Names() {
		e := m.Entries[name]
		counts := make([]float32, len(e.Counts))
		for i, c := range e.Counts {
			counts[i] = float32(c)
		}
		add(name+sumsSuffix, len(counts), e.Columns(), e.Sums)
		add(name+countsSuffix, len(counts), 1, counts)
	}
	if err := gguf.Write(w, pairs, ts); err != nil {
		return fmt.Errorf("imatrix: %w", err)
	}
	return nil
}

// WriteLegacy writes the older format, which files named .dat have. Of several
// datasets it keeps the last. Sums become means times chunks, so they lose a bit.
func (m *Matrix) WriteLegacy(w io.Writer) error {
	var out bytes.Buffer
	var bad []error
	number := func(what string, n int64) {
		if n < 0 || n > math.MaxInt32 {
			bad = append(bad, fmt.Errorf("imatrix: %s, %d, is more than the format can hold", what, n))
		}
		out.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	}
	text := func(s string) {
		number("the length of a name", int64(len(s)))
		out.WriteString(s)
	}
	number("the number of entries", int64(len(m.Entries)))
	size := int64(max(m.ChunkSize, 1))
	for _, name := range m.Names() {
		e := m.Entries[name]
		text(name)
		chunks := (slices.Max(e.Counts) + size - 1) / size
		number("the number of chunks", chunks)
		number("the number of values", int64(len(e.Sums)))
		x := e.Means()
		for i := range x {
			x[i] *= float32(chunks)
		}
		out.Write(littleEndian(x))
	}
	number("the number of chunks", int64(m.Chunks))
	last := ""
	if n := len(m.Datasets); n > 0 {
		last = m.Datasets[n-1]
	}
	text(last)
	if len(bad) > 0 {
		return errors.Join(bad...)
	}
	_, err := out.WriteTo(w)
	return err
}

func littleEndian(x []float32) []byte {
	b := make([]byte, 0, 4*len(x))
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}
