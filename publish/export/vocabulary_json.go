package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"expo/lm/tokenizer"
)

// A component is a normalizer, pre-tokenizer or decoder of a tokenizer.json.
type component struct {
	Type          string       `json:"type"`
	Normalizers   []*component `json:"normalizers"`
	Pretokenizers []*component `json:"pretokenizers"`

	Pattern          struct{ String, Regex *string } `json:"pattern"`
	Prepend          string                          `json:"prepend"`
	PrependScheme    string                          `json:"prepend_scheme"`
	AddPrefixSpace   *bool                           `json:"add_prefix_space"`
	IndividualDigits bool                            `json:"individual_digits"`
	UseRegex         *bool                           `json:"use_regex"`
}

// all are the components of a Sequence, or the one that c is.
func (c *component) all() []*component {
	if c == nil {
		return nil
	}
	if c.Type != "Sequence" {
		return []*component{c}
	}
	var out []*component
	for _, x := range append(slices.Clone(c.Normalizers), c.Pretokenizers...) {
		out = append(out, x.all()...)
	}
	return out
}

// jsonPieces reads a tokenizer.json: byte-level BPE, or the BPE of the Llama
// family, which becomes SentencePiece's.
func jsonPieces(b []byte) (v tokenizer.GGUFVocab, err error) {
	var f struct {
		Added        []addedToken `json:"added_tokens"`
		Normalizer   *component   `json:"normalizer"`
		PreTokenizer *component   `json:"pre_tokenizer"`
		Model        struct {
			Type         string          `json:"type"`
			Vocab        json.RawMessage `json:"vocab"`
			Merges       json.RawMessage `json:"merges"`
			UnkToken     string          `json:"unk_token"`
			ByteFallback bool            `json:"byte_fallback"`
			IgnoreMerges bool            `json:"ignore_merges"`
		} `json:"model"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return v, err
	}
	if f.Model.Type == "" && f.Model.Merges != nil {
		f.Model.Type = "BPE"
	}
	if f.Model.Type != "BPE" {
		return v, fmt.Errorf("model %q cannot be exported; BPE can", f.Model.Type)
	}
	vocab := map[string]int{}
	if err := json.Unmarshal(f.Model.Vocab, &vocab); err != nil {
		return v, fmt.Errorf("vocab: %w", err)
	}
	merges, err := readMerges(f.Model.Merges)
	if err != nil {
		return v, fmt.Errorf("merges: %w", err)
	}
	byID := make(map[int]string, len(vocab))
	for piece, id := range vocab {
		byID[id] = piece
	}
	if len(byID) < len(vocab) {
		return v, errors.New("vocab: two tokens have one ID")
	}
	byteLevel := false
	for _, c := range f.PreTokenizer.all() {
		byteLevel = byteLevel || c.Type == "ByteLevel"
	}
	special := map[int]bool{}
	for _, a := range f.Added {
		special[a.ID] = true
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		typ := int32(tokenNormal)
		switch {
		case byteLevel:
		case byID[id] == f.Model.UnkToken:
			typ = tokenUnknown
		case f.Model.ByteFallback && isByte(byID[id]):
			typ = tokenByte
		}
		if err := set(&v, id, byID[id], typ); err != nil {
			return v, err
		}
	}
	for _, a := range f.Added {
		typ := int32(tokenUserDefined)
		switch {
		case a.Content == f.Model.UnkToken && !byteLevel:
			typ = tokenUnknown
		case a.Special:
			typ = tokenControl
		}
		if err := set(&v, a.ID, a.Content, typ); err != nil {
			return v, err
		}
	}
	if byteLevel {
		v.Model, v.Merges = "gpt2", make([]string, len(merges))
		for i, m := range merges {
			v.Merges[i] = m[0] + " " + m[1]
		}
		v.Pre, err = preTokenizer(f.PreTokenizer.all(), f.Model.IgnoreMerges)
		return v, err
	}

	v.Model, v.Pre = "llama", "default"
	prefix := false
	for _, c := range append(f.Normalizer.all(), f.PreTokenizer.all()...) {
		switch {
		case c.Type == "Prepend":
			prefix = true
		case c.Type == "Metaspace" && c.PrependScheme != "never" && (c.AddPrefixSpace == nil || *c.AddPrefixSpace):
			prefix = true
		}
	}
	v.AddSpacePrefix = &prefix
	// Earlier merges are better. What no merge makes is never made.
	v.Scores = make([]float32, len(v.Tokens))
	scored := make(map[string]bool, len(merges))
	for i := range v.Scores {
		v.Scores[i] = -float32(len(merges)) - 1
	}
	for rank, m := range merges {
		piece := m[0] + m[1]
		if id, ok := vocab[piece]; ok && !scored[piece] {
			scored[piece], v.Scores[id] = true, -float32(rank)
		}
	}
	return v, nil
}

// readMerges reads pairs of pieces, or the older form with a space between them.
func readMerges(b json.RawMessage) ([][2]string, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var pairs [][2]string
	if first := bytes.TrimLeft(b[1:], " \t\r\n"); len(first) > 0 && first[0] == '[' {
		return pairs, json.Unmarshal(b, &pairs)
	}
	var lines []string
	if err := json.Unmarshal(b, &lines); err != nil {
		return nil, err
	}
	for i, line := range lines {
		left, right, ok := strings.Cut(line, " ")
		if !ok || left == "" || right == "" {
			return nil, fmt.Errorf("%d: %q is not two pieces", i, line)
		}
		pairs = append(pairs, [2]string{left, right})
	}
	return pairs, nil
}

// The patterns by which texts are split, as files write them.
const (
	llama3Split = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Split  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	tekkenSplit = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// preTokenizer is llama.cpp's name for a way to split text.
func preTokenizer(cs []*component, whole bool) (string, error) {
	var split []string
	gpt2, digits := false, ""
	for _, c := range cs {
		switch c.Type {
		case "Split":
			switch {
			case c.Pattern.Regex != nil:
				split = append(split, *c.Pattern.Regex)
			case c.Pattern.String != nil:
				split = append(split, "the string "+*c.Pattern.String)
			}
		case "Digits":
			digits = "digits in groups"
			if c.IndividualDigits {
				digits = "digits"
			}
		case "ByteLevel":
			gpt2 = gpt2 || c.UseRegex == nil || *c.UseRegex
		default:
			return "", fmt.Errorf("pre-tokenizer %s has no counterpart in GGUF files", c.Type)
		}
	}
	switch {
	case len(split) == 0 && gpt2 && digits == "":
		return "gpt-2", nil
	case len(split) == 0 && gpt2 && digits == "digits":
		return "smollm", nil
	case len(split) == 1 && !gpt2 && digits == "":
		switch split[0] {
		case llama3Split:
			if whole {
				return "llama-bpe", nil
			}
			return "smaug-bpe", nil
		case qwen2Split:
			return "qwen2", nil
		case tekkenSplit:
			return "tekken", nil
		}
	}
	return "", fmt.Errorf("text is split by %q, which no pre-tokenizer of GGUF files does", split)
}
