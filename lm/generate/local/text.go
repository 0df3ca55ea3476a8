package local

import (
	"strings"

	"expo/lm/generate"
	"expo/lm/tokenizer"
)

// An answerText makes the text of an answer as its tokens come: what the text
// of prompt and answer has more than that of the prompt. Decoders of the
// SentencePiece family take a space off the beginning of a text, and so off an
// answer that is decoded by itself.
type answerText struct {
	stream *tokenizer.Stream
	held   string // the end of the prompt, if the decoder has still to give it
}

// newText begins the text of an answer to prompt, or a text of its own if
// prompt is nil.
func newText(tok *tokenizer.Tokenizer, prompt []int) *answerText {
	a := &answerText{stream: tok.NewStream(true)}
	for _, id := range prompt {
		a.stream.Push(id)
	}
	if a.held = a.stream.Flush(); a.held == "" && len(prompt) == 0 {
		return a
	}
	for _, id := range prompt {
		a.stream.Push(id)
	}
	return a
}

func (a *answerText) push(id int) string { return a.cut(a.stream.Push(id)) }
func (a *answerText) flush() string      { return a.cut(a.stream.Flush()) }

// cut takes off what belongs to the prompt. If the prompt ends in a character
// that the answer completes, that is the answer's.
func (a *answerText) cut(text string) string {
	if a.held != "" && text != "" {
		text = strings.TrimPrefix(text, a.held)
		a.held = ""
	}
	return text
}

// textOf begins the text of an answer to a request with the token IDs prompt.
func (e *Engine) textOf(r *generate.Request, prompt []int) *answerText {
	if r.NewText || r.Messages != nil && !r.ContinueFinal {
		prompt = nil
	}
	return newText(e.tok, prompt)
}

// AnswerPieces is the text of a whole answer to a prompt, by its tokens: what
// each adds as it comes, the last one with what was held back. An answer to
// nothing is a text of its own.
func (e *Engine) AnswerPieces(prompt, answer []int) []string {
	a := newText(e.tok, prompt)
	out := make([]string, len(answer))
	for i, id := range answer {
		out[i] = a.push(id)
	}
	if n := len(out); n > 0 {
		out[n-1] += a.flush()
	}
	return out
}
