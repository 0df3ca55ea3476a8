package notes

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// A Prompt asks for a note to Name about Thing.
type Prompt struct {
	Text  string
	Name  string
	Thing string

	why int // index of situations
}

// Topic is why the note is written: "lost a {t}" and the like.
func (p Prompt) Topic() string { return situations[p.why].prompt }

const (
	// Seed is the seed of Prompts that the bundled models were trained with.
	Seed = 1
	// MaxTokens bounds a model's note. Good ones have 20 to 60.
	MaxTokens = 128
)

// Prompts lists all requests, in an order given by the seed: those to learn from,
// and one in ten to be tested on, of which no model has seen the combination of
// name, thing and situation.
func Prompts(seed uint64) (learn, test []Prompt) {
	r := rand.New(rand.NewPCG(seed, 1))
	var all []Prompt
	for why, s := range situations {
		for _, n := range names {
			for _, t := range things {
				p := Prompt{Name: n, Thing: t, why: why}
				p.Text = "Write a note to " + n + ", who " + p.fill(s.prompt, nil) + "."
				all = append(all, p)
			}
		}
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[len(all)/10:], all[:len(all)/10]
}

// fill puts words in the places of a sentence.
func (p *Prompt) fill(s string, r *rand.Rand) string {
	for {
		at := strings.IndexByte(s, '{')
		if at < 0 {
			return s
		}
		var word string
		switch s[at+1] {
		case 'n':
			word = p.Name
		case 't':
			word = p.Thing
		case 'p':
			word = pick(r, places)
		case 'd':
			word = pick(r, coming)
		case 'y':
			word = pick(r, past)
		default:
			panic("notes: sentence with " + s[at:at+3])
		}
		s = s[:at] + word + s[at+3:]
	}
}

func pick(r *rand.Rand, list []string) string { return list[r.IntN(len(list))] }

// Write is a note as somebody might write it. The seed decides about the writer's
// mood and care: some notes are all that one could wish, most are not.
func Write(p Prompt, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 2))
	mood := tone(weighted(r, 0.25, 0.45, 0.3))
	care := r.Float64() // how likely the writer is to think of name, thing and leave
	sound := func() tone {
		if r.Float64() < 0.7 {
			return mood
		}
		return tone(weighted(r, 0.3, 0.4, 0.3))
	}
	forms := greetings[sound()]
	named := 1
	if r.Float64() < 0.5+0.5*care {
		named = 0
	}
	note := []string{p.fill(pick(r, forms[named]), r)}
	used := map[string]bool{}
	for n := 2 + r.IntN(2); n > 0; {
		t := sound()
		from := situations[p.why].sentences[t]
		if r.Float64() < 0.25 {
			from = always[t]
		}
		form := pick(r, from)
		if strings.Contains(form, "{t}") && r.Float64() > 0.4+0.5*care {
			continue // somebody who does not think of the thing
		}
		s := p.fill(form, r)
		if used[form] {
			continue
		}
		used[form] = true
		note = append(note, s)
		n--
	}
	switch {
	case r.Float64() < 0.15+0.6*care:
		note = append(note, pick(r, leaves))
	case r.Float64() < 0.3:
		note = append(note, pick(r, curt))
	}
	return strings.Join(note, " ")
}

// Spoil damages a note, as a writer who nods off might: sentences go on as others
// do, words change places, or the pen is stuck with some of them, perhaps to the
// end of the page.
func Spoil(note string, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 4))
	words := strings.Fields(note)
	at := r.IntN(len(words))
	n := min(1+r.IntN(3), len(words)-at)
	switch how := r.Float64(); {
	case how < 0.5:
		return splice(words, r)
	case how < 0.7:
		r.Shuffle(len(words)-at, func(i, j int) { words[at+i], words[at+j] = words[at+j], words[at+i] })
		return strings.Join(words, " ")
	}
	var out []string
	out = append(out, words[:at]...)
	for range 2 + r.IntN(30) {
		out = append(out, words[at:at+n]...)
	}
	if r.Float64() < 0.5 {
		out = append(out, words[at+n:]...)
	}
	return strings.Join(out, " ")
}

// splice lets one or two sentences of a note go on in the middle as one of any
// situation does.
func splice(words []string, r *rand.Rand) string {
	p := Prompt{Name: pick(r, names), Thing: pick(r, things)}
	for range 1 + r.IntN(2) {
		at := r.IntN(len(words))
		end := at
		for end < len(words)-1 && !strings.ContainsAny(words[end], ".?") {
			end++
		}
		other := strings.Fields(p.fill(pick(r, situations[r.IntN(len(situations))].sentences[weighted(r, 0.6, 0.3, 0.1)]), r))
		words = slices.Concat(words[:at], other[r.IntN(len(other)):], words[end+1:])
	}
	return strings.Join(words, " ")
}

// weighted draws an index with these probabilities.
func weighted(r *rand.Rand, p ...float64) int {
	x := r.Float64()
	for i, q := range p {
		if x -= q; x < 0 {
			return i
		}
	}
	return len(p) - 1
}
