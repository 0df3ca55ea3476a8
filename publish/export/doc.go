// Package export writes models as GGUF files, plain or quantized, that llama.cpp
// and whatever is built on it open.
//
// Start at [Write]. It takes checkpoints, which may be views of a pair that are
// computed as they are read: weights are rounded once, from the float32 value to
// the type of the file, and never to the type of the checkpoint before. Several
// files, of several α and types, are written in one pass over the inputs.
//
// # Promises
//
// The bytes of a file depend on the model, the type and what Options say about
// the model, and not on Jobs or on which other files are written beside it. A file
// is there when it is whole. Memory is bounded: a few megabytes for each of
// Options.Jobs, and the vocabulary.
//
// With an importance matrix ([File.Importance]) errors are weighed by what the
// columns of a matrix are multiplied by. [Importance] computes one with the model
// itself, in the type it would run in, which takes the memory of the model; a model
// beyond the aligned one has its own. All of it is as deterministic as the rest.
//
// A file of a model beyond the aligned one says so: general.expo.alpha is its α, a
// float64, and general.expo.effective_alpha what rounding has left of it;
// general.base_model.0 is the aligned model, general.base_model.1 the SFT model.
//
// # Whose definition
//
// Names of keys and tensors, the order of rows, and tokenizers are those of
// llama.cpp's convert_hf_to_gguf.py (https://github.com/ggml-org/llama.cpp). Which
// type each tensor gets, and the bits of its blocks, are those of its program
// llama-quantize, with the same importance matrix or without one. The format is that of
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
package export
