// Package reward scores answers: how good a reward model finds a response to a
// prompt, or which of two responses a preference model prefers.
//
// Start at [Open], which loads a reward model of a directory into this process
// and chooses by config.json what it is, or at [NewRemote] for one that a server
// runs. Both are a [Scorer]. Three kinds of model are known to Open:
//
//   - [Classifier]: a decoder with a sequence classification head, such as
//     LlamaForSequenceClassification (RM-Mistral-7B is one). The conversation
//     goes through the reward model's own chat template.
//   - [PairClassifier]: DebertaV2ForSequenceClassification, which reads prompt
//     and response as a pair of texts.
//   - [PairRM]: compares two responses to one prompt. It is a [Preference], and
//     a Scorer of items that have a reference to be compared with.
//
// [Measure] gives what must stand beside any reward, because rewards are easily
// gained by it: length, repetition, loops, and whether the answer ended.
//
// # Whose definitions
//
// A classifier's score is its raw output, as a transformers pipeline gives it
// with function_to_apply="none"
// (https://huggingface.co/docs/transformers/main_classes/pipelines). DeBERTa is
// that of transformers 5.23
// (https://github.com/huggingface/transformers/tree/main/src/transformers/models/deberta_v2)
// and "DeBERTa: Decoding-enhanced BERT with Disentangled Attention"
// (https://arxiv.org/abs/2006.03654). PairRM is that of LLM-Blender
// (https://github.com/yuchenlin/LLM-Blender, https://arxiv.org/abs/2306.02561).
// Win probabilities among several answers are those of SPPO
// (https://arxiv.org/abs/2405.00675).
//
// # Promises
//
// A score depends on its item alone, bit for bit: not on what else is scored
// with it, in which order, or on the number of threads. It may differ in the last
// bits from one kind of processor to another. Scores of different reward models
// are not on one scale.
package reward
