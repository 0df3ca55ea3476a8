package local

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"expo/lm/chat"
	"expo/lm/generate"
)

// ErrTooLong is in the chain of the error for a prompt that leaves no room in
// the context.
var ErrTooLong = errors.New("prompt too long")

// ErrNoTemplate says that a request has messages but the model no template.
var ErrNoTemplate = errors.New("the model has no chat template")

// Prompt is what a request gives the model to read: the token IDs, and the text
// they stand for (empty where the request has IDs).
func (e *Engine) Prompt(ctx context.Context, r generate.Request) (ids []int, text string, err error) {
	if err := r.Check(); err != nil {
		return nil, "", err
	}
	switch {
	case r.Tokens != nil:
		return r.Tokens, "", nil
	case r.Messages == nil:
		return e.encode(r.Prompt, !r.NoSpecial), r.Prompt, nil
	case e.tmpl == nil:
		return nil, "", fmt.Errorf("local: %w", ErrNoTemplate)
	}
	text, err = e.tmpl.Render(ctx, r.Messages, chat.Options{
		AddGenerationPrompt:  !r.ContinueFinal,
		ContinueFinalMessage: r.ContinueFinal,
		BOS:                  e.piece(e.tok.BOS()),
		EOS:                  e.piece(e.tok.EOS()),
		PAD:                  e.piece(e.tok.PAD()),
		UNK:                  e.piece(e.tok.UNK()),
		Tools:                r.Tools,
		Extra:                r.TemplateVars,
	})
	if err != nil {
		return nil, "", err
	}
	// The template has written every special token there is to be.
	return e.tok.Encode(text, false), text, nil
}

func (e *Engine) piece(id int) string {
	s, _ := e.tok.Token(id)
	return s
}

// encode adds special tokens unless the text begins with BOS already.
func (e *Engine) encode(text string, special bool) []int {
	if e.bos != "" && strings.HasPrefix(text, e.bos) {
		special = false
	}
	return e.tok.Encode(text, special)
}

// fit sees that a prompt leaves room for an answer in the context.
func (e *Engine) fit(ids []int, r generate.Request) (fitted []int, dropped int, err error) {
	length := e.opt.ContextLength
	if len(ids) == 0 {
		return nil, 0, fmt.Errorf("local: the prompt is empty (%w)", generate.ErrRequest)
	}
	if len(ids) < length {
		return ids, 0, nil
	}
	if !r.Truncate {
		return nil, 0, fmt.Errorf("local: the prompt has %d tokens, the context %d (%w)", len(ids), length, ErrTooLong)
	}
	room := r.MaxTokens
	if room == 0 {
		room = length / 4
	}
	keep := max(1, length-max(1, min(room, length-1)))
	fitted = append(fitted, ids[len(ids)-keep:]...)
	if ids[0] == e.tok.BOS() && ids[0] >= 0 {
		fitted[0] = ids[0]
	}
	return fitted, len(ids) - keep, nil
}
