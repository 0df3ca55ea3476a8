package model

import (
	"runtime"
	"sync"

	"expo/internal/kernel"
)

// Model is a decoder in memory. Its methods may be called concurrently; calls
// of Forward and Update wait for each other.
type Model struct {
	cfg    *Config
	tokens *matrix // (vocab_size, hidden_size)
	layers []layer
	norm   []float32
	head   *matrix // (vocab_size or num_labels, hidden_size)

	round bool          // to bfloat16 after every operation
	kv    kernel.Format // of keys and values in the cache
	pages pages
	jobs  int
	noMap bool
	parts []part
	own   memory

	mu      sync.Mutex // one Forward at a time
	scratch scratch
}

type layer struct {
	attentionNorm, mlpNorm []float32
	q, k, v, o             *matrix // (heads·head_dim, hidden_size) …, (hidden_size, heads·head_dim)
	gate, up, down         *matrix
}

// Config describes the model. The caller must not change it.
func (m *Model) Config() *Config { return m.cfg }

// Outputs is the number of logits at a position: vocab_size, or num_labels of
// a classifier.
func (m *Model) Outputs() int { return m.head.rows }

// Bytes is the memory that the weights take, in the process or in a mapped file.
func (m *Model) Bytes() int64 { return m.own.size }

// FeedWhole reports whether tokens up to a length must be read in one step,
// without a shared prefix, to mean what transformers means: rope scaling
// "dynamic" chooses its angles by the length of the whole.
func (m *Model) FeedWhole(length int) bool { return m.cfg.Rope.dependsOnLength(length) }

func jobsOr(jobs int) int {
	if jobs > 0 {
		return jobs
	}
	return runtime.GOMAXPROCS(0)
}
