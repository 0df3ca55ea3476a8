package reward

// Distinct is distinct-n (Li et al. 2016, https://arxiv.org/abs/1510.03055): the
// number of different groups of n neighbouring words, divided by the number of
// all such groups, over all texts together; 1 if there are none. It falls with
// the amount of text, so compare like with like.
func Distinct(n int, texts ...[]string) float64 {
	all, different := groups(n, texts)
	if all == 0 {
		return 1
	}
	return float64(different) / float64(all)
}

// repetitionGroup is the n of Repetition.
const repetitionGroup = 4

// Repetition is seq-rep-4 (Welleck et al. 2020,
// https://arxiv.org/abs/1908.04319): the share of groups of 4 neighbouring words
// that have been there before in the text, 0…1. A text that says one thing over
// and over is near 1; prose is below 0.05.
func Repetition(words []string) float64 {
	return 1 - Distinct(repetitionGroup, words)
}

// groups counts the groups of n neighbouring words, and the different ones.
func groups(n int, texts [][]string) (all, different int) {
	if n < 1 {
		panic("reward: groups of less than one word")
	}
	// A group is a path from 0, a word a step, so that no character has to stand
	// between words.
	type step struct {
		before int
		word   string
	}
	ids := map[step]int{}
	seen := map[int]bool{}
	for _, words := range texts {
		for i := 0; i+n <= len(words); i++ {
			at := 0
			for _, w := range words[i : i+n] {
				s := step{at, w}
				id, ok := ids[s]
				if !ok {
					id = len(ids) + 1
					ids[s] = id
				}
				at = id
			}
			all++
			seen[at] = true
		}
	}
	return all, len(seen)
}
