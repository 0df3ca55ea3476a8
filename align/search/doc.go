// Package search chooses α: how far beyond the aligned model to go on the line
// θ = θ_aligned + α(θ_aligned − θ_sft), on which α = −1 is the SFT model and
// α = 0 the aligned one.
//
// Start at [Run], which measures an [Objective] on a grid and at both ends of
// the line, widens the grid while its best α lies at an edge, refines by golden
// section where asked, and chooses; [ParseAlphas] reads a grid. [Scan] is a
// cheaper look at the line, from log-likelihoods alone.
//
// The protocol is that of Zheng et al., "Model Extrapolation Expedites
// Alignment" (https://arxiv.org/abs/2404.16792): the α of the highest mean
// reward over the answers to a fixed set of prompts. To it this package adds
// what a mean without error bars cannot say:
//
//   - Samples are paired. The i-th sample of every α answers the same prompt with
//     the same random numbers, so a difference of two α has a much smaller error
//     than their means ([Paired]).
//   - Of several α that cannot be told apart from the best, the one nearest to
//     the aligned model is chosen, since what goes wrong grows with α.
//   - [Gates] are limits that an α must keep: length, answers that end,
//     repetition, other tasks.
//   - Length grew in every published pair, and rewards like length: each row has
//     the mean reward with the effect of length taken out beside the raw one.
//
// The package knows only functions of α: no model, no file, no network. The
// same samples give the same result, bit for bit.
package search
