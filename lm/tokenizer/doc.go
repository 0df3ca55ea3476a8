// Package tokenizer turns text into the token IDs of a language model and IDs
// back into text.
//
// Start at [Load], which reads the tokenizer of a model directory, or at
// [ParseJSON], [ParseSentencePiece], [ParseTiktoken] and [FromGGUF], one for
// each form in which a vocabulary is published. All give a [Tokenizer], which
// is immutable and safe for concurrent use. [Tokenizer.Encode] recognises the
// special tokens that a chat template writes into its text;
// [Tokenizer.EncodeOrdinary] is for text that comes from outside and must not
// be able to name them. [Tokenizer.NewStream] decodes while tokens arrive.
//
// # Whose definition
//
// Each form means what its own reference implementation makes of it:
//
//   - tokenizer.json: the tokenizers library
//     (https://github.com/huggingface/tokenizers, 0.23). The file is the truth:
//     transformers replaces parts of it for some classes, and that is not
//     followed.
//   - tokenizer.model with a protocol buffer: SentencePiece
//     (https://github.com/google/sentencepiece, 0.2), BPE and Unigram.
//   - tokenizer.model with base64 lines: tiktoken
//     (https://github.com/openai/tiktoken) with the pattern and special tokens
//     of Llama 3.
//   - the tokenizer keys of a GGUF file: llama.cpp
//     (https://github.com/ggml-org/llama.cpp).
//
// A component that is not known is refused by its name; none is skipped.
// Truncation and padding blocks are ignored, and so is BPE dropout, since
// encoding is deterministic.
//
// # Text
//
// Text is UTF-8. In text that is not, each maximal part of an ill-formed
// sequence counts as one U+FFFD, before anything else happens, as when the
// bytes are decoded by Python with errors="replace". Letters, digits, spaces
// and normal forms are those of the Unicode version of the Go release (15.0):
// the references use others (8.0 for punctuation, 16.0 for patterns), so
// characters which became or changed since can be split differently.
//
// # Files from elsewhere
//
// Parsing never panics, and uses memory in proportion to the length of what it
// is given; IDs may be as large as 2³¹−2 without a table being made for them.
// Encoding a word of n bytes takes O(n log n). A pattern that is none of the
// known ones runs in a backtracking engine with a limit on its time and
// memory; the text that is left when a limit is reached stays one piece.
package tokenizer
