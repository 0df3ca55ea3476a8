// Package notes is the small world in which the bundled models live: requests for
// a note to a neighbour, notes of all qualities, a rule that says how good a note
// is, and readers, who do not see it quite as the rule does.
//
// Start at Prompts for the requests and at Write for a note as somebody might
// write it: friendly or rude, to the point or not. A model that imitates these
// notes has much to learn. Score is the rule, and the goal: whether a note greets
// the right person, names the right thing, is kind, and takes its leave.
// Readers is what people would rather read: they like kindness without end, and
// look less at names. A reward model learns from readers, preferences come from
// the rule; so it can be seen when a higher reward no longer means a better note.
//
// Everything is a function of its seed, the same on every machine.
package notes
