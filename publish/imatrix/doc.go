// Package imatrix is importance matrices: for each column of each weight matrix of
// a model, the mean square of what it is multiplied by in a text. A quantizer that
// knows them spends its precision where it matters.
//
// Start at [Compute], which runs a model over the [Chunks] of a text, or at [Read]
// for a file of llama.cpp's. Both give a [Matrix], which [Matrix.WriteGGUF] and
// [Matrix.WriteLegacy] store again.
//
// # Promises
//
// The values that Compute gives depend on the model and the chunks alone, not on
// the number of threads. Sums are float64, over the rows in the order of the text,
// and rounded to float32 at the end. They are exact to the last bit or two, where
// those of other programs, summed in float32, lose digits as the text gets longer.
//
// Foreign bytes make an error of a line for each thing that is wrong, not a panic,
// and memory is bounded by the length of the file. A Matrix that was read has
// finite values that are not negative, and as many of them as its counts need.
//
// # Whose definition
//
// Chunks, names and files are those of llama.cpp's program llama-imatrix, the
// meaning of files that of llama-quantize
// (https://github.com/ggml-org/llama.cpp/tree/master/tools/imatrix).
package imatrix
