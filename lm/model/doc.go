// Package model runs decoder-only language models of the Llama family on the
// CPU: token IDs in, logits out. It knows nothing of text.
//
// Start at [Load] (a directory in the Hugging Face layout, or any view of one)
// or [LoadGGUF], make a [Cache] for each sequence, and call [Model.Forward]
// with as many sequences as there are; prompts and single tokens may be mixed.
// [Model.Classify] is for reward models and other sequence classifiers,
// [Model.Observe] for whoever wants to know what matrices are multiplied by.
//
// Supported are Llama, Mistral, Qwen2 and InternLM2, with their meaning in
// Hugging Face transformers 5.23 (https://github.com/huggingface/transformers,
// src/transformers/models) and, for InternLM2, in the Python files of its
// repositories (https://huggingface.co/internlm/internlm2-chat-7b).
//
// # Promises
//
// A position's logits depend on the tokens before it and on nothing else, bit
// for bit: not on what else is in the batch, on how the tokens are divided
// among calls, on whether keys and values were computed for this sequence or
// shared from another, or on the number of threads. They may differ in the
// last bits from one kind of processor to another. The one exception is the
// rope scaling "dynamic" beyond max_position_embeddings, which by its
// definition depends on how the text was fed.
//
// # Arithmetic
//
// Weights stay in memory in the format they are stored in. Sums of products
// are float32. A checkpoint of BF16 weights rounds to bfloat16 wherever
// transformers does when it runs the model in that type, so that the same
// tokens win; logits are then bfloat16 values too. All others, and every GGUF
// file, keep float32 between operations, as llama.cpp does. A vector is rounded
// for the product alone: to bfloat16 where weights are BF16, to 8 bits, with a
// scale for each block, where they are quantized, and to F16, queries and
// attention weights, where keys and values are kept as F16.
//
// In quantized models, that rounding makes logits uncertain by tenths. A
// difference in the last bit of a sum moves a value across the border between
// two steps; a step is thousands of times that difference, and moves others in
// the next layer. So another order of additions, on another kind of processor or
// in another program, changes logits about as much as any other change would,
// and llama.cpp's own differ as much with the number of tokens that it reads
// together. scripts/against_llamacpp.py measures both.
//
// Memory is the weights, 64-position pages of keys and values (4 bytes per
// value for F32 models, otherwise 2: BF16 where states are, else F16), and
// buffers for 512 tokens.
package model
