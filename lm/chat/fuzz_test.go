package chat

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"
)

// FuzzTemplate parses and renders what may be a template.
func FuzzTemplate(f *testing.F) {
	g := &golden{}
	if err := json.Unmarshal(goldenJSON, g); err != nil {
		f.Fatal(err)
	}
	for i, s := range g.Snippets {
		if i%3 == 0 {
			f.Add(s.Source, "some text")
		}
	}
	for _, s := range []string{
		"{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}",
		"{{ x|a(b=[1:2:3]) is c not in d }}",
		"{%- macro a(b=1) -%}{% call(c) a(*b, **c) %}{% endcall %}{%- endmacro %}",
		"{% set ns.a, (b, c) = 'x'[::-1] %}",
		"{{ '\\u12\\x1' 0x_1 1e5.0 'é' }}",
		"{# {% raw %} #}{% raw %}{{{% endraw +%}",
		"{% for a, b in c if d recursive %}{% else %}{% break %}{% endfor %}",
		"{{ ((((((((((a)))))))))) + - + - not not a ** b ~ c if d else e }}",
		"{{ '%(a)-5.3f %%' % {'a': 1.5} }}{{ '{0:>5}{x!r}'.format(1, x=2) }}",
		"{% generation %}{% with a = 1 %}{% filter upper %}{% set x | trim %}{% endset %}{% endfilter %}{% endwith %}{% endgeneration %}",
	} {
		f.Add(s, "a\nb")
	}
	f.Fuzz(func(t *testing.T, source, content string) {
		tmpl, err := Parse(source)
		if err != nil {
			var e *TemplateError
			if !errors.As(err, &e) {
				t.Fatalf("the error is a %T: %v", err, err)
			}
			if strings.Contains(err.Error(), "cannot be translated") {
				t.Fatalf("%q: %v: %v", source, err, errors.Unwrap(err))
			}
			return
		}
		start := time.Now()
		messages := []Message{{Role: "system", Content: "s"}, {Role: "user", Content: content}}
		text, err := tmpl.Render(context.Background(), messages, Options{
			AddGenerationPrompt: true,
			BOS:                 "<s>",
			Extra:               map[string]any{"a": 1, "b": []any{1, "x", nil, 2.5}, "c": map[string]any{"k": "v", "d": content}},
		})
		if err != nil && (strings.Contains(err.Error(), "engine failed") || strings.Contains(err.Error(), "panic")) {
			t.Fatalf("%q: %v", source, err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Fatalf("%q: took %v", source, took)
		}
		if utf8.ValidString(content) && !utf8.ValidString(text) {
			t.Fatalf("%q: the text is not valid UTF-8: %q", source, text)
		}
	})
}

// FuzzMessage decodes, encodes and decodes messages.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{
		`{"role":"user","content":"x"}`,
		`{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"n"}`,
		`{"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":{"z":1,"a":1.0}}}]}`,
		`{"tool_call_id":"1","role":"tool","content":"","x":{"b":[],"a":{}},"role":"y"}`,
		`{"role":1}`, `[]`, `{"content":[{"type":"image_url"}]}`, `{"content":"\ud800"}`, `{}`, `null`,
	} {
		f.Add([]byte(s))
	}
	tmpl, err := Parse("{{ messages | tojson }}")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Message
		if json.Unmarshal(data, &m) != nil {
			return
		}
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		var again Message
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("%q became %q: %v", data, out, err)
		}
		if m.Role != again.Role || m.Content != again.Content || m.Name != again.Name || m.ToolCallID != again.ToolCallID {
			t.Fatalf("%q became %+v, want %+v", data, again, m)
		}
		first, err := tmpl.Render(context.Background(), []Message{m}, Options{})
		if err != nil {
			return // such as numbers that are too large
		}
		second, err := tmpl.Render(context.Background(), []Message{again}, Options{})
		if err != nil || first != second {
			t.Fatalf("%q rendered as %q, then %q, %v", data, first, second, err)
		}
	})
}

// FuzzLoad reads what may be a tokenizer's configuration.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		`{"chat_template":"{{ messages }}"}`,
		`{"chat_template":[{"name":"default","template":"a"},{"name":"tool_use","template":"{% b"}]}`,
		`{"chat_template":null}`, `{}`, `{"chat_template":[{"name":"rag","template":"a"}]}`, `{"chat_template":{}}`, `{"chat_template":1}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tmpl, err := Load(fstest.MapFS{"tokenizer_config.json": {Data: data}})
		if (tmpl == nil) == (err == nil) {
			t.Fatalf("%q: %v, %v", data, tmpl, err)
		}
		if err != nil {
			return
		}
		for _, name := range tmpl.Variants() {
			if v, err := tmpl.Variant(name); (v == nil) == (err == nil) {
				t.Fatalf("%q: %s: %v, %v", data, name, v, err)
			}
		}
	})
}
