package tokenizer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// newSplitters makes the pre-tokenizers of a tokenizer.json, in their order. A
// nil component is none. bytes says that the last one would write the bytes of
// each word as letters and that this was left to the model, which then works
// on bytes.
func newSplitters(c *component) (all []splitter, bytes bool, err error) {
	flat, err := flatten(nil, c)
	if err != nil {
		return nil, false, err
	}
	for i, c := range flat {
		var some []splitter
		if c.Type == "ByteLevel" {
			some = byteLevel(c)
			if i == len(flat)-1 {
				bytes = true
			} else {
				some = append(some, eachPiece(func(p piece) string { return toLetters(p.text) }))
			}
		} else if some, err = newSplitter(c); err != nil {
			return nil, false, fmt.Errorf("pre_tokenizer %s: %w", quoteName(c.Type), err)
		}
		all = append(all, some...)
	}
	return all, bytes, nil
}

// flatten appends the elements of the sequence c.
func flatten(flat []*component, c *component) ([]*component, error) {
	if c == nil {
		return flat, nil
	}
	if c.Type != "Sequence" {
		return append(flat, c), nil
	}
	var err error
	for _, c := range c.Pretokenizers {
		if c == nil {
			return nil, errors.New("pre_tokenizer Sequence: has an element null")
		}
		if flat, err = flatten(flat, c); err != nil {
			return nil, err
		}
	}
	return flat, nil
}

// eachPiece makes a splitter that rewrites each piece, to something that is not
// empty.
func eachPiece(rewrite func(piece) string) splitter {
	return splitter{split: func(out, in []piece, _ *budget) []piece {
		for _, p := range in {
			out = append(out, piece{rewrite(p), p.first})
		}
		return out
	}}
}

// byteLevel is the pre-tokenizer of GPT-2 except for its last step.
func byteLevel(c *component) []splitter {
	var all []splitter
	if c.AddPrefixSpace == nil || *c.AddPrefixSpace {
		all = append(all, eachPiece(func(p piece) string {
			if strings.HasPrefix(p.text, " ") {
				return p.text
			}
			return " " + p.text
		}))
	}
	if c.UseRegex == nil || *c.UseRegex {
		all = append(all, splitter{scan: newScanner(gpt2Pattern)})
	}
	return all
}

func newSplitter(c *component) ([]splitter, error) {
	one := func(s splitter) ([]splitter, error) { return []splitter{s}, nil }
	switch c.Type {
	case "Metaspace":
		return metaspace(c)
	case "Split":
		return split(c)
	case "Digits":
		return one(scanIf(func(r rune) bool { return unicode.Is(unicode.N, r) }, !isTrue(c.IndividualDigits)))
	case "Whitespace":
		return one(splitter{split: whitespace})
	case "WhitespaceSplit":
		return one(dropIf(isSpace))
	case "CharDelimiterSplit":
		r, n := utf8.DecodeRuneInString(c.Delimiter)
		if n == 0 || n != len(c.Delimiter) {
			return nil, errors.New("delimiter is not one character")
		}
		return one(dropIf(func(x rune) bool { return x == r }))
	case "BertPreTokenizer":
		return []splitter{dropIf(isSpace), scanIf(isPunctuation, false)}, nil
	case "Punctuation":
		b, err := newBehavior(c.Behavior)
		if c.Behavior == "" {
			b, err = isolated, nil
		}
		if err != nil {
			return nil, err
		}
		if b == isolated {
			return one(scanIf(isPunctuation, false))
		}
		return one(b.split(func(s string, _ *budget, yield func(start, end int)) {
			for i, r := range s {
				if isPunctuation(r) {
					yield(i, i+utf8.RuneLen(r))
				}
			}
		}, false))
	}
	return nil, errors.New("is not supported")
}

// split splits at what a pattern matches.
func split(c *component) ([]splitter, error) {
	b, err := newBehavior(c.Behavior)
	if err != nil {
		return nil, err
	}
	p, err := newPattern(c.Pattern)
	if err != nil {
		return nil, err
	}
	return []splitter{p.split(b, c.Invert)}, nil
}

// split is the fastest splitter for a pattern.
func (p *pattern) split(b behavior, invert bool) splitter {
	// The patterns of scanners match everything, so that it is the same to
	// isolate the matches or to remove what is between them.
	if next := newScanner(p.expr); next != nil && (b == isolated || b == removed && invert) {
		return splitter{scan: next}
	}
	if b == isolated && (p.expr == `\p{N}` || p.expr == `\d`) {
		table := unicode.N
		if p.expr == `\d` {
			table = unicode.Nd
		}
		return scanIf(func(r rune) bool { return unicode.Is(table, r) }, false)
	}
	return b.split(p.each, invert)
}

// metaspace writes spaces as ▁ and splits before each.
func metaspace(c *component) ([]splitter, error) {
	mark, scheme, err := metaspaceOptions(c)
	if err != nil {
		return nil, err
	}
	all := []splitter{eachPiece(func(p piece) string {
		s := strings.ReplaceAll(p.text, " ", mark)
		if (scheme == "always" || scheme == "first" && p.first) && !strings.HasPrefix(s, mark) {
			s = mark + s
		}
		return s
	})}
	if c.Split == nil || *c.Split {
		all = append(all, mergedWithNext.split((&pattern{text: mark}).each, false))
	}
	return all, nil
}

// metaspaceOptions reads the options of Metaspace as a pre-tokenizer or a
// decoder, in their old form, with add_prefix_space, or in their new one.
func metaspaceOptions(c *component) (mark, scheme string, err error) {
	r, n := utf8.DecodeRuneInString(c.Replacement)
	if n == 0 || n != len(c.Replacement) {
		return "", "", errors.New("replacement is not one character")
	}
	scheme = c.PrependScheme
	if scheme == "" {
		scheme = "always"
	}
	if c.AddPrefixSpace != nil && !*c.AddPrefixSpace {
		if c.PrependScheme != "" && c.PrependScheme != "never" {
			return "", "", errors.New("add_prefix_space contradicts prepend_scheme")
		}
		scheme = "never"
	}
	if !slices.Contains([]string{"always", "first", "never"}, scheme) {
		return "", "", fmt.Errorf("prepend_scheme %s is not supported", quote(scheme))
	}
	return string(r), scheme, nil
}

// whitespace keeps runs of word characters and runs of others, and leaves out
// white space.
func whitespace(out, in []piece, _ *budget) []piece {
	kind := func(r rune) int {
		switch {
		case isWord(r):
			return 1
		case isSpace(r):
			return 0
		}
		return 2
	}
	for _, p := range in {
		start, was := 0, 0
		for i, r := range p.text {
			now := kind(r)
			if now == was {
				continue
			}
			if was != 0 {
				out = append(out, piece{p.text[start:i], p.first && start == 0})
			}
			start, was = i, now
		}
		if was != 0 {
			out = append(out, piece{p.text[start:], p.first && start == 0})
		}
	}
	return out
}

// A behavior is what Split does with matches.
type behavior int

const (
	isolated behavior = iota
	removed
	contiguous
	mergedWithPrevious
	mergedWithNext
)

func newBehavior(name string) (behavior, error) {
	names := []string{"Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"}
	if i := slices.Index(names, name); i >= 0 {
		return behavior(i), nil
	}
	return 0, fmt.Errorf("behavior %s is not supported", quote(name))
}

// split makes a splitter of a search for matches. With invert what is between
// the matches counts as match, and the other way round.
func (b behavior) split(each func(s string, limit *budget, yield func(start, end int)), invert bool) splitter {
	type span struct {
		start, end int
		match      bool
	}
	return splitter{split: func(out, in []piece, limit *budget) []piece {
		var spans, merged []span
		for _, p := range in {
			spans = spans[:0]
			last := 0
			each(p.text, limit, func(start, end int) {
				if start > last {
					spans = append(spans, span{last, start, invert})
				}
				spans = append(spans, span{start, end, !invert})
				last = end
			})
			if last < len(p.text) {
				spans = append(spans, span{last, len(p.text), invert})
			}
			merged = merged[:0]
			was := false
			switch b {
			case isolated:
				merged = append(merged, spans...)
			case removed:
				for _, s := range spans {
					if !s.match {
						merged = append(merged, s)
					}
				}
			case contiguous:
				for _, s := range spans {
					if n := len(merged); s.match == was && n > 0 {
						merged[n-1].end = s.end
					} else {
						merged = append(merged, s)
					}
					was = s.match
				}
			case mergedWithPrevious:
				for _, s := range spans {
					if n := len(merged); s.match && !was && n > 0 {
						merged[n-1].end = s.end
					} else {
						merged = append(merged, s)
					}
					was = s.match
				}
			case mergedWithNext:
				for _, s := range slices.Backward(spans) {
					if n := len(merged); s.match && !was && n > 0 {
						merged[n-1].start = s.start
					} else {
						merged = append(merged, s)
					}
					was = s.match
				}
				slices.Reverse(merged)
			}
			for _, s := range merged {
				if s.start < s.end {
					out = append(out, piece{p.text[s.start:s.end], p.first && s.start == 0})
				}
			}
		}
		return out
	}}
}
