// Package demo holds five small language models that this project trained from
// nothing, and the line on which α moves between two of them.
//
// Start at [Open] for a model and at [NewLine] for the answers, rewards and scores
// at any α. The models write notes to neighbours (package notes):
//
//	sft      imitates notes of all qualities
//	aligned  the same after a short DPO, which stops early
//	trained  the same after DPO until nothing more is to be had
//	sppo     the same after SPPO, against the reward model
//	reward   what readers like: a reward model, which never saw the rule
//
// Preferences of DPO come from the rule, notes.Score; the reward model learned
// from readers. The weights are float32, about a megabyte each, in directories as
// transformers writes them, each with its tokenizer.
//
// README.md says how they are made, and what is promised of the bytes.
package demo
