package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
)

// A templatePiece is a part of the template of TemplateProcessing: a special
// token or a sequence.
type templatePiece struct {
	SpecialToken *struct{ ID string }
	Sequence     *struct{ ID string }
}

// A templateSpecial says which IDs a special token of a template has.
type templateSpecial struct {
	IDs []int64 `json:"ids"`
}

// A pairOf is ["token", ID].
type pairOf struct {
	token string
	id    int64
}

func (p *pairOf) UnmarshalJSON(b []byte) error {
	pair := []any{&p.token, &p.id}
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return errors.New("a special token is not a pair of text and ID")
	}
	return nil
}

// newProcessor reads a post-processor: what it puts around one text. What it
// does with pairs of texts is not looked at.
func (t *Tokenizer) newProcessor(c *component) error {
	if c == nil {
		return nil
	}
	prefix, suffix := []int64(nil), []int64(nil)
	switch c.Type {
	case "Sequence":
		for _, c := range c.Processors {
			if c == nil {
				return errors.New("post_processor Sequence: has an element null")
			}
			if err := t.newProcessor(c); err != nil {
				return err
			}
		}
		return nil
	case "ByteLevel": // moves offsets, which are not kept
		return nil
	case "TemplateProcessing":
		var err error
		if prefix, suffix, err = template(c); err != nil {
			return fmt.Errorf("post_processor TemplateProcessing: %w", err)
		}
	case "BertProcessing", "RobertaProcessing":
		if c.Cls == nil || c.Sep == nil {
			return fmt.Errorf("post_processor %s: has no cls or no sep", c.Type)
		}
		prefix, suffix = []int64{c.Cls.id}, []int64{c.Sep.id}
	default:
		return fmt.Errorf("post_processor %s: is not supported", quoteName(c.Type))
	}
	before, err := t.known(prefix)
	if err != nil {
		return fmt.Errorf("post_processor %s: %w", c.Type, err)
	}
	after, err := t.known(suffix)
	if err != nil {
		return fmt.Errorf("post_processor %s: %w", c.Type, err)
	}
	if len(before)+len(after) == 0 {
		return nil
	}
	// The library gives what the first one makes to the next one as several
	// texts, with results that nobody can have meant.
	if len(t.prefix)+len(t.suffix) > 0 {
		return fmt.Errorf("post_processor %s: follows one that adds tokens already", c.Type)
	}
	t.prefix, t.suffix = before, after
	if t.bos == none && len(before) > 0 {
		t.bos = before[0]
	}
	if t.eos == none && len(after) > 0 {
		t.eos = after[len(after)-1]
	}
	return nil
}

// template reads what a template puts before and after its one sequence.
func template(c *component) (prefix, suffix []int64, err error) {
	seen := false
	for _, p := range c.Single {
		switch {
		case p.SpecialToken != nil:
			tok, ok := c.SpecialTokens[p.SpecialToken.ID]
			if !ok {
				return nil, nil, fmt.Errorf("special token %s: has no IDs", quote(p.SpecialToken.ID))
			}
			if seen {
				suffix = append(suffix, tok.IDs...)
			} else {
				prefix = append(prefix, tok.IDs...)
			}
		case p.Sequence != nil && p.Sequence.ID == "A" && !seen:
			seen = true
		default:
			return nil, nil, errors.New("single is not one sequence A between special tokens")
		}
	}
	if !seen {
		return nil, nil, errors.New("single has no sequence A")
	}
	return prefix, suffix, nil
}

// known checks that the vocabulary has ids.
func (t *Tokenizer) known(ids []int64) ([]int32, error) {
	var out []int32
	for _, id := range ids {
		if id < 0 || id > maxID {
			return nil, fmt.Errorf("ID %d is out of range", id)
		}
		if _, ok := t.vocab.piece(int32(id)); !ok {
			return nil, fmt.Errorf("ID %d is not in the vocabulary", id)
		}
		out = append(out, int32(id))
	}
	return out, nil
}
