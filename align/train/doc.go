// Package train trains small language models in this process: all parameters of
// Llama, Mistral and Qwen2 models, forward and backward written by hand.
//
// Start at [New] (a config.json, a tokenizer and a seed) or [Open] (a checkpoint),
// which give a [Model], and train it with [SFT], [DPO], [SPPO] or [Reward]. Then
// [Model.Checkpoint] is what every other package takes, and what
// checkpoint.Write writes:
//
//	m, err := train.New(os.DirFS("tiny"), 1)
//	_, err = train.SFT(ctx, m, examples, train.Options{Steps: 500, LearningRate: 1e-3})
//	sft, err := m.Checkpoint("sft")
//	_, err = train.DPO(ctx, m, pairs, train.DPOOptions{Options: train.Options{Steps: 25, LearningRate: 1e-4}})
//	aligned, err := m.Checkpoint("aligned")
//
// # Promises
//
// The same start, data and [Options] give the same weights, bit for bit, with any
// number of threads, and also when the run was killed and went on from a saved
// state ([Options.Work]). Other kinds of processors may give other last bits.
//
// Weights, gradients, sums and the optimizer's moments are float32. With
// Compute: BF16 the factors of products with weights are rounded to bfloat16
// first, which is faster where the processor multiplies such pairs; attention
// stays in float32.
//
// A loss or gradient that is not finite ends the run with a [NonFiniteError], before
// it can touch the weights.
//
// # Whose definitions
//
// Networks are those of transformers 5.23
// (https://github.com/huggingface/transformers, src/transformers/models),
// gradients are checked against float64 differences and PyTorch's autograd.
// Losses follow TRL (https://huggingface.co/docs/trl) and, for SPPO, the authors'
// trainer (https://github.com/uclaml/SPPO); each function gives its formula.
package train
