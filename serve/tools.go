package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/generate/grammar"
)

// toolCall is a call as OpenAI's API tells it.
type toolCall struct {
	Index    *int   `json:"index,omitempty"` // in a stream
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"` // JSON, as text
	} `json:"function"`
}

// A callStyle is how a model writes calls of functions.
type callStyle int

const (
	noCalls   callStyle = iota // it is not known how
	hermes                     // <tool_call> around a JSON object, as Hermes and Qwen do
	llamaJSON                  // the answer is a JSON object, as with Llama 3.1
)

// styleOf finds it out by the model's chat template.
func styleOf(t *chat.Template) callStyle {
	switch {
	case t == nil:
	case strings.Contains(t.Source(), "<tool_call>"):
		return hermes
	case strings.Contains(t.Source(), `"parameters"`) && strings.Contains(t.Source(), "ipython"):
		return llamaJSON
	}
	return noCalls
}

// form is how a style's calls are written when they must be.
func (s callStyle) form(one bool) grammar.CallForm {
	switch s {
	case hermes:
		return grammar.CallForm{Open: "<tool_call>\n", Close: "\n</tool_call>", Between: "\n", Arguments: "arguments", One: one}
	case llamaJSON:
		return grammar.CallForm{Arguments: "parameters", One: true}
	}
	return grammar.CallForm{Arguments: "arguments", One: true}
}

// tooling is what a request says about tools.
type tooling struct {
	functions []grammar.Function
	style     callStyle
	named     bool // the request says which one is called
	forced    bool // one must be called
	one       bool // and no more than one
}

// tools reads tools, tool_choice and parallel_tool_calls of a request into r. It
// gives nil where the answer is text in any case.
func (b *body) tools(r *generate.Request, t *chat.Template) (*tooling, error) {
	const field = "tool_choice"
	choice, name := "auto", ""
	if !absent(b.ToolChoice) && json.Unmarshal(b.ToolChoice, &choice) != nil {
		var one struct {
			Type     string `json:"type"`
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		}
		if err := strictly(b.ToolChoice, field, &one); err != nil {
			return nil, err
		}
		if choice, name = one.Type, one.Function.Name; choice != "function" || name == "" {
			return nil, badField(field, `tool_choice is "none", "auto", "required" or {"type": "function", "function": {"name": …}}`)
		}
	}
	switch choice {
	case "none", "auto", "required", "function":
	default:
		return nil, badField(field, "tool_choice %q is not supported", choice)
	}
	forced := choice == "required" || choice == "function"
	if len(b.Tools) == 0 {
		if forced {
			return nil, badField(field, "tool_choice needs tools")
		}
		return nil, nil
	}
	out := &tooling{style: styleOf(t), forced: forced, named: choice == "function", one: b.ParallelCalls != nil && !*b.ParallelCalls}
	for i, raw := range b.Tools {
		var tool struct {
			Type     string `json:"type"`
			Function struct {
				Name       string          `json:"name"`
				Parameters json.RawMessage `json:"parameters"`
			} `json:"function"`
		}
		if err := json.Unmarshal(raw, &tool); err != nil || tool.Type != "function" || tool.Function.Name == "" {
			return nil, badField("tools", `tools[%d] is not {"type": "function", "function": {"name": …, "parameters": …}}`, i)
		}
		f := grammar.Function{Name: tool.Function.Name}
		if !absent(tool.Function.Parameters) {
			f.Parameters = tool.Function.Parameters
		}
		out.functions = append(out.functions, f)
	}
	if choice == "none" {
		r.Tools = nil
		return nil, nil
	}
	if r.Grammar != nil {
		return nil, badField("tools", "tools and a form for the answer contradict each other, unless tool_choice is \"none\"")
	}
	if !forced {
		if out.style == noCalls {
			return nil, nil // its answer says by itself what it calls
		}
		return out, nil
	}
	callable := out.functions
	if out.named {
		callable = nil
		for _, f := range out.functions {
			if f.Name == name {
				callable = []grammar.Function{f}
			}
		}
		if callable == nil {
			return nil, badField(field, "tool_choice names %q, which is not among the tools", name)
		}
	}
	var err error
	if r.Grammar, err = grammar.Calls(callable, out.style.form(out.one || out.named)); err != nil {
		if errors.Is(err, grammar.ErrSchema) {
			err = badField("tools", "tools: %v", err)
		}
		return nil, err
	}
	return out, nil
}

// asObjects has the arguments of earlier calls as JSON, which templates expect,
// in place of OpenAI's text.
func asObjects(ms []chat.Message) error {
	for i := range ms {
		if ms[i].ToolCalls == nil {
			continue
		}
		var calls []map[string]json.RawMessage
		if json.Unmarshal(ms[i].ToolCalls, &calls) != nil {
			return badField("messages", "messages[%d].tool_calls is no list of calls", i)
		}
		for _, call := range calls {
			var f map[string]json.RawMessage
			var text string
			if json.Unmarshal(call["function"], &f) != nil || json.Unmarshal(f["arguments"], &text) != nil {
				continue
			}
			if text == "" {
				text = "{}"
			}
			if !json.Valid([]byte(text)) {
				return badField("messages", "messages[%d].tool_calls: arguments are no JSON", i)
			}
			f["arguments"] = json.RawMessage(text)
			call["function"], _ = json.Marshal(f)
		}
		b, err := json.Marshal(calls)
		if err != nil {
			return err
		}
		ms[i].ToolCalls = b
	}
	return nil
}

// A callReader finds the calls in an answer that comes in pieces.
type callReader struct {
	*tooling
	held    string // what is not decided
	inside  bool   // hermes: between the marks
	settled bool   // llamaJSON: it is text
	calls   int
}

const openMark, closeMark = "<tool_call>", "</tool_call>"

// add takes a piece and gives what is certain: text, and calls.
func (c *callReader) add(piece string) (text string, calls []toolCall) {
	if c == nil || c.settled {
		return piece, nil
	}
	c.held += piece
	if c.style != hermes {
		if start := strings.TrimLeft(c.held, " \t\r\n"); start != "" && start[0] != '{' {
			c.settled = true
			text, c.held = c.held, ""
		}
		return text, nil
	}
	for {
		if c.inside {
			inner, rest, found := strings.Cut(c.held, closeMark)
			if !found {
				return text, calls
			}
			c.inside = false
			more, ok := c.read(inner)
			calls = append(calls, more...)
			if c.held = rest; !ok {
				text += openMark + inner + closeMark
			}
			continue
		}
		before, rest, found := strings.Cut(c.held, openMark)
		if found {
			text += c.between(before)
			c.held, c.inside = rest, true
			continue
		}
		// White space before a mark is no text, nor is the beginning of a mark.
		keep := len(c.held)
		for n := min(len(openMark)-1, keep); n > 0; n-- {
			if strings.HasSuffix(c.held, openMark[:n]) {
				keep -= n
				break
			}
		}
		keep = len(strings.TrimRight(c.held[:keep], " \t\r\n"))
		text += c.held[:keep]
		c.held = c.held[keep:]
		return text, calls
	}
}

// between is text before a call, without white space at its end.
func (c *callReader) between(text string) string { return strings.TrimRight(text, " \t\r\n") }

// end gives what was held back.
func (c *callReader) end() (text string, calls []toolCall) {
	if c == nil {
		return "", nil
	}
	held := c.held
	c.held = ""
	switch {
	case c.style == hermes && c.inside:
		// The model may end without the mark.
		calls, ok := c.read(held)
		if !ok {
			return openMark + held, nil
		}
		return "", calls
	case c.style == hermes:
		if c.calls > 0 {
			held = c.between(held)
		}
		return held, nil
	case c.settled || held == "":
		return held, nil
	}
	calls, ok := c.read(held)
	if !ok {
		return held, nil
	}
	return "", calls
}

// read reads calls, one JSON object after another. All are of functions that
// there are, or it reports false.
func (c *callReader) read(text string) (calls []toolCall, ok bool) {
	for text = strings.TrimSpace(text); text != "" || calls == nil; {
		d := json.NewDecoder(strings.NewReader(text))
		var call struct {
			Name       string          `json:"name"`
			Arguments  json.RawMessage `json:"arguments"`
			Parameters json.RawMessage `json:"parameters"`
		}
		if d.Decode(&call) != nil {
			return nil, false
		}
		text = strings.TrimLeft(text[d.InputOffset():], "; \t\r\n")
		known := false
		for _, f := range c.functions {
			known = known || f.Name == call.Name
		}
		arguments := call.Arguments
		if absent(arguments) {
			arguments = call.Parameters
		}
		if absent(arguments) {
			arguments = json.RawMessage("{}")
		}
		var compact bytes.Buffer
		if !known || arguments[0] != '{' || json.Compact(&compact, arguments) != nil {
			return nil, false
		}
		t := toolCall{ID: "call_" + random(12), Type: "function"}
		t.Function.Name, t.Function.Arguments = call.Name, compact.String()
		calls = append(calls, t)
	}
	if c.one {
		calls = calls[:max(0, min(len(calls), 1-c.calls))]
	}
	c.calls += len(calls)
	return calls, true
}

// reason is why an answer ended: for calls, if there were some and the request
// has not said which.
func (c *callReader) reason(r generate.FinishReason) generate.FinishReason {
	if c != nil && c.calls > 0 && !c.named && r == generate.Stop {
		return "tool_calls"
	}
	return r
}
