package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
)

// Load reads the tokenizer of a model directory: tokenizer.json, or else
// tokenizer.model, a SentencePiece model or a vocabulary in tiktoken's form, or
// else spm.model, the SentencePiece model of DeBERTa, which is read as
// transformers converts it.
//
// tokenizer_config.json, special_tokens_map.json and added_tokens.json are
// used if they are there. They say which tokens are BOS, EOS, UNK and PAD.
// Where there is no tokenizer.json they also name special tokens, add tokens
// and give pieces other names, and they say whether BOS and EOS are put around
// a text (add_bos_token, true if it is not there, and add_eos_token) and
// whether each part of a text between special tokens begins with a dummy
// prefix (legacy, true if it is not there) or the first one only. A
// tokenizer.json holds all this itself, and is followed.
func Load(files fs.FS) (*Tokenizer, error) {
	t, err := load(files)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

func load(files fs.FS) (*Tokenizer, error) {
	var cfg config
	if err := cfg.read(files); err != nil {
		return nil, err
	}
	for _, name := range []string{"tokenizer.json", "tokenizer.model", "spm.model"} {
		b, err := fs.ReadFile(files, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var t *Tokenizer
		switch {
		case name == "tokenizer.json":
			t, err = parseJSON(b)
		case name == "spm.model":
			t, err = loadDeBERTa(b, &cfg)
		case isTiktoken(b):
			t, err = loadTiktoken(b, &cfg)
		default:
			t, err = loadSentencePiece(b, &cfg)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		cfg.name(t)
		return t, nil
	}
	return nil, errNoFile
}

// A named is the name of a token: a string, an object with its content, or
// null.
type named string

func (n *named) UnmarshalJSON(b []byte) error {
	*n = ""
	var s string
	if json.Unmarshal(b, &s) == nil {
		*n = named(s)
		return nil
	}
	var tok struct {
		Content string `json:"content"`
	}
	if err := json.Unmarshal(b, &tok); err != nil {
		return errors.New("a token is neither a string nor an object with its content")
	}
	*n = named(tok.Content)
	return nil
}

// names are the names of special tokens as tokenizer_config.json and
// special_tokens_map.json have them.
type names struct {
	BOS  named `json:"bos_token"`
	EOS  named `json:"eos_token"`
	UNK  named `json:"unk_token"`
	PAD  named `json:"pad_token"`
	CLS  named `json:"cls_token"`
	SEP  named `json:"sep_token"`
	Mask named `json:"mask_token"`

	Additional []named `json:"additional_special_tokens"`
}

// A config is what the files beside a tokenizer say.
type config struct {
	names
	AddedTokensDecoder map[string]addedToken `json:"added_tokens_decoder"`
	AddBOS             *bool                 `json:"add_bos_token"`
	AddEOS             *bool                 `json:"add_eos_token"`
	Legacy             *bool                 `json:"legacy"`
	DoLowerCase        bool                  `json:"do_lower_case"`
	SplitByPunct       bool                  `json:"split_by_punct"`

	added map[string]int64 // added_tokens.json
}

// read reads the files that are there. Where two name a token, the first of
// tokenizer_config.json and special_tokens_map.json counts.
func (c *config) read(files fs.FS) error {
	var m names
	for _, f := range []struct {
		name string
		into any
	}{{"tokenizer_config.json", c}, {"special_tokens_map.json", &m}, {"added_tokens.json", &c.added}} {
		b, err := fs.ReadFile(files, f.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, f.into); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for _, n := range []struct{ to, from *named }{
		{&c.BOS, &m.BOS}, {&c.EOS, &m.EOS}, {&c.UNK, &m.UNK}, {&c.PAD, &m.PAD},
		{&c.CLS, &m.CLS}, {&c.SEP, &m.SEP}, {&c.Mask, &m.Mask},
	} {
		if *n.to == "" {
			*n.to = *n.from
		}
	}
	c.Additional = append(c.Additional, m.Additional...)
	return nil
}

// name sets the IDs of the tokens that c names. A name that is not in the
// vocabulary is passed over.
func (c *config) name(t *Tokenizer) {
	for _, n := range []struct {
		id    *int32
		names []named
	}{{&t.bos, []named{c.BOS, c.CLS}}, {&t.eos, []named{c.EOS, c.SEP}}, {&t.unk, []named{c.UNK}}, {&t.pad, []named{c.PAD}}} {
		for _, name := range n.names {
			if id, ok := t.ID(string(name)); ok && name != "" {
				*n.id = int32(id)
				break
			}
		}
	}
}

// specials are the names that c gives to special tokens.
func (c *config) specials() map[string]bool {
	all := map[string]bool{}
	for _, n := range append([]named{c.BOS, c.EOS, c.UNK, c.PAD, c.CLS, c.SEP, c.Mask}, c.Additional...) {
		if n != "" {
			all[string(n)] = true
		}
	}
	return all
}

// tokens are the added tokens by ID. find looks a piece up.
func (c *config) tokens(find func(string) int32) (map[int32]addedToken, error) {
	tokens := map[int32]addedToken{}
	taken := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(c.AddedTokensDecoder)) {
		tok := c.AddedTokensDecoder[key]
		id, err := strconv.ParseInt(key, 10, 64)
		if err != nil || id < 0 || id > maxID {
			return nil, fmt.Errorf("added_tokens_decoder: %s is not an ID", quote(key))
		}
		if tok.Content == "" {
			continue
		}
		tok.ID = id
		tokens[int32(id)] = tok
		taken[tok.Content] = true
	}
	specials := c.specials()
	for _, name := range slices.Sorted(maps.Keys(c.added)) {
		id := c.added[name]
		if id < 0 || id > maxID {
			return nil, fmt.Errorf("added_tokens.json: token %s: ID %d is out of range", quote(name), id)
		}
		if _, ok := tokens[int32(id)]; !ok && !taken[name] && name != "" {
			tokens[int32(id)] = addedToken{Content: name, ID: id, Special: specials[name]}
			taken[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(specials)) {
		if id := find(name); id != none && !taken[name] {
			tokens[id] = addedToken{Content: name, ID: int64(id), Special: true}
		}
	}
	return tokens, nil
}

// around puts BOS and EOS around a text as c says.
func (c *config) around(t *Tokenizer) {
	t.prefix, t.suffix = nil, nil
	if t.bos != none && (c.AddBOS == nil || *c.AddBOS) {
		t.prefix = []int32{t.bos}
	}
	if t.eos != none && isTrue(c.AddEOS) {
		t.suffix = []int32{t.eos}
	}
}

func loadSentencePiece(b []byte, c *config) (*Tokenizer, error) {
	m, err := parseSPM(b)
	if err != nil {
		return nil, err
	}
	t, err := newSentencePiece(m, c.Legacy == nil || *c.Legacy)
	if err != nil {
		return nil, err
	}
	tokens, err := c.tokens(t.vocab.id)
	if err != nil {
		return nil, err
	}
	if err := t.addSpecial(m, tokens); err != nil {
		return nil, err
	}
	c.name(t)
	c.around(t)
	t.bar()
	return t, nil
}

func loadTiktoken(b []byte, c *config) (*Tokenizer, error) {
	t, err := newTiktoken(b)
	if err != nil {
		return nil, err
	}
	special := llama3Special(t.Size())
	tokens, err := c.tokens(func(string) int32 { return none })
	if err != nil {
		return nil, err
	}
	byID := map[int]string{}
	for name, id := range special {
		byID[id] = name
	}
	for _, id := range slices.Sorted(maps.Keys(tokens)) {
		tok := tokens[id]
		if p, ok := t.vocab.piece(id); ok && p == tok.Content {
			continue
		}
		delete(special, byID[int(id)])
		if have, ok := special[tok.Content]; ok {
			delete(byID, have)
		}
		special[tok.Content] = int(id)
		byID[int(id)] = tok.Content
	}
	if err := t.addTiktokenSpecial(special); err != nil {
		return nil, err
	}
	c.name(t)
	c.around(t)
	return t, nil
}

// loadDeBERTa makes of the SentencePiece model of DeBERTa what transformers
// makes of it: characters that have no piece are unknown, and not bytes, and
// [CLS] and [SEP] stand around a text
// (https://github.com/huggingface/transformers/blob/main/src/transformers/convert_slow_tokenizer.py).
func loadDeBERTa(b []byte, c *config) (*Tokenizer, error) {
	m, err := parseSPM(b)
	if err != nil {
		return nil, err
	}
	if m.modelType != 1 {
		return nil, errors.New("is not a Unigram model")
	}
	if _, err := newSentencePiece(m, true); err != nil { // to check it
		return nil, err
	}
	pieces := make([]scoredPiece, len(m.pieces))
	for i, p := range m.pieces {
		pieces[i] = scoredPiece{p.text, float64(p.score)}
	}
	t, err := newUnigram(pieces, m.unkID, false)
	if err != nil {
		return nil, err
	}

	yes, space := true, " "
	var all []*component
	if c.DoLowerCase {
		all = append(all, &component{Type: "Lowercase"})
	}
	all = append(all, &component{Type: "Strip", StripLeft: &yes, StripRight: &yes})
	if t.normalizers, err = newNormalizers(&component{Type: "Sequence", Normalizers: all}); err != nil {
		return nil, err
	}
	if len(m.charsmap) > 0 {
		table, err := parseCharsmap(m.charsmap)
		if err != nil {
			return nil, err
		}
		t.normalizers = append(t.normalizers, always(table.graphemes))
	}
	collapse, err := newNormalizer(&component{Type: "Replace", Content: &space, Pattern: json.RawMessage(`{"Regex": " {2,}"}`)})
	if err != nil {
		return nil, err
	}
	t.normalizers = append(t.normalizers, collapse)
	if c.SplitByPunct {
		t.splitters = append(t.splitters, scanIf(isPunctuation, false))
	}
	words, err := metaspace(&component{Replacement: meta})
	if err != nil {
		return nil, err
	}
	t.splitters = append(t.splitters, words...)
	if t.decoder, err = newDecoder(&component{Type: "Metaspace", Replacement: meta}); err != nil {
		return nil, err
	}

	for _, d := range []struct {
		to   *named
		name named
	}{{&c.CLS, "[CLS]"}, {&c.SEP, "[SEP]"}, {&c.UNK, "[UNK]"}, {&c.PAD, "[PAD]"}, {&c.Mask, "[MASK]"}} {
		if *d.to == "" {
			*d.to = d.name
		}
	}
	tokens, err := c.tokens(t.vocab.id)
	if err != nil {
		return nil, err
	}
	if t.vocab.id(string(c.Mask)) == none && !slices.ContainsFunc(slices.Collect(maps.Values(tokens)),
		func(tok addedToken) bool { return tok.Content == string(c.Mask) }) {
		id := int32(len(pieces))
		if _, ok := tokens[id]; !ok { // the mask is not in the model; it follows the pieces
			tokens[id] = addedToken{Content: string(c.Mask), ID: int64(id), Special: true}
		}
	}
	if err := t.addSpecial(m, tokens); err != nil {
		return nil, err
	}
	c.name(t)
	cls, sep := t.vocab.id(string(c.CLS)), t.vocab.id(string(c.SEP))
	if cls == none || sep == none {
		return nil, errors.New("has no pieces [CLS] and [SEP]")
	}
	t.prefix, t.suffix = []int32{cls}, []int32{sep}
	t.bar()
	return t, nil
}
