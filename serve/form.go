package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"expo/lm/generate/grammar"
)

// form is the form that answers are to have, nil for any: OpenAI's
// response_format, or what vLLM has for it.
func (b *body) form() (*grammar.Grammar, error) {
	var found *grammar.Grammar
	var field string
	for _, f := range []struct {
		name string
		make func() (*grammar.Grammar, error)
	}{
		{"response_format", b.responseFormat},
		{"structured_outputs", b.structuredOutputs},
		{"guided_json", func() (*grammar.Grammar, error) { return schemaOf(b.GuidedJSON) }},
		{"guided_choice", func() (*grammar.Grammar, error) {
			if b.GuidedChoice == nil {
				return nil, nil
			}
			return grammar.Choice(b.GuidedChoice)
		}},
	} {
		g, err := f.make()
		switch {
		case errors.Is(err, grammar.ErrSchema):
			return nil, badField(f.name, "%s: %v", f.name, err)
		case err != nil:
			return nil, err
		case g != nil && found != nil:
			return nil, badField(f.name, "%s and %s contradict each other", field, f.name)
		case g != nil:
			found, field = g, f.name
		}
	}
	return found, nil
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// strictly reads JSON that has no fields but those of v.
func strictly(raw json.RawMessage, field string, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		return nil
	}
	return badField(field, "%s: %s", field, strings.TrimPrefix(err.Error(), "json: "))
}

// responseFormat is response_format. Its schema is kept to whether strict or
// not.
func (b *body) responseFormat() (*grammar.Grammar, error) {
	const field = "response_format"
	if absent(b.ResponseFormat) {
		return nil, nil
	}
	var f struct {
		Type       string          `json:"type"`
		JSONSchema json.RawMessage `json:"json_schema"`
	}
	if err := strictly(b.ResponseFormat, field, &f); err != nil {
		return nil, err
	}
	if f.Type != "json_schema" && !absent(f.JSONSchema) {
		return nil, badField(field, "response_format: json_schema needs the type \"json_schema\", not %q", f.Type)
	}
	switch f.Type {
	case "text":
		return nil, nil
	case "json_object":
		return grammar.Object(), nil
	case "json_schema":
	default:
		return nil, badField(field, "response_format: the type %q is not supported; text, json_object and json_schema are", f.Type)
	}
	var s struct {
		Name        string          `json:"name"`
		Description string          `json:"description"`
		Schema      json.RawMessage `json:"schema"`
		Strict      *bool           `json:"strict"`
	}
	if absent(f.JSONSchema) {
		return nil, badField(field, "response_format.json_schema is missing")
	}
	if err := strictly(f.JSONSchema, field, &s); err != nil {
		return nil, err
	}
	if s.Name == "" || absent(s.Schema) {
		return nil, badField(field, "response_format.json_schema needs a name and a schema")
	}
	return grammar.Schema(s.Schema)
}

// structuredOutputs is vLLM's field of that name.
func (b *body) structuredOutputs() (*grammar.Grammar, error) {
	const field = "structured_outputs"
	if absent(b.StructuredOutputs) {
		return nil, nil
	}
	var all map[string]json.RawMessage
	if err := strictly(b.StructuredOutputs, field, &all); err != nil {
		return nil, err
	}
	var given []string
	for name, v := range all {
		if !absent(v) && string(v) != "false" {
			given = append(given, name)
		}
	}
	slices.Sort(given)
	switch {
	case len(given) == 0:
		return nil, nil
	case len(given) > 1:
		return nil, badField(field, "structured_outputs: one of json, json_object and choice is supported at a time, not %q", given)
	}
	raw := all[given[0]]
	switch given[0] {
	case "json":
		return schemaOf(raw)
	case "json_object":
		if string(raw) != "true" {
			return nil, badField(field, "structured_outputs: json_object must be true or false")
		}
		return grammar.Object(), nil
	case "choice":
		var texts []string
		if err := strictly(raw, field, &texts); err != nil {
			return nil, err
		}
		return grammar.Choice(texts)
	}
	return nil, badField(field, "structured_outputs: %q is not supported; json, json_object and choice are", given[0])
}

// schemaOf compiles a schema, which may come as a text.
func schemaOf(raw json.RawMessage) (*grammar.Grammar, error) {
	if absent(raw) {
		return nil, nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		raw = json.RawMessage(text)
	}
	return grammar.Schema(raw)
}
