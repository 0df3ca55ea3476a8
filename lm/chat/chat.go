// Package chat turns a conversation into the text that a model was trained to
// continue, by the model's own chat template.
//
// Start with [Load], which finds the template in a model's folder; [Parse]
// takes its text from elsewhere, such as a GGUF file's metadata, and [Named]
// gives the template of a family of models whose files have none.
// [Template.Render] then makes the text.
//
// The text is what transformers makes of the same template, messages and
// special tokens (https://huggingface.co/docs/transformers/chat_templating,
// apply_chat_template with tokenize=False): Jinja with trim_blocks,
// lstrip_blocks, loop controls and the generation tag, in an immutable
// sandbox, with Python's strings, numbers, slices and json.dumps. It includes
// the special tokens, that at the beginning too if the template writes it. So
// whoever tokenizes the text adds none, and a model whose template writes no
// token at the beginning is given none.
//
// The engine is github.com/ardanlabs/jinja, to which templates are translated:
// it is lenient where Python raises an error, and lets a template run and
// allocate without end. Templates come from strangers. One of them can read no
// file and change nothing that it is given; its steps, its memory, its output
// and the depth to which it nests and calls are bounded, and Render ends soon
// after its context does.
//
// Not there: recursive loops, autoescape blocks, the filters filesizeformat,
// pprint, random, striptags, urlize, wordwrap and xmlattr, integers of more
// than 64 bits, and varargs and kwargs in macros. The views of a mapping that
// items, keys and values give are lists, and all operands of a < b < c are
// evaluated, whatever the first two give.
package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

var (
	// ErrNoTemplate says that a model's files have no chat template.
	ErrNoTemplate = errors.New("no chat template")

	// ErrLimit says that a template wanted to do more than any is allowed.
	ErrLimit = errors.New("limit exceeded")
)

// A TemplateError says what is wrong with a template, or what the template
// finds wrong with the conversation.
type TemplateError struct {
	Line    int    // in the template's text, 0 if unknown
	Message string // without the line
	Raised  bool   // by the template: Message is what it gave raise_exception
	Err     error  // what is behind it, such as ErrLimit or a context's error, or nil
}

func (e *TemplateError) Error() string {
	switch {
	case e.Raised:
		return "chat: " + e.Message
	case e.Line > 0:
		return fmt.Sprintf("chat: template line %d: %s", e.Line, e.Message)
	}
	return "chat: template: " + e.Message
}

func (e *TemplateError) Unwrap() error { return e.Err }

// A Template is a chat template. It is safe for concurrent use.
type Template struct {
	prog  *program
	named map[string]variant // other templates of the same model
}

// A variant is another template of a model, or what is wrong with it: the
// default must not fail for the others.
type variant struct {
	*Template
	err error
}

// maxSource bounds the text of a template.
const maxSource = 256 << 10

// Parse reads a template. Errors are of type *TemplateError.
func Parse(source string) (*Template, error) {
	switch {
	case len(source) > maxSource:
		return nil, &TemplateError{Message: fmt.Sprintf("%d bytes, want at most %d", len(source), maxSource), Err: ErrLimit}
	case !utf8.ValidString(source):
		return nil, &TemplateError{Message: "not valid UTF-8"}
	}
	p, err := compile(source)
	if err != nil {
		return nil, err
	}
	return &Template{prog: p}, nil
}

// ParseAll reads the templates of a model that has several, by their names:
// default, of which the result is the template, tool_use, which Render takes
// instead if there are tools, and others, which [Template.Variant] gives. A
// GGUF file has them as tokenizer.chat_template, which is the default, and
// tokenizer.chat_template.NAME.
func ParseAll(sources map[string]string) (*Template, error) {
	source, ok := sources["default"]
	if !ok {
		if len(sources) == 0 {
			return nil, fmt.Errorf("chat: %w", ErrNoTemplate)
		}
		return nil, fmt.Errorf("chat: no template is the default among %s: %w",
			strings.Join(slices.Sorted(maps.Keys(sources)), ", "), ErrNoTemplate)
	}
	t, err := Parse(source)
	if err != nil {
		return nil, err
	}
	t.named = map[string]variant{}
	for name, source := range sources {
		if name != "default" {
			v, err := Parse(source)
			t.named[name] = variant{v, err}
		}
	}
	return t, nil
}

// Variants lists the names of the model's other templates, in order.
func (t *Template) Variants() []string { return slices.Sorted(maps.Keys(t.named)) }

// Variant is the model's template of that name, which is one of Variants.
func (t *Template) Variant(name string) (*Template, error) {
	v, ok := t.named[name]
	if !ok {
		return nil, fmt.Errorf("chat: the model has no template %s: %w", name, ErrNoTemplate)
	}
	return v.Template, v.err
}

// Source is the text of the template.
func (t *Template) Source() string { return t.prog.text }

// Options are what a template is told besides the messages.
type Options struct {
	// AddGenerationPrompt asks for the head of an assistant's turn at the
	// end, which the model is to continue.
	AddGenerationPrompt bool

	// ContinueFinalMessage ends the text with the content of the last message,
	// which the model is to continue. It excludes AddGenerationPrompt.
	ContinueFinalMessage bool

	// The tokenizer's special tokens, as text. One that is empty is not
	// defined for the template.
	BOS, EOS, PAD, UNK string

	// Tools are the functions that the model may call, a JSON schema each.
	// Without any, the template sees none.
	Tools []json.RawMessage

	// Extra are further variables. They take the place of others of their
	// name. Values are what JSON has, json.RawMessage to keep an order, or
	// what encoding/json can encode.
	Extra map[string]any

	// Now is what strftime_now reads, time.Now if nil.
	Now func() time.Time
}

// Render makes the text of a conversation. Errors of the template, and of what
// it does with the conversation, are of type *TemplateError; errors.Is finds
// ErrLimit and the errors of ctx in them.
func (t *Template) Render(ctx context.Context, messages []Message, opt Options) (string, error) {
	if len(opt.Tools) > 0 {
		if v, ok := t.named["tool_use"]; ok {
			if v.err != nil {
				return "", v.err
			}
			t = v.Template
		}
	}
	vars, err := t.variables(messages, opt)
	if err != nil {
		return "", fmt.Errorf("chat: %w", err)
	}
	final := ""
	if opt.ContinueFinalMessage {
		if final, err = t.mark(vars, opt); err != nil {
			return "", fmt.Errorf("chat: continue the final message: %w", err)
		}
	}
	text, err := t.render(ctx, vars, opt.Now)
	if err != nil || !opt.ContinueFinalMessage {
		return text, err
	}
	if text, err = cutAtMark(text, final); err != nil {
		return "", fmt.Errorf("chat: continue the final message: %w", err)
	}
	return text, nil
}

// render runs the template with the variables given.
func (t *Template) render(ctx context.Context, vars value, now func() time.Time) (string, error) {
	values, size := measure(vars)
	return newRun(ctx, t.prog, now, values, size).render(vars.AsDict())
}

// variables are what the template can read.
func (t *Template) variables(messages []Message, opt Options) (value, error) {
	if len(messages) == 0 {
		return jinja.Undefined(), errors.New("the conversation has no messages")
	}
	vars := jinja.NewDict()
	set := vars.AsDict().Set
	list := make([]value, len(messages))
	for i := range messages {
		m, err := messages[i].value(t.prog.parts)
		if err != nil {
			return jinja.Undefined(), fmt.Errorf("message %d: %w", i, err)
		}
		list[i] = m
	}
	set("messages", jinja.NewList(list))
	set("tools", jinja.None())
	set("documents", jinja.None())
	set("add_generation_prompt", jinja.NewBool(opt.AddGenerationPrompt))
	for name, token := range map[string]string{
		"bos_token": opt.BOS, "eos_token": opt.EOS, "pad_token": opt.PAD, "unk_token": opt.UNK,
	} {
		if token != "" {
			set(name, jinja.NewString(token))
		}
	}
	if len(opt.Tools) > 0 {
		tools := make([]value, len(opt.Tools))
		for i, raw := range opt.Tools {
			v, err := decode(raw)
			if err == nil && !v.IsDict() {
				err = errors.New("no JSON object")
			}
			if err != nil {
				return jinja.Undefined(), fmt.Errorf("tool %d: %w", i, err)
			}
			tools[i] = v
		}
		set("tools", jinja.NewList(tools))
	}
	for _, name := range slices.Sorted(maps.Keys(opt.Extra)) {
		v, err := fromGo(opt.Extra[name], 0)
		if err != nil {
			return jinja.Undefined(), fmt.Errorf("variable %s: %w", name, err)
		}
		set(name, v)
	}
	return vars, nil
}

// continueMark is put behind the last message, to find its end in the text.
// The space tells whether the template trims what it writes.
const continueMark = "CONTINUE_FINAL_MESSAGE_TAG "

// mark appends continueMark to the content of the last message and returns
// the content without it.
func (t *Template) mark(vars value, opt Options) (string, error) {
	if opt.AddGenerationPrompt {
		return "", errors.New("this excludes a generation prompt")
	}
	if !strings.Contains(t.prog.text, "content") {
		return "", errors.New("the template reads no content")
	}
	var content value
	var last *jinja.Dict
	if list := vars.AsDict().Data["messages"]; list.IsList() && list.AsList().Len() > 0 {
		if m := list.AsList().Get(list.AsList().Len() - 1); m.IsDict() {
			last = m.AsDict()
			content = last.Data["content"]
		}
	}
	switch {
	case content.IsString():
		last.Set("content", jinja.NewString(content.AsString()+continueMark))
		return content.AsString(), nil
	case content.IsList():
		for _, part := range slices.Backward(content.AsList().Items) {
			if !part.IsDict() {
				continue
			}
			if text := part.AsDict().Data["text"]; text.IsString() {
				part.AsDict().Set("text", jinja.NewString(text.AsString()+continueMark))
				return text.AsString(), nil
			}
		}
	}
	return "", errors.New("the message has no content")
}

// cutAtMark is text up to the last continueMark. If the template trimmed the
// space of the mark, it would have trimmed the end of the content too.
func cutAtMark(text, final string) (string, error) {
	bare := strings.TrimSpace(continueMark)
	at := strings.LastIndex(text, bare)
	if at < 0 || !strings.Contains(text, strings.TrimFunc(final, isSpace)) {
		return "", errors.New("the template does not write the message as it is")
	}
	if strings.HasPrefix(text[at:], continueMark) {
		return text[:at], nil
	}
	return strings.TrimRightFunc(text[:at], isSpace), nil
}
