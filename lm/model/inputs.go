package model

import "context"

// An Observer is shown what matrices are multiplied by: x is (rows, cols), a row
// for each position, and tensors are the stored names of all matrices that it is
// multiplied with, such as those of gate_proj and up_proj together, each once:
// InternLM2's wqkv is one tensor. x holds float32 values before they are rounded
// for the product, and is valid until the Observer returns.
type Observer func(tensors []string, x []float32, rows, cols int)

// Observe is [Model.Forward] with an Observer: of every matrix of every layer it
// sees the inputs at all positions, in the order of the batch, first the steps,
// then their tokens. Calls come one after the other, and values and order of the
// rows do not depend on the number of threads, nor on how sequences are divided
// among calls of Observe. The output head, too, is observed, at the positions
// whose logits are wanted; its embedding is looked up and not multiplied.
func (m *Model) Observe(ctx context.Context, batch []Step, observe Observer) error {
	return m.compute(ctx, batch, observe)
}

// prepare readies the m vectors of x, (m, n), for products with matrices, and
// shows them to whoever observes.
func (f *forward) prepare(x []float32, m, n int, ws ...*matrix) *operands {
	if f.observe != nil {
		f.show(x, m, n, ws)
	}
	return f.s.operands.prepare(f.t, x, m, n, ws...)
}

func (f *forward) show(x []float32, m, n int, ws []*matrix) {
	var names []string
	for _, w := range ws {
		if k := len(names); k == 0 || names[k-1] != w.name {
			names = append(names, w.name)
		}
	}
	f.observe(names, x[:m*n], m, n)
}
