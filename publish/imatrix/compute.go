package imatrix

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"expo/lm/model"
	"expo/lm/tokenizer"
)

// Chunks are the tokens of a text in parts of size each, as llama-imatrix cuts it.
// Special tokens are not recognised in the text. Where the tokenizer puts BOS
// before a text, one stands before the whole, and takes the place of the first
// token of every part. What is left at the end is dropped, unless it is all there
// is. total is the number of tokens.
func Chunks(t *tokenizer.Tokenizer, text string, size int) (chunks [][]int, total int) {
	ids := t.EncodeOrdinary(text)
	bos := addsBOS(t)
	if bos && len(ids) > 0 {
		ids = append([]int{t.BOS()}, ids...)
	}
	total = len(ids)
	for len(ids) >= size || chunks == nil && len(ids) > 0 {
		n := min(size, len(ids))
		chunk := ids[:n:n]
		if bos {
			chunk[0] = t.BOS()
		}
		chunks, ids = append(chunks, chunk), ids[n:]
	}
	return chunks, total
}

func addsBOS(t *tokenizer.Tokenizer) bool {
	const text = "a"
	with, without := t.Encode(text, true), t.Encode(text, false)
	return t.BOS() >= 0 && len(with) > len(without) && with[0] == t.BOS()
}

// Options are for Compute.
type Options struct {
	// Jobs is the number of goroutines that add up; zero is one for each thread
	// that Go runs. The model has its own.
	Jobs int
	// Progress is told how many of the chunks are done.
	Progress func(done, total int)
}

// batchTokens is about how many tokens are run together: as many as the model
// computes at once.
const batchTokens = 512

// Compute runs a model over chunks, each from its beginning, and adds up the
// squares of what its matrices are multiplied by, under the names that the model
// was loaded with. Of the output head, and of the embedding, there is nothing. It
// fails where a sum is not finite.
func Compute(ctx context.Context, m *model.Model, chunks [][]int, opt Options) (*Matrix, error) {
	if len(chunks) == 0 {
		return nil, errors.New("imatrix: there is no text")
	}
	s := &sums{jobs: opt.Jobs, groups: map[string]*group{}}
	if s.jobs <= 0 {
		s.jobs = runtime.GOMAXPROCS(0)
	}
	for done := 0; done < len(chunks); {
		var batch []model.Step
		for tokens := 0; done < len(chunks) && (batch == nil || tokens+len(chunks[done]) <= batchTokens); done++ {
			batch = append(batch, model.Step{Cache: m.NewCache(), Tokens: chunks[done]})
			tokens += len(chunks[done])
		}
		err := m.Observe(ctx, batch, s.add)
		for _, step := range batch {
			step.Cache.Free()
		}
		if err != nil {
			return nil, fmt.Errorf("imatrix: %w", err)
		}
		if opt.Progress != nil {
			opt.Progress(done, len(chunks))
		}
	}
	out, err := s.matrix()
	if err != nil {
		return nil, err
	}
	out.Chunks, out.ChunkSize = len(chunks), len(chunks[0])
	return out, nil
}

// sums collects Σx² of the inputs of matrices.
type sums struct {
	jobs   int
	groups map[string]*group // by the first of their tensors
}

// A group is the tensors that are multiplied by the same rows.
type group struct {
	tensors []string
	squares []float64
	rows    int64
}

// add is a model.Observer.
func (s *sums) add(tensors []string, x []float32, rows, cols int) {
	g := s.groups[tensors[0]]
	if g == nil {
		g = &group{tensors: tensors, squares: make([]float64, cols)}
		s.groups[tensors[0]] = g
	}
	g.rows += int64(rows)
	// Each goroutine has columns of its own, so the order of a sum is that of
	// the rows.
	step := max((cols+s.jobs-1)/s.jobs, minColumns)
	var all sync.WaitGroup
	for lo := step; lo < cols; lo += step {
		all.Go(func() { g.addColumns(x, cols, lo, min(lo+step, cols)) })
	}
	g.addColumns(x, cols, 0, min(step, cols))
	all.Wait()
}

// minColumns are worth a goroutine.
const minColumns = 128

func (g *group) addColumns(x []float32, cols, lo, hi int) {
	sums := g.squares[lo:hi]
	for ; len(x) > 0; x = x[cols:] {
		row := x[lo:hi]
		row = row[:len(sums)]
		for i, v := range row {
			sums[i] += float64(v) * float64(v) // the product is exact, so fusing changes nothing
		}
	}
}

// matrix rounds the sums.
func (s *sums) matrix() (*Matrix, error) {
	m := &Matrix{Entries: map[string]Entry{}}
	var bad []error
	for _, g := range s.groups {
		e := Entry{Sums: make([]float32, len(g.squares)), Counts: []int64{g.rows}}
		for i, v := range g.squares {
			e.Sums[i] = float32(v)
		}
		for _, name := range g.tensors {
			m.Entries[name] = e
		}
	}
	for _, name := range m.Names() {
		for i, v := range m.Entries[name].Sums {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				bad = append(bad, fmt.Errorf("imatrix: the inputs of %s are not finite, or too large, in column %d", name, i))
				break
			}
		}
	}
	return m, errors.Join(bad...)
}
