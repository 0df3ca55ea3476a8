package chat

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"os"
	"testing"
)

//go:embed testdata/golden.json
var goldenJSON []byte

// golden is what testdata/golden.py writes.
type golden struct {
	Variables     json.RawMessage
	Special       map[string]string
	Conversations map[string][]Message
	Tools         []json.RawMessage
	Snippets      []struct {
		Source string
		outcome
	}
	Templates []struct {
		Name, Source string
		Cases        []struct {
			Conversation            string
			Prompt, Tools, Continue bool
			outcome
		}
	}
}

// An outcome is what Python made of a template.
type outcome struct {
	Text    string
	Error   string // "" if there was none, "raised" and "syntax" for those, else the name of Python's class
	Message string // of a raised one
}

// check reports whether a rendering came out as in Python.
func (o outcome) check(t *testing.T, what, got string, err error) bool {
	t.Helper()
	var e *TemplateError
	switch {
	case err != nil && o.Error == "":
		t.Errorf("%s: %v, want %q", what, err, o.Text)
	case o.Error == "" && got != o.Text:
		t.Errorf("%s: got\n%q\nwant\n%q", what, got, o.Text)
	case o.Error != "" && err == nil:
		t.Errorf("%s: got %q, want %s", what, got, o.Error)
	case o.Error != "" && !errors.As(err, &e):
		t.Errorf("%s: the error is a %T: %v", what, err, err)
	case o.Error == "raised" && (!e.Raised || e.Message != o.Message):
		t.Errorf("%s: %v, want the template's own %q", what, err, o.Message)
	case o.Error == "syntax" && e.Line == 0:
		t.Errorf("%s: %v has no line", what, err)
	default:
		return true
	}
	return false
}

func parseGolden(t *testing.T, data []byte) *golden {
	t.Helper()
	g := &golden{}
	if err := json.Unmarshal(data, g); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestSnippets compares pieces of the template language with transformers.
func TestSnippets(t *testing.T) {
	g := parseGolden(t, goldenJSON)
	for _, s := range g.Snippets {
		got, err := renderJSON(s.Source, g.Variables)
		s.check(t, s.Source, got, err)
	}
}

// conversations compares templates with transformers, and counts.
func (g *golden) conversations(t *testing.T, load func(name, source string) (*Template, error)) (ok, n int) {
	for _, tt := range g.Templates {
		tmpl, err := load(tt.Name, tt.Source)
		if err != nil {
			t.Errorf("%s: %v", tt.Name, err)
			continue
		}
		agree := 0
		for _, c := range tt.Cases {
			opt := Options{
				AddGenerationPrompt:  c.Prompt,
				ContinueFinalMessage: c.Continue,
				BOS:                  g.Special["bos_token"],
				EOS:                  g.Special["eos_token"],
				UNK:                  g.Special["unk_token"],
			}
			if tt.Source != "" {
				opt.Extra = map[string]any{"date_string": "26 Jul 2024"}
			}
			if c.Tools {
				opt.Tools = g.Tools
			}
			got, err := tmpl.Render(context.Background(), g.Conversations[c.Conversation], opt)
			if c.Continue && c.Error == "ValueError" {
				if err == nil {
					t.Errorf("%s: %s: got %q, want an error", tt.Name, c.Conversation, got)
					continue
				}
				agree++
				continue
			}
			if c.check(t, tt.Name+": "+c.Conversation, got, err) {
				agree++
			}
		}
		t.Logf("%s: %d of %d agree", tt.Name, agree, len(tt.Cases))
		ok, n = ok+agree, n+len(tt.Cases)
	}
	return ok, n
}

// TestNamed compares the templates of this package with what transformers
// makes of them.
func TestNamed(t *testing.T) {
	parseGolden(t, goldenJSON).conversations(t, func(name, _ string) (*Template, error) { return Named(name) })
}

// TestOtherTemplates compares templates that are not of this package, which
// testdata/golden.py rendered into the file that EXPO_CHAT_GOLDEN names.
func TestOtherTemplates(t *testing.T) {
	name := os.Getenv("EXPO_CHAT_GOLDEN")
	if name == "" {
		t.Skip("EXPO_CHAT_GOLDEN is not set")
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	ok, n := parseGolden(t, data).conversations(t, func(_, source string) (*Template, error) { return Parse(source) })
	t.Logf("%d of %d agree", ok, n)
}
