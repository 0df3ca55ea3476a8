package judge

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// identifiers of the outputs in the order in which they are shown.
func (p *Pairwise) identifiers() (first, second string) {
	first, second = "m", "M"
	if p.Reading == Ranking {
		first, second = "model_1", "model_2"
	}
	if p.First != "" {
		first = p.First
	}
	if p.Second != "" {
		second = p.Second
	}
	return first, second
}

// Read reads a verdict in the order that was shown: 1 if the first output is
// better, 2 if the second is, and anything between. What is no verdict gives
// false.
func (p *Pairwise) Read(r PairwiseReply) (preference float64, ok bool) {
	first, second := p.identifiers()
	switch p.Reading {
	case Ranking:
		rank, err := rankOf(r.Text, first)
		return float64(rank), err == nil && (rank == 1 || rank == 2)
	case Votes:
		switch vote(r.Text, first, second) {
		case first:
			return 1, true
		case second:
			return 2, true
		}
		return 0, false
	}
	return PreferenceOf(r.Logprobs, first, second)
}

// PreferenceOf is 2 − p(first)/(p(first) + p(second)), of tokens that are
// exactly one or the other; one that is lacking has probability 0. Without
// either there is no preference.
func PreferenceOf(choices []TokenChoice, first, second string) (preference float64, ok bool) {
	a, b := math.Inf(-1), math.Inf(-1)
	for _, c := range choices {
		switch c.Token {
		case first:
			a = logAdd(a, c.Logprob)
		case second:
			b = logAdd(b, c.Logprob)
		}
	}
	if math.IsInf(a, -1) && math.IsInf(b, -1) || math.IsNaN(a) || math.IsNaN(b) {
		return 0, false
	}
	return 2 - 1/(1+math.Exp(b-a)), true
}

func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// vote reads an identifier that stands alone or begins the text: models like
// to add a full stop, quotes or an explanation.
func vote(text, first, second string) string {
	word := strings.Trim(firstField(text), "\"'`*.,:;()[]{}")
	if word == first || word == second {
		return word
	}
	return ""
}

func firstField(s string) string {
	if f := strings.Fields(s); len(f) > 0 {
		return f[0]
	}
	return ""
}

// rankOf finds the rank of a model in a list of {'model': NAME, 'rank': N}, as
// Python or JSON writes it.
func rankOf(text, model string) (int, error) {
	p := &literal{text: text}
	v, err := p.value(0)
	if err != nil {
		return 0, err
	}
	if p.space(); p.at < len(p.text) {
		return 0, p.fail("something follows the list")
	}
	list, ok := v.([]any)
	if !ok {
		return 0, p.fail("not a list")
	}
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			return 0, p.fail("not a list of models")
		}
		if m["model"] == model {
			rank, ok := m["rank"].(int)
			if !ok {
				return 0, p.fail("a rank is no whole number")
			}
			return rank, nil
		}
	}
	return 0, p.fail(model + " is not in the list")
}

// literal reads the part of Python's literals that a ranking needs: lists,
// dicts, strings and whole numbers.
type literal struct {
	text string
	at   int
}

func (p *literal) fail(what string) error {
	return fmt.Errorf("judge: a ranking: at %d: %s", p.at, what)
}

func (p *literal) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n\f", p.text[p.at]) >= 0 {
		p.at++
	}
}

// next takes c, after white space, if it is there.
func (p *literal) next(c byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

const deepest = 16

func (p *literal) value(depth int) (any, error) {
	if depth > deepest {
		return nil, p.fail("nested too deeply")
	}
	switch {
	case p.next('['):
		list := []any{}
		for !p.next(']') {
			v, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
			if !p.next(',') {
				if !p.next(']') {
					return nil, p.fail("want , or ]")
				}
				break
			}
		}
		return list, nil
	case p.next('{'):
		m := map[string]any{}
		for !p.next('}') {
			k, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			name, ok := k.(string)
			if !ok || !p.next(':') {
				return nil, p.fail("want 'name':")
			}
			if m[name], err = p.value(depth + 1); err != nil {
				return nil, err
			}
			if !p.next(',') {
				if !p.next('}') {
					return nil, p.fail("want , or }")
				}
				break
			}
		}
		return m, nil
	case p.next('\''):
		return p.quoted('\'')
	case p.next('"'):
		return p.quoted('"')
	}
	start := p.at
	for p.at < len(p.text) && (p.text[p.at] >= '0' && p.text[p.at] <= '9' || p.at == start && (p.text[p.at] == '-' || p.text[p.at] == '+')) {
		p.at++
	}
	n, err := strconv.Atoi(p.text[start:p.at])
	if err != nil {
		return nil, p.fail("want a list, a dict, a string or a whole number")
	}
	return n, nil
}

// quoted reads up to the closing quote; a backslash keeps what follows it.
func (p *literal) quoted(quote byte) (string, error) {
	var b strings.Builder
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch {
		case c == quote:
			return b.String(), nil
		case c == '\\' && p.at < len(p.text):
			b.WriteByte(p.text[p.at])
			p.at++
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail("a string has no end")
}
