package notes

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// Points are what the rule finds in a note.
type Points struct {
	Name    int // 1: the person is named
	Thing   int // 1: the thing is named
	Kind    int // kind words
	Cold    int // cold words
	Leave   int // 1: the last sentence takes leave politely
	Repeats int // sentences that have been there before
	Odd     int // words of sentences that make no sense, or not here
	Words   int
}

// longest is how many words a note may have.
const longest = 60

// Look counts what a note to a prompt has.
func Look(p Prompt, note string) Points {
	var x Points
	words := wordsOf(note)
	for _, w := range words {
		switch lower := strings.ToLower(w); {
		case w == p.Name:
			x.Name = 1
		case lower == p.Thing:
			x.Thing = 1
		case slices.Contains(kind, lower):
			x.Kind++
		case slices.Contains(cold, lower):
			x.Cold++
		}
	}
	x.Words = len(words)
	for _, s := range leaves {
		if strings.HasSuffix(note, s) {
			x.Leave = 1
		}
	}
	seen := map[string]bool{}
	sentences, odd := p.read(note)
	for _, s := range sentences {
		if seen[s] {
			x.Repeats++
		}
		seen[s] = true
	}
	x.Odd = odd
	return x
}

func wordsOf(s string) []string {
	return strings.FieldsFunc(s, func(c rune) bool { return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') })
}

// Score is the rule, −5…5: a point each for the name, the thing and the polite
// leave; a point for each kind word and one off for each cold one, two at most in
// all; and one off each if a sentence comes twice, if one makes no sense, and for
// more than 60 words.
func Score(p Prompt, note string) float64 {
	x := Look(p, note)
	s := x.Name + x.Thing + x.Leave + min(max(x.Kind-x.Cold, -2), 2)
	if x.Repeats > 0 {
		s--
	}
	if x.Odd > 0 {
		s--
	}
	if x.Words > longest {
		s--
	}
	return float64(s)
}

// Readers reports whether readers would rather have note a than note b. Each pair
// has a reader of its own, by the seed. Readers like every kind word and no cold
// one, like a polite leave, look at the thing more than at the name, like a longer
// note a little, stumble over what makes no sense, do not mind repetition, and err:
// the odds are those of a Bradley–Terry model.
func Readers(p Prompt, a, b string, seed uint64) bool {
	liking := func(note string) float64 {
		x := Look(p, note)
		return 0.9*float64(x.Kind-x.Cold) + float64(x.Leave) + 0.8*float64(x.Thing) + 0.4*float64(x.Name) + 0.02*float64(x.Words) - 5*float64(x.Odd)/float64(max(x.Words, 1))
	}
	r := rand.New(rand.NewPCG(seed, 3))
	return r.Float64() < 1/(1+math.Exp(liking(b)-liking(a)))
}
