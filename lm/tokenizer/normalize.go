package tokenizer

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// newNormalizers makes the normalizers of a tokenizer.json, in their order. A
// nil component is none.
func newNormalizers(c *component) ([]normalizer, error) {
	if c == nil {
		return nil, nil
	}
	if c.Type != "Sequence" {
		n, err := newNormalizer(c)
		if err != nil {
			return nil, fmt.Errorf("normalizer %s: %w", quoteName(c.Type), err)
		}
		return []normalizer{n}, nil
	}
	var all []normalizer
	for _, c := range c.Normalizers {
		if c == nil {
			return nil, errors.New("normalizer Sequence: has an element null")
		}
		some, err := newNormalizers(c)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// always makes a normalizer of a function that needs only the text.
func always(f func(string) string) normalizer {
	return func(text string, _ place) string { return f(text) }
}

func newNormalizer(c *component) (normalizer, error) {
	switch c.Type {
	case "NFC", "NFD", "NFKC", "NFKD":
		form := map[string]norm.Form{"NFC": norm.NFC, "NFD": norm.NFD, "NFKC": norm.NFKC, "NFKD": norm.NFKD}[c.Type]
		return always(func(s string) string { return normalForm(form, s) }), nil
	case "Lowercase":
		return always(lowercase), nil
	case "StripAccents":
		return always(func(s string) string {
			return removeIf(s, func(r rune) bool { return unicode.Is(unicode.M, r) })
		}), nil
	case "Strip":
		return strip(c)
	case "Prepend":
		if c.Prepend == nil {
			return nil, errors.New("has no prepend")
		}
		prefix := *c.Prepend
		return always(func(s string) string {
			if s == "" {
				return s
			}
			return prefix + s
		}), nil
	case "Replace":
		return replace(c)
	case "Nmt":
		return always(nmt), nil
	case "ByteLevel":
		return always(toLetters), nil
	case "Precompiled":
		b, err := base64.StdEncoding.DecodeString(c.PrecompiledCharsmap)
		if err != nil {
			return nil, fmt.Errorf("precompiled_charsmap: %w", err)
		}
		if len(b) == 0 {
			return always(func(s string) string { return s }), nil
		}
		m, err := parseCharsmap(b)
		if err != nil {
			return nil, err
		}
		return always(m.graphemes), nil
	case "BertNormalizer":
		lower := isTrue(c.Lowercase)
		accents := lower
		if c.StripAccents != nil {
			accents = *c.StripAccents
		}
		clean, han := isTrue(c.CleanText), isTrue(c.HandleChineseChars)
		return always(func(s string) string { return bertNormal(s, clean, han, accents, lower) }), nil
	}
	return nil, errors.New("is not supported")
}

// strip removes white space at the ends.
func strip(c *component) (normalizer, error) {
	if c.StripLeft == nil || c.StripRight == nil {
		return nil, errors.New("has no strip_left or no strip_right")
	}
	left, right := *c.StripLeft, *c.StripRight
	return always(func(s string) string {
		if left {
			s = strings.TrimLeftFunc(s, isSpace)
		}
		if right {
			s = strings.TrimRightFunc(s, isSpace)
		}
		return s
	}), nil
}

// replace replaces what a pattern matches.
func replace(c *component) (normalizer, error) {
	if c.Content == nil {
		return nil, errors.New("has no content")
	}
	p, err := newPattern(c.Pattern)
	if err != nil {
		return nil, err
	}
	content := *c.Content
	return func(s string, at place) string { return p.replace(s, content, at.limit) }, nil
}

// isTrue reports whether an option is there and true.
func isTrue(b *bool) bool { return b != nil && *b }

// quoteName is the name of a component as it stands in a message: itself when
// it is a name.
func quoteName(name string) string {
	if name == "" {
		return "without a type"
	}
	for _, r := range name {
		if r > unicode.MaxASCII || !unicode.IsLetter(r) {
			return quote(name)
		}
	}
	if len(name) > maxQuoted {
		return quote(name)
	}
	return name
}
