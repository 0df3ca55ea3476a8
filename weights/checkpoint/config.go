package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"expo/weights/tensor"
)

// Config is config.json: its bytes as they are, and what they say. The zero
// value is a missing file, for which every question is answered with "not
// there".
type Config struct {
	raw    []byte
	fields map[string]any
}

// ParseConfig reads config.json. It must be one JSON object.
func ParseConfig(b []byte) (*Config, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	c := &Config{raw: bytes.Clone(b)}
	if err := dec.Decode(&c.fields); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("empty file")
		}
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	if c.fields == nil {
		return nil, errors.New("not a JSON object")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("not valid JSON: something follows the object")
	}
	return c, nil
}

// Exists reports whether there was a config.json.
func (c *Config) Exists() bool { return c.raw != nil }

// Raw is the file's bytes.
func (c *Config) Raw() []byte { return bytes.Clone(c.raw) }

// Value finds a key at the top or, where the top has none, inside
// text_config, where models of several modalities keep their decoder's keys.
func (c *Config) Value(key string) (any, bool) {
	if v, ok := c.fields[key]; ok && v != nil {
		return v, true
	}
	if text, ok := c.fields["text_config"].(map[string]any); ok {
		if v, ok := text[key]; ok && v != nil {
			return v, true
		}
	}
	return nil, false
}

// String is Value where it is a string.
func (c *Config) String(key string) (string, bool) {
	v, _ := c.Value(key)
	s, ok := v.(string)
	return s, ok
}

// Int is Value where it is an integer.
func (c *Config) Int(key string) (int64, bool) {
	v, _ := c.Value(key)
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return i, err == nil
}

// Bool is Value where it is a boolean.
func (c *Config) Bool(key string) (value, ok bool) {
	v, _ := c.Value(key)
	value, ok = v.(bool)
	return value, ok
}

// Object is a nested object at the top level.
func (c *Config) Object(key string) (map[string]any, bool) {
	m, ok := c.fields[key].(map[string]any)
	return m, ok
}

// Fields is the whole document, numbers as json.Number. The caller must not
// change it.
func (c *Config) Fields() map[string]any { return c.fields }

// DType is the element type that the file declares under "dtype"
// (transformers 5) or "torch_dtype" (4); the former wins where both stand.
func (c *Config) DType() (tensor.DType, bool) {
	for _, key := range dtypeKeys {
		if s, ok := c.String(key); ok {
			if d, err := tensor.ParseConfigDType(s); err == nil {
				return d, true
			}
		}
	}
	return tensor.Invalid, false
}

var dtypeKeys = []string{"dtype", "torch_dtype"}

// TieWordEmbeddings says whether the output head is the embedding. Where the
// key is absent (ok is false) transformers takes the model type's default.
func (c *Config) TieWordEmbeddings() (tied, ok bool) { return c.Bool("tie_word_embeddings") }

// Edited is the file with the declared dtype replaced, wherever it stands and
// under whichever key it has (also inside text_config and its like), and with
// the named top-level keys taken out; every other byte stays as it was. A file
// that declares no dtype gets none: readers then take it from the weights.
func (c *Config) Edited(dtype tensor.DType, remove ...string) ([]byte, error) {
	if !c.Exists() {
		return nil, nil
	}
	edits, err := c.edits(dtype, remove)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(c.raw)
	sort.Slice(edits, func(i, j int) bool { return edits[i].from > edits[j].from })
	for _, e := range edits {
		out = append(out[:e.from:e.from], append([]byte(e.text), out[e.to:]...)...)
	}
	if _, err := ParseConfig(out); err != nil {
		return nil, fmt.Errorf("checkpoint: config.json could not be edited: %w", err)
	}
	return out, nil
}

type edit struct {
	from, to int64
	text     string
}

// edits walks the document token by token and notes the stretches to replace.
func (c *Config) edits(dtype tensor.DType, remove []string) ([]edit, error) {
	var edits []edit
	dec := json.NewDecoder(bytes.NewReader(c.raw))
	dec.UseNumber()
	// skip finds the next byte that is neither white space nor one of sep.
	skip := func(from int64, sep string) int64 {
		for from < int64(len(c.raw)) && strings.IndexByte(" \t\r\n"+sep, c.raw[from]) >= 0 {
			from++
		}
		return from
	}
	var walk func(path []string) error
	object := func(path []string) error {
		for dec.More() {
			before := dec.InputOffset()
			tok, err := dec.Token()
			if err != nil {
				return err
			}
			key, _ := tok.(string)
			valueStart := skip(dec.InputOffset(), ":")
			if err := walk(append(path, key)); err != nil {
				return err
			}
			end := dec.InputOffset()
			switch {
			case len(path) == 0 && slices.Contains(remove, key):
				edits = append(edits, c.removal(before, end))
			case dtype != tensor.Invalid && slices.Contains(dtypeKeys, key) && declaresDType(path) && c.raw[valueStart] == '"':
				edits = append(edits, edit{valueStart, end, `"` + dtype.ConfigName() + `"`})
			}
		}
		_, err := dec.Token() // }
		return err
	}
	walk = func(path []string) error {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		switch tok {
		case json.Delim('{'):
			return object(path)
		case json.Delim('['):
			for dec.More() {
				if err := walk(append(path, "[]")); err != nil {
					return err
				}
			}
			_, err := dec.Token() // ]
			return err
		}
		return nil
	}
	return edits, walk(nil)
}

// removal is the edit that takes out the member between before, where the
// member before it ended, and end, with one of its two commas.
func (c *Config) removal(before, end int64) edit {
	if rest := bytes.TrimLeft(c.raw[before:], " \t\r\n"); rest[0] == ',' {
		return edit{before, end, ""}
	}
	rest := bytes.TrimLeft(c.raw[end:], " \t\r\n")
	if len(rest) > 0 && rest[0] == ',' {
		end = int64(len(c.raw)-len(rest)) + 1
	}
	return edit{before, end, ""}
}

// declaresDType tells the places where a dtype speaks of the weights: the top
// and the configurations of sub-models, not the parameters of a quantizer.
func declaresDType(path []string) bool {
	for _, p := range path {
		if !strings.HasSuffix(p, "_config") || strings.HasPrefix(p, "quantization") {
			return false
		}
	}
	return true
}
