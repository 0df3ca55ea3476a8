// Package eval is what measuring a model leaves behind: figures, what they
// were computed from, and a log from which an interrupted run goes on.
//
// Start at [Result]: one model on one suite, as a list of [Metric], each with
// its number of samples, standard error and interval. [Sample] is the outcome
// of one question. [Log] keeps every answer and every judgment as it arrives,
// under a [Key] made of all that went into it, so that nothing is paid for
// twice.
//
// What it promises: a figure that could not be computed is NaN here and null
// in JSON, never 0; a sample without a score says why; a record that Append
// has returned from survives the death of the process and of the machine.
package eval
