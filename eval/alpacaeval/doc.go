// Package alpacaeval measures a model as AlpacaEval 1 and 2.0 do: a judge
// compares its answers to some hundred instructions with a baseline's.
//
// Start at [NewWinRate] and [LengthControlled], which compute the figures of a
// [Judged], and at [ReadAnnotations] and [ReadOutputs] for alpaca_eval's files.
// [Answering] and [Judging] are the way there, from a model that answers to a
// judge that compares, with a log from which both go on.
//
// The win rate is the mean probability that the judge prefers the model. The
// length-controlled win rate is what it would be, by a logistic model, if both
// answers had the same length:
//
//	P(model preferred) = σ(w₁ tanh(Δ/sd Δ) + w₂ d + w₃)
//
// Δ is the baseline's length minus the model's in code points, sd its sample
// standard deviation, d the difficulty of the instruction. The weights are
// fitted with an L1 penalty, together with the answers of two models that were
// told to be concise and verbose, for which w₃ is left out. The rate is the
// mean of σ(w₂ d + w₃). Difficulties and those answers were made with
// gpt-4-1106-preview as the judge, whatever judge is used now.
//
// The definition is that of tatsu-lab/alpaca_eval 0.6.6
// (https://github.com/tatsu-lab/alpaca_eval, https://arxiv.org/abs/2404.04475).
// Published win rates come out of published annotations to 1e-9 points, and
// length-controlled ones to 1e-8 at the strength C of the fit that they were
// made with. Which C cross-validation chooses depends on the machine that it
// ran on, see [Folds]; so C is part of the result, and so is what its
// neighbours would give.
//
// Unlike alpaca_eval, rows are matched with difficulties by instruction, not
// by position ([Align]); a set that lacks instructions is an error unless it is
// asked for; and what could not be judged is counted.
package alpacaeval
