package notes

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// grammars are the sentences that make sense in a note, one grammar for each
// situation: a sentence with its places filled by any words of their kind.
var grammars = sync.OnceValue(func() []*regexp.Regexp {
	var common []string
	for t := range tones {
		common = append(common, greetings[t][0]...)
		common = append(common, greetings[t][1]...)
		common = append(common, always[t]...)
	}
	common = append(append(common, leaves...), curt...)
	slots := strings.NewReplacer(
		`\{n\}`, choice(names), `\{t\}`, choice(things), `\{p\}`, choice(places), `\{d\}`, choice(coming), `\{y\}`, choice(past))
	list := make([]*regexp.Regexp, len(situations))
	for i, s := range situations {
		own := slices.Concat(append(s.sentences[:], common)...)
		for k, form := range own {
			own[k] = slots.Replace(regexp.QuoteMeta(form))
		}
		list[i] = regexp.MustCompile("^(?:" + strings.Join(own, "|") + ")(?: |$)")
	}
	return list
})

func choice(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = regexp.QuoteMeta(w)
	}
	return "(?:" + strings.Join(quoted, "|") + ")"
}

// read cuts a note into sentences, greetings included, and counts the words of
// those that make no sense. Whatever is not understood ends at the next mark.
func (p *Prompt) read(note string) (sentences []string, odd int) {
	g := grammars()[p.why]
	for note != "" {
		end := 0
		if at := g.FindStringIndex(note); at != nil {
			end = at[1]
		} else {
			if end = strings.IndexAny(note, ".?!,") + 1; end == 0 {
				end = len(note)
			}
			odd += len(wordsOf(note[:end]))
		}
		sentences = append(sentences, strings.TrimSpace(note[:end]))
		note = strings.TrimPrefix(note[end:], " ")
	}
	return sentences, odd
}
