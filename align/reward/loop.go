package reward

// What counts as a loop: the same thing at least loopTimes times, over at least
// loopLength characters. Rules and emphasis (a line of dashes, "no, no, no")
// stay below.
const (
	loopTimes  = 4
	loopLength = 80
)

// A Loop is the repetition at the end of a text.
type Loop struct {
	Unit   string // what is repeated, in the form in which the text ends with it
	Times  int    // how often, whole repetitions only
	Length int    // characters that the loop takes, an incomplete repetition at its start among them
}

// FindLoop looks whether a text ends in a loop: one unit repeated without change
// until the end, where the text may have been cut off in the middle of it. This
// is how a model fails that does not find its end token. Repetition with small
// changes, such as a count, is not one; [Repetition] shows it.
//
// It takes time in proportion to the length of the text.
func FindLoop(text string) (Loop, bool) {
	s := []rune(text)
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\n') {
		s = s[:len(s)-1] // a loop of lines is one without the last newline too
	}
	n := len(s)
	// z[p] is how far the reversed text agrees with itself p characters later:
	// so many characters before the last p repeat with period p.
	at := func(i int) rune { return s[n-1-i] }
	z := make([]int, n)
	for i, l, r := 1, 0, 0; i < n; i++ {
		if i < r {
			z[i] = min(r-i, z[i-l])
		}
		for i+z[i] < n && at(z[i]) == at(i+z[i]) {
			z[i]++
		}
		if i+z[i] > r {
			l, r = i, i+z[i]
		}
	}
	for p := 1; p < n; p++ {
		if length := p + z[p]; length >= loopLength && length/p >= loopTimes {
			return Loop{Unit: string(s[n-p:]), Times: length / p, Length: length}, true
		}
	}
	return Loop{}, false
}
