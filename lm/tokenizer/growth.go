package tokenizer

import (
	"encoding/base64"
	"fmt"
	"strings"
)

const (
	// maxGrowth is how many times longer than a text its normalized form or
	// its words may be, at the worst. Real tokenizers stay below a hundred;
	// but a few dozen replacements of "a" by "aa" would fill any memory.
	maxGrowth = 4096

	// maxComponents is the number of normalizers, pre-tokenizers or decoders
	// that a sequence may have.
	maxComponents = 64

	// maxInsert is the length in bytes of the longest text that is put in
	// front of others or in the place of others.
	maxInsert = 1024
)

// checkGrowth refuses components that can make a text longer beyond measure.
// Each of them is a chain of its own, or nil.
func checkGrowth(what string, chains ...*component) error {
	total, n := 1, 0
	var walk func(c *component) error
	walk = func(c *component) error {
		if c == nil {
			return nil
		}
		if n++; n > maxComponents {
			return fmt.Errorf("%s: has more than %d elements", what, maxComponents)
		}
		for _, list := range [][]*component{c.Normalizers, c.Pretokenizers, c.Decoders} {
			for _, c := range list {
				if err := walk(c); err != nil {
					return err
				}
			}
		}
		g, err := c.growth()
		if err != nil {
			return fmt.Errorf("%s %s: %w", what, quoteName(c.Type), err)
		}
		if total *= g; total > maxGrowth {
			return fmt.Errorf("%s %s: could make a text more than %d times longer", what, quoteName(c.Type), maxGrowth)
		}
		return nil
	}
	for _, c := range chains {
		if err := walk(c); err != nil {
			return err
		}
	}
	return nil
}

// growth is how many times longer than its input the output of c can be,
// apart from a part of at most maxInsert bytes that is added once.
func (c *component) growth() (int, error) {
	for _, s := range []*string{c.Prepend, c.Content} {
		if s != nil && len(*s) > maxInsert {
			return 0, fmt.Errorf("puts in %d bytes, at most %d are allowed", len(*s), maxInsert)
		}
	}
	switch c.Type {
	case "NFC", "NFD": // the factors of UAX 15
		return 3, nil
	case "BertNormalizer": // NFD, lower case or spaces around Han
		return 6, nil
	case "NFKC", "NFKD":
		return 11, nil
	case "Lowercase", "ByteLevel": // in a decoder ByteLevel makes U+FFFD of a letter
		return 2, nil
	case "Precompiled":
		b, err := base64.StdEncoding.DecodeString(c.PrecompiledCharsmap)
		if err != nil || len(b) == 0 {
			return 1, nil
		}
		m, err := parseCharsmap(b)
		if err != nil {
			return 0, err
		}
		return m.growth(), nil
	case "Replace":
		if c.Content == nil {
			return 1, nil
		}
		p, err := newPattern(c.Pattern)
		if err != nil {
			return 0, err
		}
		if p.re != nil { // which can match before every character
			return 1 + len(*c.Content), nil
		}
		n := max(1, len(p.text))
		return max(1, (len(*c.Content)+n-1)/n), nil
	case "Metaspace":
		return max(1, len(c.Replacement)), nil
	}
	return 1, nil
}

// growth is the length of the longest replacement.
func (c *charsmap) growth() int {
	longest := 1
	for s := range strings.SplitSeq(c.texts, "\x00") {
		longest = max(longest, len(s))
	}
	return longest
}
