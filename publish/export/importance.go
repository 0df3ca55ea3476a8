package export

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"expo/internal/quant"
	"expo/lm/model"
	"expo/publish/imatrix"
	"expo/weights/gguf"
)

// Importance runs a model that was loaded from a checkpoint over chunks of a text
// and gives the importance of its matrices under their names in a GGUF file: what
// [File] takes. Of the embedding, and of the output head, it has none, as in
// llama.cpp.
func Importance(ctx context.Context, m *model.Model, chunks [][]int, opt imatrix.Options) (*imatrix.Matrix, error) {
	im, err := imatrix.Compute(ctx, m, chunks, opt)
	if err != nil {
		return nil, err
	}
	names := map[string][]string{}
	for _, p := range parts(m.Config()) {
		names[p.source] = append(names[p.source], p.name)
	}
	return im.Renamed(func(name string) []string { return names[name] }), nil
}

// Weighs reports whether an importance changes what files of the type hold.
func (t Type) Weighs() bool { return t.quantized() && t != Q8_0 }

// weighed reports whether blocks of a type are chosen by importance.
func weighed(t gguf.Type) bool { return t != gguf.Q8_0 && blocks[t] != quant.None }

// weigh looks up the importance of the columns of each part that is to be
// quantized with one, nil where there is none; used counts them. note is which
// have none though they might. The error is for all entries that do not fit the
// model. A matrix without entries is one that is not known yet.
func weigh(ps []part, im *imatrix.Matrix, types []gguf.Type) (weights [][]float32, used int, note string, err error) {
	weights = make([][]float32, len(ps))
	if len(im.Entries) == 0 {
		return weights, 0, "", nil
	}
	known := map[string]bool{}
	var bad []error
	var missing []string
	for i, p := range ps {
		if p.vector {
			continue
		}
		known[p.name] = true
		e, ok := im.Entries[p.name]
		switch {
		case ok && len(e.Counts) != 1:
			bad = append(bad, fmt.Errorf("%s has %d columns, its importance %d matrices of %d", p.name, p.cols, len(e.Counts), e.Columns()))
		case ok && len(e.Sums) != p.cols:
			bad = append(bad, fmt.Errorf("%s has %d columns, its importance %d", p.name, p.cols, len(e.Sums)))
		case !weighed(types[i]):
		case ok:
			weights[i] = e.Means()
			used++
		case p.role != roleTokens && p.role != roleHead:
			missing = append(missing, p.name)
		}
	}
	for _, name := range im.Names() {
		// Programs have named the embedding so where it is the head, too.
		if !known[name] && name != "output.weight" {
			bad = append(bad, fmt.Errorf("the model has no %s", name))
		}
	}
	if n := len(missing); n > 0 {
		const most = 8
		if n > most {
			missing = append(missing[:most], fmt.Sprintf("and %d more", n-most))
		}
		note = fmt.Sprintf("%d of %d matrices are not in the importance matrix and are quantized without: %s", n, n+used, strings.Join(missing, ", "))
	}
	return weights, used, note, errors.Join(bad...)
}

// importanceKeys say in a file's metadata which importance it was quantized with,
// as llama-quantize does.
func importanceKeys(f File) []gguf.Pair {
	if f.Importance == nil || !f.Type.Weighs() {
		return nil
	}
	var ps []gguf.Pair
	add := func(key string, v any) { ps = append(ps, gguf.Pair{Key: "quantize.imatrix." + key, Value: v}) }
	if f.ImportanceFile != "" {
		add("file", f.ImportanceFile)
	}
	if d := f.Importance.Datasets; len(d) > 0 {
		add("dataset", strings.ToValidUTF8(d[0], "\uFFFD"))
	}
	add("entries_count", uint32(len(f.Importance.Entries)))
	if n := f.Importance.Chunks; n > 0 && uint64(n) <= math.MaxUint32 {
		add("chunks_count", uint32(n))
	}
	return ps
}

// UsedImportance is what a file was quantized with.
type UsedImportance struct {
	File    string `json:"file,omitempty"`
	Dataset string `json:"dataset,omitempty"`
	Entries int    `json:"entries"`
	Chunks  int    `json:"chunks,omitempty"`
	// Tensors counts those that were quantized with an importance.
	Tensors int `json:"tensors"`
	// RelativeError is √(Σw(out − θ)² / Σwθ²) over those tensors, w being the
	// importance of the column: about what share of their outputs is lost.
	RelativeError float64 `json:"relative_error"`
}

func usedImportance(f File, used int) *UsedImportance {
	if f.Importance == nil || !f.Type.Weighs() {
		return nil
	}
	u := &UsedImportance{File: f.ImportanceFile, Entries: len(f.Importance.Entries), Chunks: f.Importance.Chunks, Tensors: used}
	if d := f.Importance.Datasets; len(d) > 0 {
		u.Dataset = d[0]
	}
	return u
}
