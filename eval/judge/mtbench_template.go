package judge

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"expo/lm/chat"
)

// Template is a prompt of FastChat's judge_prompts.jsonl
// (https://github.com/lm-sys/FastChat/tree/main/fastchat/llm_judge), in the
// syntax of Python's str.format: {name} stands for a value, {{ and }} for
// braces.
type Template struct {
	Name         string `json:"name"`
	Type         string `json:"type"` // single or pairwise
	SystemPrompt string `json:"system_prompt"`
	Prompt       string `json:"prompt_template"`
	Description  string `json:"description"`
	Category     string `json:"category"`
	OutputFormat string `json:"output_format"` // [[rating]], [[A]] or [[rating_a,rating_b]]
}

// ReadTemplates reads JSON lines, by name. A name that occurs twice is an
// error.
func ReadTemplates(r io.Reader) (map[string]Template, error) {
	in := bufio.NewReader(r)
	out := map[string]Template{}
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var t Template
			if err := json.Unmarshal(line, &t); err != nil {
				return nil, fmt.Errorf("judge: prompts: line %d: %w", n, err)
			}
			if _, ok := out[t.Name]; ok || t.Name == "" || t.Prompt == "" {
				return nil, fmt.Errorf("judge: prompts: line %d: a prompt without a name or text, or a second %q", n, t.Name)
			}
			out[t.Name] = t
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("judge: prompts: %w", err)
		}
	}
}

// Fill puts values in the places of their names, in one pass: what looks like a
// place in a value is text. A place without a value is an error.
func (t Template) Fill(values map[string]string) (string, error) {
	var b strings.Builder
	rest := t.Prompt
	for {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			b.WriteString(rest)
			return b.String(), nil
		}
		b.WriteString(rest[:i])
		brace := rest[i : i+1]
		rest = rest[i+1:]
		if strings.HasPrefix(rest, brace) {
			b.WriteString(brace)
			rest = rest[1:]
			continue
		}
		name, after, ok := strings.Cut(rest, "}")
		if brace == "}" || !ok {
			return "", fmt.Errorf("judge: prompt %s: a single %q", t.Name, brace)
		}
		value, ok := values[name]
		if !ok {
			return "", fmt.Errorf("judge: prompt %s: no value for {%s}", t.Name, name)
		}
		b.WriteString(value)
		rest = after
	}
}

// Messages is the conversation to which the judge's reply is wanted.
func (t Template) Messages(values map[string]string) ([]chat.Message, error) {
	text, err := t.Fill(values)
	if err != nil {
		return nil, err
	}
	return []chat.Message{{Role: "system", Content: t.SystemPrompt}, {Role: "user", Content: text}}, nil
}
