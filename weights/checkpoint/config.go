package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"expo/weights/tensor"
)

// Config is config.json: its bytes as they are, and what they say. The zero
// value is a missing file, for which every question is answered with "not
// there".
type Config struct {
	raw    []byte
	fields map[string]any
}

// ParseConfig reads config.json. It must be one JSON object; the bare words
// NaN, Infinity and -Infinity, which Python writes for such numbers (the
// time_step_limit of state-space models has one), are taken, and appear in
// Fields and Value as strings.
func ParseConfig(b []byte) (*Config, error) {
	dec := json.NewDecoder(bytes.NewReader(replaceNonFinite(b, strconv.Quote)))
	dec.UseNumber()
	c := &Config{raw: bytes.Clone(b)}
	if err := dec.Decode(&c.fields); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, errors.New("not a JSON object")
		}
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
	// As strings these words would also pass for keys.
	if !json.Valid(replaceNonFinite(b, numberOfLength)) {
		return nil, errors.New("not valid JSON: NaN or Infinity stands in place of a key")
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
	if err != nil {
		return 0, false
	}
	return i, true
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
