package imatrix

import (
	"maps"
	"slices"
)

// A Matrix is the importance of the columns of a model's matrices.
type Matrix struct {
	// Entries are by the names of tensors: in files those of GGUF models, such as
	// blk.0.attn_q.weight.
	Entries map[string]Entry

	Datasets  []string // names of the texts
	Chunks    int      // parts of text that were run; 0: not known
	ChunkSize int      // tokens of each; 0: not known
}

// An Entry is the importance of one tensor. Where this holds several matrices, as
// that of a layer's experts does, one follows the other.
type Entry struct {
	// Sums are Σx² over the rows x that were multiplied, for each column:
	// (matrices, columns).
	Sums []float32
	// Counts are how many rows those were, for each matrix.
	Counts []int64
}

// Columns is the number of columns of each matrix.
func (e Entry) Columns() int { return len(e.Sums) / len(e.Counts) }

// Means are Sums over Counts as llama-quantize divides them, in float32. Those of
// a matrix that was never used are 1.
func (e Entry) Means() []float32 {
	means := make([]float32, len(e.Sums))
	n := e.Columns()
	for i, s := range e.Sums {
		means[i] = 1
		if c := e.Counts[i/n]; c > 0 {
			means[i] = s / float32(c)
		}
	}
	return means
}

// Names are the names of the entries, in order.
func (m *Matrix) Names() []string { return slices.Sorted(maps.Keys(m.Entries)) }

// Renamed is m with other names for its entries. names gives those that one
// becomes, which share its values: none drops it.
func (m *Matrix) Renamed(names func(string) []string) *Matrix {
	out := *m
	out.Entries = map[string]Entry{}
	for name, e := range m.Entries {
		for _, n := range names(name) {
			out.Entries[n] = e
		}
	}
	return &out
}
