package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// A Message is one turn of a conversation. Its JSON is that of OpenAI's chat
// API (https://platform.openai.com/docs/api-reference/chat). Decoding keeps
// fields that are not listed here, and the order of all, for templates that
// read them.
type Message struct {
	Role string // system, user, assistant, tool, or what else the template knows

	// Content is the text. Where the JSON has a list of parts of type text,
	// it is their texts, a newline between two of them. Parts of other types
	// are an error.
	Content string

	Name       string          // of the speaker, "" if there is none
	ToolCalls  json.RawMessage // a list, nil if there is none
	ToolCallID string          // in a message of role tool

	fields []field // as they were decoded, in order
	text   string  // Content as it was decoded
}

// A field is one member of a message's JSON.
type field struct {
	name string
	raw  json.RawMessage
}

// UnmarshalJSON decodes a message. Its errors say which field they are about.
func (m *Message) UnmarshalJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("chat: a message is not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("chat: a message is no JSON object")
	}
	*m = Message{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return fmt.Errorf("chat: message: %w", err)
		}
		f := field{name: t.(string)}
		if err := d.Decode(&f.raw); err != nil {
			return fmt.Errorf("chat: message: %s: %w", f.name, err)
		}
		i := slices.IndexFunc(m.fields, func(g field) bool { return g.name == f.name })
		if i >= 0 {
			m.fields[i] = f
		} else {
			m.fields = append(m.fields, f)
		}
	}
	m.fields = slices.Clip(m.fields)
	for _, f := range m.fields {
		if err := m.take(f); err != nil {
			return fmt.Errorf("chat: message: %s: %w", f.name, err)
		}
	}
	m.text = m.Content
	return nil
}

// take sets what a field decodes to.
func (m *Message) take(f field) error {
	if string(f.raw) == "null" {
		return nil
	}
	switch f.name {
	case "role":
		return json.Unmarshal(f.raw, &m.Role)
	case "name":
		return json.Unmarshal(f.raw, &m.Name)
	case "tool_call_id":
		return json.Unmarshal(f.raw, &m.ToolCallID)
	case "tool_calls":
		if f.raw[0] != '[' {
			return errors.New("want a list")
		}
		m.ToolCalls = f.raw
	case "content":
		if f.raw[0] != '[' {
			return json.Unmarshal(f.raw, &m.Content)
		}
		var parts []struct{ Type, Text string }
		if err := json.Unmarshal(f.raw, &parts); err != nil {
			return err
		}
		texts := make([]string, len(parts))
		for i, p := range parts {
			if p.Type != "text" {
				return fmt.Errorf("part %d is of type %q, want text", i, p.Type)
			}
			texts[i] = p.Text
		}
		m.Content = strings.Join(texts, "\n")
	}
	return nil
}

// ordered are the fields of m as they are now: those that were decoded, with
// the values of the exported fields, and then those set since.
func (m *Message) ordered() []field {
	quoted := func(s string) json.RawMessage {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(s) // a string into memory cannot fail
		return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	}
	known := []field{
		{"role", quoted(m.Role)},
		{"content", quoted(m.Content)},
		{"name", quoted(m.Name)},
		{"tool_calls", m.ToolCalls},
		{"tool_call_id", quoted(m.ToolCallID)},
	}
	empty := map[string]bool{
		"role":         false,
		"content":      m.Content == "" && m.fields != nil,
		"name":         m.Name == "",
		"tool_calls":   m.ToolCalls == nil,
		"tool_call_id": m.ToolCallID == "",
	}
	out := slices.Clone(m.fields)
	for _, k := range known {
		i := slices.IndexFunc(out, func(f field) bool { return f.name == k.name })
		switch {
		case i < 0 && !empty[k.name]:
			out = append(out, k)
		case i < 0, empty[k.name] && string(out[i].raw) == "null":
		case k.name == "content" && m.Content == m.text: // may be parts
		case k.name == "tool_calls" && k.raw == nil:
			out = slices.Delete(out, i, i+1)
		default:
			out[i] = k
		}
	}
	return out
}

// MarshalJSON encodes a message with all the fields that it was decoded with.
func (m Message) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range m.ordered() {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(f.raw)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// value is what a template sees of the message. Fields that are null are left
// out, as transformers leaves them out. Only with parts is a content in parts
// a list.
func (m *Message) value(parts bool) (value, error) {
	dict := jinja.NewDict()
	for _, f := range m.ordered() {
		var v value
		var err error
		if f.name == "content" && (f.raw[0] != '[' || !parts) {
			// What is no JSON must not be lost, as it would be in quoted.
			if string(f.raw) == "null" && m.Content == "" {
				continue
			}
			v = jinja.NewString(m.Content)
		} else if v, err = decode(f.raw); err != nil {
			return jinja.Undefined(), fmt.Errorf("%s: %w", f.name, err)
		}
		if v.IsNone() {
			continue
		}
		key, err := keyOf(jinja.NewString(f.name))
		if err != nil {
			return jinja.Undefined(), err
		}
		dict.AsDict().Set(key, v)
	}
	return aliasReasoning(dict), nil
}

// reasoning are the names under which models' reasoning is handed on.
var reasoning = []string{"reasoning_content", "thinking", "reasoning"}

// aliasReasoning gives a message with reasoning both names by which templates
// read it, as transformers does: thinking at its head, reasoning_content.
func aliasReasoning(message value) value {
	d := message.AsDict()
	for _, name := range reasoning {
		v, ok := d.Get(name)
		if !ok || v.IsNone() {
			continue
		}
		out := jinja.NewDict()
		out.AsDict().Set("thinking", v)
		for _, key := range d.Keys {
			out.AsDict().Set(key, d.Data[key])
		}
		out.AsDict().Set("reasoning_content", v)
		return out
	}
	return message
}
