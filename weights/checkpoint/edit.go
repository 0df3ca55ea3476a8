package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"expo/weights/tensor"
)

// Edited is the file with the declared dtype replaced, wherever it stands and
// under whichever key it has (also inside text_config and its like), and with
// the named keys taken out of the same places; every other byte stays as it
// was. A file that declares no dtype gets none: readers then take it from the
// weights. tensor.Invalid keeps the dtype. A missing file gives nil.
func (c *Config) Edited(dtype tensor.DType, remove ...string) ([]byte, error) {
	if !c.Exists() {
		return nil, nil
	}
	if dtype != tensor.Invalid && dtype.ConfigName() == "" {
		return nil, fmt.Errorf("checkpoint: config.json has no name for %v", dtype)
	}
	e := &editor{raw: c.raw, dtype: dtype, remove: remove}
	// Offsets must stay, so a word that is no JSON becomes a number of its length.
	e.dec = json.NewDecoder(bytes.NewReader(replaceNonFinite(c.raw, numberOfLength)))
	e.dec.UseNumber()
	if _, err := e.value(nil); err != nil {
		return nil, fmt.Errorf("checkpoint: config.json could not be edited: %w", err)
	}
	out := e.apply()
	if _, err := ParseConfig(out); err != nil {
		return nil, fmt.Errorf("checkpoint: config.json could not be edited: %w", err)
	}
	return out, nil
}

// editor walks the document token by token and notes the stretches to
// replace, which do not overlap.
type editor struct {
	raw    []byte
	dec    *json.Decoder
	dtype  tensor.DType
	remove []string
	edits  []edit
}

// edit puts text in place of raw[from:to].
type edit struct {
	from, to int64
	text     string
}

// value passes one value, which lies under the keys of path, and returns its
// first token.
func (e *editor) value(path []string) (json.Token, error) {
	tok, err := e.dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok {
	case json.Delim('{'):
		return tok, e.object(path)
	case json.Delim('['):
		for e.dec.More() {
			if _, err := e.value(append(path, "[]")); err != nil {
				return nil, err
			}
		}
		_, err = e.dec.Token() // ]
	}
	return tok, err
}

// member is where one member of an object lies: from the quote of its key to
// the end of its value.
type member struct {
	from, to int64
	remove   bool
}

func (e *editor) object(path []string) error {
	var members []member
	own := describesWeights(path)
	for e.dec.More() {
		m := member{from: e.skip(e.dec.InputOffset(), ',')}
		tok, err := e.dec.Token()
		if err != nil {
			return err
		}
		key, _ := tok.(string)
		value := e.skip(e.dec.InputOffset(), ':')
		edits := len(e.edits)
		first, err := e.value(append(path, key))
		if err != nil {
			return err
		}
		m.to = e.dec.InputOffset()
		if own && slices.Contains(e.remove, key) {
			m.remove = true
			e.edits = e.edits[:edits]
		} else if s, ok := first.(string); ok && own && slices.Contains(dtypeKeys, key) && e.differs(s) {
			e.edits = append(e.edits, edit{value, m.to, `"` + e.dtype.ConfigName() + `"`})
		}
		members = append(members, m)
	}
	e.removals(members)
	_, err := e.dec.Token() // }
	return err
}

// differs tells whether a declared dtype is to be replaced.
func (e *editor) differs(declared string) bool {
	if e.dtype == tensor.Invalid {
		return false
	}
	d, err := tensor.ParseConfigDType(declared)
	return err != nil || d != e.dtype
}

// removals notes the edits that take members out of one object: each goes with
// the comma before it, those in front of the first that stays with the comma
// after them.
func (e *editor) removals(members []member) {
	kept := false
	for i, m := range members {
		switch {
		case !m.remove:
			kept = true
		case kept:
			e.edits = append(e.edits, edit{members[i-1].to, m.to, ""})
		case i+1 < len(members):
			e.edits = append(e.edits, edit{m.from, members[i+1].from, ""})
		default:
			e.edits = append(e.edits, edit{m.from, m.to, ""})
		}
	}
}

// skip finds the next byte that is neither white space nor sep.
func (e *editor) skip(from int64, sep byte) int64 {
	for from < int64(len(e.raw)) && (e.raw[from] == sep || strings.IndexByte(" \t\r\n", e.raw[from]) >= 0) {
		from++
	}
	return from
}

func (e *editor) apply() []byte {
	slices.SortFunc(e.edits, func(a, b edit) int { return int(a.from - b.from) })
	out := make([]byte, 0, len(e.raw))
	at := int64(0)
	for _, d := range e.edits {
		out = append(out, e.raw[at:d.from]...)
		out = append(out, d.text...)
		at = d.to
	}
	return append(out, e.raw[at:]...)
}

// describesWeights tells the places whose keys speak of the weights: the top
// and the configurations of sub-models, not the parameters of a quantizer.
func describesWeights(path []string) bool {
	for _, p := range path {
		if !strings.HasSuffix(p, "_config") || slices.Contains(quantizationKeys, p) || strings.HasPrefix(p, "quantization") {
			return false
		}
	}
	return true
}

// numberOfLength is a JSON number as long as word.
func numberOfLength(word string) string { return "0" + strings.Repeat(" ", len(word)-1) }

// replaceNonFinite replaces the bare words NaN, Infinity and -Infinity, which
// Python's json module writes and reads although JSON has no such numbers.
// Inside strings they stay. Without any the result is b itself.
func replaceNonFinite(b []byte, replace func(word string) string) []byte {
	if !bytes.Contains(b, []byte("NaN")) && !bytes.Contains(b, []byte("Infinity")) {
		return b
	}
	out := make([]byte, 0, len(b)+16)
	inString := false
	for i := 0; i < len(b); {
		if inString {
			n := 1
			if b[i] == '\\' && i+1 < len(b) {
				n = 2
			}
			inString = b[i] != '"'
			out = append(out, b[i:i+n]...)
			i += n
			continue
		}
		word := ""
		for _, w := range []string{"NaN", "Infinity", "-Infinity"} {
			if bytes.HasPrefix(b[i:], []byte(w)) {
				word = w
			}
		}
		if word != "" {
			out = append(out, replace(word)...)
			i += len(word)
			continue
		}
		inString = b[i] == '"'
		out = append(out, b[i])
		i++
	}
	return out
}
