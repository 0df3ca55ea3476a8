package tokenizer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// ParseTiktoken reads a vocabulary in tiktoken's form: lines of a piece in
// base64 and its rank, which is its ID. Text is split with the pattern of
// Llama 3. special are special tokens and their IDs; none may be a rank. If
// "<|begin_of_text|>" and "<|end_of_text|>" are among them, they are BOS, which
// Encode puts before the text on request, and EOS.
func ParseTiktoken(b []byte, special map[string]int) (*Tokenizer, error) {
	t, err := newTiktoken(b)
	if err == nil {
		err = t.addTiktokenSpecial(special)
	}
	if err != nil {
		return nil, fmt.Errorf("tokenizer: tiktoken vocabulary: %w", err)
	}
	return t, nil
}

// newTiktoken makes a tokenizer without special tokens.
func newTiktoken(b []byte) (*Tokenizer, error) {
	ids := map[string]int32{}
	for n := 1; len(b) > 0; n++ {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
			continue
		}
		text, rank, ok := bytes.Cut(line, []byte(" "))
		if !ok {
			return nil, fmt.Errorf("line %d: is not a piece and its rank", n)
		}
		p, err := base64.StdEncoding.AppendDecode(nil, text)
		if err != nil || len(p) == 0 {
			return nil, fmt.Errorf("line %d: %s is not a piece in base64", n, quote(string(text)))
		}
		id, err := strconv.ParseUint(string(rank), 10, 31)
		if err != nil || id > maxID {
			return nil, fmt.Errorf("line %d: %s is not a rank", n, quote(string(rank)))
		}
		if _, ok := ids[string(p)]; ok {
			return nil, fmt.Errorf("line %d: %s is there twice", n, quote(string(p)))
		}
		ids[string(p)] = int32(id)
	}
	m := &bpe{joined: make(map[string]merge, len(ids)), vocab: maps.Clone(ids), bytes: new([256]int32), whole: true, unk: none}
	for c := range m.bytes {
		id, ok := ids[string([]byte{byte(c)})]
		if !ok {
			return nil, fmt.Errorf("byte 0x%02X has no rank", c)
		}
		m.bytes[c] = id
	}
	for p, id := range ids {
		m.joined[p] = merge{uint32(id), id}
	}
	vocab, err := newVocabulary(ids)
	if err != nil {
		return nil, err
	}
	t := newTokenizer("tiktoken BPE", vocab)
	t.model = m
	t.splitters = []splitter{{scan: newScanner(llama3Pattern)}}
	t.decoder = func(next stage) stage {
		return &rawStage{next: next, raw: func(_ int32, text string) string { return text }}
	}
	return t, nil
}

// addTiktokenSpecial adds special tokens.
func (t *Tokenizer) addTiktokenSpecial(special map[string]int) error {
	for _, name := range slices.Sorted(maps.Keys(special)) {
		id := special[name]
		if name == "" || id < 0 || id > maxID {
			return fmt.Errorf("special token %s: ID %d is out of range", quote(name), id)
		}
		if p, ok := t.vocab.piece(int32(id)); ok {
			return fmt.Errorf("special token %s: ID %d is that of %s", quote(name), id, quote(p))
		}
		if err := t.vocab.add(name, int32(id)); err != nil {
			return err
		}
		if err := t.recognise(&t.raw, name, addedToken{Content: name, ID: int64(id), Special: true}); err != nil {
			return err
		}
	}
	t.bos, t.eos = t.vocab.id("<|begin_of_text|>"), t.vocab.id("<|end_of_text|>")
	if t.bos != none {
		t.prefix = []int32{t.bos}
	}
	t.bar()
	return nil
}

// isTiktoken reports whether b begins like a vocabulary in tiktoken's form. A
// protocol buffer begins with a byte below space.
func isTiktoken(b []byte) bool {
	line, _, _ := bytes.Cut(b[:min(len(b), 4096)], []byte("\n"))
	text, rank, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(text) == 0 {
		return false
	}
	if _, err := base64.StdEncoding.AppendDecode(nil, text); err != nil {
		return false
	}
	_, err := strconv.ParseUint(string(bytes.TrimSpace(rank)), 10, 31)
	return err == nil
}

// llama3Special are the special tokens of Llama 3.1, which follow the 128000
// ranks of its file. Those of Llama 3 have the same IDs; the reserved ones are
// numbered differently
// (https://github.com/meta-llama/llama-models/blob/main/models/llama3/tokenizer.py).
func llama3Special(ranks int) map[string]int {
	const total = 256
	named := map[int]string{
		0: "<|begin_of_text|>", 1: "<|end_of_text|>", 4: "<|finetune_right_pad_id|>",
		6: "<|start_header_id|>", 7: "<|end_header_id|>", 8: "<|eom_id|>", 9: "<|eot_id|>", 10: "<|python_tag|>",
	}
	special := make(map[string]int, total)
	reserved := 0
	for i := range total {
		name, ok := named[i]
		if !ok {
			name = fmt.Sprintf("<|reserved_special_token_%d|>", reserved)
			reserved++
		}
		special[name] = ranks + i
	}
	return special
}

// rawStage decodes pieces that stand for bytes.
type rawStage struct {
	next  stage
	raw   func(id int32, text string) string
	bytes lossy
}

func (r *rawStage) text(string) {}
func (r *rawStage) end()        {}

func (r *rawStage) piece(id int32, text string) {
	if s := r.bytes.add(r.raw(id, text)); s != "" {
		r.next.text(s)
	}
}

func (r *rawStage) flush() {
	if s := r.bytes.rest(); s != "" {
		r.next.text(s)
	}
	r.next.end()
	r.next.flush()
}

// errNoFile is for a directory without any file that Load knows.
var errNoFile = errors.New("there is no tokenizer.json, tokenizer.model or spm.model")
