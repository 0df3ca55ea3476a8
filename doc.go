// Package expo computes the model that lies beyond the aligned one: given a
// model fine-tuned by supervision (SFT) and the model that preference training
// made of it, θ = θ_aligned + α(θ_aligned − θ_sft).
//
// Start at Extrapolate, which gives the result as a lazy checkpoint whose
// tensors are computed as they are read, and Write, which streams it to a
// directory while it measures what rounding left of α. Examine looks at a pair
// without making anything of it; Rebuild checks a directory against its
// inputs.
//
// Tensors pair by name, so there is no table of architectures. Whatever does
// not pair is refused, all of it at once (*IncompatibleError), unless Options
// names a policy for it.
//
// The method is ExPO (Zheng et al., ACL 2025, https://arxiv.org/abs/2404.16792).
// What is computed, in which order and with which roundings, is said at
// kernel.Mixer and in docs/numerics.md.
package expo
