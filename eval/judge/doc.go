// Package judge lets a model judge other models' answers: it makes the prompt,
// and reads the verdict out of the reply.
//
// Start at [Pairwise], which compares two answers as AlpacaEval's judges do
// (https://github.com/tatsu-lab/alpaca_eval).
//
// It promises that a reply is read by the published rule or not at all: what
// cannot be read is tried again as often as allowed and then counted, never
// guessed; every reply can be kept and be read again without another call.
package judge
