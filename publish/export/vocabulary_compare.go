package export

import (
	"fmt"
	"slices"

	"expo/lm/tokenizer"
)

// plainProbes are texts that tokenizers are known to differ in.
var plainProbes = []string{
	"Hello, world!", " a leading space", "  two of them", "one\ntwo\n\nthree\r\n", "\ttabs\tand  spaces   ", "1234567 3.14 2026-01-02",
	"don't, WE'LL and I'm", "größer, naïve, Ελλάδα, русский", "日本語と한국어", "emoji 🦙🚀 and ﬁne ½", "def f(x):\n    return x**2  # squared\n",
	"\u00a0no break", "e\u0301 combining", "a\u2581b", "", " ",
}

// compare reads the vocabulary as llama.cpp would, and says in which probes it is
// not the model's own tokenizer, own. For a chat model it is texts with special
// tokens that have to come out right, if not all can.
func (v *vocabulary) compare(own *tokenizer.Tokenizer, chat bool) (notes []string, err error) {
	chats := v.chatProbes()
	probes := append(slices.Clone(plainProbes), chats...)
	differ, first, err := v.differences(own, probes)
	if err != nil || differ == 0 {
		return nil, err
	}
	if v.AddSpacePrefix != nil {
		// Some tokenizers put a space before the first word only; llama.cpp puts
		// one behind each special token as well, or none at all.
		flipped := *v
		other := !*v.AddSpacePrefix
		flipped.AddSpacePrefix = &other
		matter := probes
		if chat && len(chats) > 0 {
			matter = chats
		}
		now, _, err := v.differences(own, matter)
		if err != nil {
			return nil, err
		}
		then, _, err := flipped.differences(own, matter)
		if err != nil {
			return nil, err
		}
		if then < now {
			*v = flipped
			if differ, first, err = v.differences(own, probes); err != nil {
				return nil, err
			}
		}
	}
	if differ > 0 {
		notes = append(notes, fmt.Sprintf("llama.cpp will split %d of %d probe texts otherwise than the model's own tokenizer, such as %q", differ, len(probes), first))
	}
	return notes, nil
}

// chatProbes have special tokens in them.
func (v *vocabulary) chatProbes() []string {
	var special []string
	for i, typ := range v.Types {
		if (typ == tokenControl || typ == tokenUserDefined) && len(special) < 3 && i != v.PAD && len(v.Tokens[i]) > 1 {
			special = append(special, v.Tokens[i])
		}
	}
	var out []string
	for _, s := range special {
		out = append(out, s+"user\nWhat is 1+1?"+s+"\nTwo.", "a "+s+" b", s+" c")
	}
	return out
}

func (v *vocabulary) differences(own *tokenizer.Tokenizer, probes []string) (n int, first string, err error) {
	other, err := tokenizer.FromGGUF(v.GGUFVocab)
	if err != nil {
		return 0, "", err
	}
	for _, text := range probes {
		for _, special := range []bool{true, false} {
			if !slices.Equal(own.Encode(text, special), other.Encode(text, special)) {
				if n++; n == 1 {
					first = text
				}
				break
			}
		}
	}
	return n, first, nil
}
