package tokenizer

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A golden is testdata/golden.json, which testdata/golden.py makes with the
// reference libraries.
type golden struct {
	Texts  []string
	Models map[string]map[string]any
	Odd    [][]int
	Cases  []goldenCase
	SPM    []struct {
		Name    string
		Model   string
		IDs     [][]int
		Decoded []string
	}
}

type goldenCase struct {
	Name    string
	Model   string
	Added   []map[string]any `json:"added_tokens"`
	IDs     [][]int
	Decoded []*string
	Odd     []*string

	Normalizer    any `json:"normalizer,omitempty"`
	PreTokenizer  any `json:"pre_tokenizer,omitempty"`
	PostProcessor any `json:"post_processor,omitempty"`
	Decoder       any `json:"decoder,omitempty"`
}

func readGolden(t testing.TB) *golden {
	t.Helper()
	b, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return &g
}

// model is a model by its name; some are others with different options.
func (g *golden) model(name string) map[string]any {
	m := g.Models[name]
	like, ok := m["like"].(string)
	if !ok {
		return m
	}
	all := maps.Clone(g.model(like))
	maps.Copy(all, m)
	if all["lines"] == true {
		var lines []string
		for _, p := range all["merges"].([]any) {
			lines = append(lines, p.([]any)[0].(string)+" "+p.([]any)[1].(string))
		}
		all["merges"] = lines
	}
	return all
}

// json is the tokenizer.json of a case.
func (g *golden) json(t testing.TB, c *goldenCase) []byte {
	t.Helper()
	m := g.model(c.Model)
	ids := map[string]int{}
	switch vocab := m["vocab"].(type) {
	case map[string]any:
		for p, id := range vocab {
			ids[p] = int(id.(float64))
		}
	case []any:
		for i, p := range vocab {
			ids[p.([]any)[0].(string)] = i
		}
	}
	free := len(ids)
	var added []map[string]any
	for _, tok := range c.Added {
		tok = maps.Clone(tok)
		id, ok := ids[tok["content"].(string)]
		if !ok {
			id = free
			free++
		}
		tok["id"] = id
		added = append(added, tok)
	}
	b, err := json.Marshal(map[string]any{
		"version": "1.0", "added_tokens": added, "model": m, "normalizer": c.Normalizer,
		"pre_tokenizer": c.PreTokenizer, "post_processor": c.PostProcessor, "decoder": c.Decoder,
		"truncation": map[string]any{"max_length": 2}, "padding": map[string]any{"strategy": "BatchLongest"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenTokenizers(t *testing.T) {
	g := readGolden(t)
	for _, c := range g.Cases {
		t.Run(c.Name, func(t *testing.T) {
			tok := must(t)(ParseJSON(g.json(t, &c)))
			n := &tally{t: t, name: c.Name}
			for i, text := range g.Texts {
				n.ids(text, tok.Encode(text, true), c.IDs[i])
				if c.Decoded == nil || c.Decoded[i] == nil { // the reference has no answer
					continue
				}
				n.text("text of "+strconv.Quote(text), tok.Decode(c.IDs[i], true), *c.Decoded[i])
				n.text("stream of "+strconv.Quote(text), stream(tok, c.IDs[i], true), *c.Decoded[i])
			}
			for i, want := range c.Odd {
				if want != nil {
					n.text("odd tokens", tok.Decode(g.Odd[i], false), *want)
					n.text("odd tokens as a stream", stream(tok, g.Odd[i], false), *want)
				}
			}
		})
	}
}

func TestGoldenSentencePiece(t *testing.T) {
	g := readGolden(t)
	for _, m := range g.SPM {
		t.Run(m.Name, func(t *testing.T) {
			b, err := base64.StdEncoding.DecodeString(m.Model)
			if err != nil {
				t.Fatal(err)
			}
			tok := must(t)(ParseSentencePiece(b))
			n := &tally{t: t, name: m.Name}
			for i, text := range g.Texts {
				n.ids(text, tok.Encode(text, false), m.IDs[i])
				n.text("text of "+strconv.Quote(text), tok.Decode(m.IDs[i], true), m.Decoded[i])
				n.text("stream of "+strconv.Quote(text), stream(tok, m.IDs[i], true), m.Decoded[i])
				if !strings.Contains(text, "<") {
					n.ids(text, tok.EncodeOrdinary(text), m.IDs[i])
				}
			}
		})
	}
}
