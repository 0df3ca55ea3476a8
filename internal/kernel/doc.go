// Package kernel holds the inner loops of extrapolation: number formats to and
// from float32, the formula r = a + alpha·(a − s) under three ways of rounding,
// and the measurements taken on the way.
//
// Start at [Mixer], which does all of it over stored bytes. [Widen], [Narrow],
// [NarrowStochastic], [Mix32], [MixPerOp32] and [Measure] are its stages.
//
// For running a model there are, beside them, [MatMul] of [Activations] with
// stored weights; [Scores], [Softmax] and [WeightedSum] for attention; [RMSNorm],
// [Rope], [SiLUMul], [Argmax], [Dot] and [Axpy].
//
// # Promises
//
// Results of extrapolation are the same bit for bit under every implementation,
// on every architecture, and however a tensor is cut into calls: element i of
// the output depends on element i of the inputs, on the Mixer, and (with
// Stochastic) on the index i. Statistics are the same under every
// implementation; their floating-point sums depend on where the calls cut, in
// their last bits.
//
// Every NaN that is written is one pattern, the canonical quiet NaN of [Narrow],
// since which payload survives an operation differs between machines. The one
// exception is an element whose stored bytes are copied (see [Mixer.Run]).
//
// What runs a model promises less. An element of a result depends on its own
// inputs and on the implementation, bit for bit, and never on what is computed
// beside it: not on the batch, the range of rows, or where the keys of a cache
// are cut into calls. Implementations differ from each other within the rounding
// of float32 sums; each function gives its order.
//
// # Order of operations
//
// In extrapolation, each operation on float32 is rounded to float32 before the
// next; none is fused. Sums are float64, taken in sub-blocks of 4096 elements
// counted from the start of the call. A sub-block has 8 accumulators: element i
// goes to accumulator i mod 8, in order, and they are added as
// ((l0+l4)+(l2+l6))+((l1+l5)+(l3+l7)). Every term is the product of two float32,
// which float64 holds exactly, so multiplying and adding in one instruction or
// in two gives the same sum, and the compiler and the assembly may choose.
//
// The rounding rules are those of PyTorch on the CPU: [Once] is what it computes
// when the tensors are float32, [PerOp] when they are bfloat16
// (https://pytorch.org/docs/stable/generated/torch.add.html). FP8 formats follow
// "FP8 Formats for Deep Learning" (https://arxiv.org/abs/2209.05433).
//
// # Implementations
//
// On amd64 the loops exist for AVX-512 (F, BW, DQ, VL) and for AVX2 (with FMA
// and F16C), chosen when the program starts; products with BF16 weights also for
// AVX512_BF16, and on Linux for AMX-BF16. The build tag purego leaves them out.
// Everywhere else, and for what the assembly does not cover, the portable
// definition in the same file as the doc comment runs. The assembly is generated
// by the program in _asm.
package kernel
