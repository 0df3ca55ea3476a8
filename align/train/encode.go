package train

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"expo/lm/chat"
	"expo/lm/tokenizer"
)

// A sequence is a prompt and a response as tokens; those from index from on, the
// response's, are learned.
type sequence struct {
	tokens []int
	from   int
}

var errNoTemplate = errors.New("messages need a chat template, which the model lacks or the options leave out")

// learned is how many tokens count in a loss.
func (s sequence) learned() int { return len(s.tokens) - s.from }

// encoder turns rows into sequences.
type encoder struct {
	tok  *tokenizer.Tokenizer
	tmpl *chat.Template // nil: text as it stands
	ends []int          // tokens that end a response
	max  int            // tokens of a sequence

	truncated int
}

// newEncoder makes the encoder of a model. Rows of prompt and text go through the
// chat template if there is one and raw is false.
func (m *Model) newEncoder(raw bool, length int) (*encoder, error) {
	e := &encoder{tok: m.tok, tmpl: m.tmpl, max: length}
	if raw {
		e.tmpl = nil
	}
	if eos := m.tok.EOS(); eos >= 0 {
		e.ends = append(e.ends, eos)
	}
	for _, id := range m.cfg.EOSTokenIDs {
		if !slices.Contains(e.ends, id) && id < m.cfg.VocabSize {
			e.ends = append(e.ends, id)
		}
	}
	if len(e.ends) == 0 {
		return nil, fmt.Errorf("train: neither the tokenizer nor config.json names an end token, which responses must end with")
	}
	return e, nil
}

// sequence encodes a response to a prompt, which is text or messages. The
// response ends with an end token: the template's own, or the tokenizer's.
//
// The tokens are those of the whole text; the response begins where they part
// from the tokens of the prompt alone, which is what a model is given when it
// generates. So a token that the tokenizer makes of both belongs to the response.
func (e *encoder) sequence(ctx context.Context, prompt string, messages []chat.Message, response string) (sequence, error) {
	head, whole := prompt, prompt+response
	special := true
	if messages != nil || e.tmpl != nil {
		if e.tmpl == nil {
			return sequence{}, errNoTemplate
		}
		if messages == nil {
			messages = []chat.Message{{Role: "user", Content: prompt}}
		}
		var err error
		if head, err = e.render(ctx, messages, true); err != nil {
			return sequence{}, err
		}
		answered := append(slices.Clone(messages), chat.Message{Role: "assistant", Content: response})
		if whole, err = e.render(ctx, answered, false); err != nil {
			return sequence{}, err
		}
		if !strings.HasPrefix(whole, head) {
			// The template writes a turn it has finished in another way.
			whole = head + response
		}
		special = false
	}
	if bos := e.piece(e.tok.BOS()); bos != "" && strings.HasPrefix(head, bos) {
		special = false
	}
	first, tokens := e.tok.Encode(head, special), e.tok.Encode(whole, special)
	from := 0
	for from < len(first) && from < len(tokens) && first[from] == tokens[from] {
		from++
	}
	from = max(from, 1) // nothing predicts the first token
	end := -1
	for i := len(tokens) - 1; i >= from && end < 0; i-- {
		if slices.Contains(e.ends, tokens[i]) {
			end = i
		}
	}
	if end >= 0 {
		tokens = tokens[:end+1]
	} else {
		tokens = append(tokens, e.ends[0])
	}
	if len(tokens) > e.max {
		tokens = tokens[:e.max]
		e.truncated++
	}
	return sequence{tokens, min(from, len(tokens))}, nil
}

// scored encodes a response to a prompt as reward models read it, in RLHFlow's
// recipe (https://huggingface.co/weqweasdas/RM-Mistral-7B): a conversation is the
// text of the chat template without the BOS string, encoded with the special
// tokens that the tokenizer adds; text without a template is followed by EOS. Of
// what is too long the beginning is dropped.
func (e *encoder) scored(ctx context.Context, prompt string, messages []chat.Message, response string) (sequence, error) {
	var ids []int
	switch {
	case messages != nil && e.tmpl == nil:
		return sequence{}, errNoTemplate
	case e.tmpl == nil:
		ids = e.tok.Encode(prompt+response, true)
		if eos := e.tok.EOS(); eos >= 0 && (len(ids) == 0 || ids[len(ids)-1] != eos) {
			ids = append(ids, eos)
		}
	default:
		if messages == nil {
			messages = []chat.Message{{Role: "user", Content: prompt}}
		}
		text, err := e.render(ctx, append(slices.Clone(messages), chat.Message{Role: "assistant", Content: response}), false)
		if err != nil {
			return sequence{}, err
		}
		if bos := e.piece(e.tok.BOS()); bos != "" {
			text = strings.ReplaceAll(text, bos, "")
		}
		ids = e.tok.Encode(text, true)
	}
	if over := len(ids) - e.max; over > 0 {
		keep := 0
		if ids[0] == e.tok.BOS() {
			keep = 1
		}
		ids = append(ids[:keep:keep], ids[keep+over:]...)
		e.truncated++
	}
	return sequence{tokens: ids}, nil
}

func (e *encoder) render(ctx context.Context, messages []chat.Message, prompt bool) (string, error) {
	return e.tmpl.Render(ctx, messages, chat.Options{
		AddGenerationPrompt: prompt,
		BOS:                 e.piece(e.tok.BOS()), EOS: e.piece(e.tok.EOS()),
		PAD: e.piece(e.tok.PAD()), UNK: e.piece(e.tok.UNK()),
	})
}

func (e *encoder) piece(id int) string {
	s, _ := e.tok.Token(id)
	return s
}
