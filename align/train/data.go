package train

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"expo/lm/chat"
)

// An Example is something to imitate: a response to a prompt. In its place may be
// a conversation whose last message is the response.
type Example struct {
	Prompt   string         `json:"prompt,omitempty"`
	Response string         `json:"response,omitempty"`
	Messages []chat.Message `json:"messages,omitempty"`
}

// A Pair is two responses to one prompt, of which the first is preferred. The
// prompt may be a conversation instead.
type Pair struct {
	Prompt   string         `json:"prompt,omitempty"`
	Messages []chat.Message `json:"messages,omitempty"`
	Chosen   string         `json:"chosen"`
	Rejected string         `json:"rejected"`
}

// ReadExamples reads JSON lines {"prompt", "response"} or {"messages"}. TRL's
// "completion" is taken for "response", and a prompt may be a list of messages.
// Other fields are ignored. All faulty lines are named, up to ten.
func ReadExamples(r io.Reader) ([]Example, error) {
	return readLines(r, func(b []byte) (Example, error) {
		var row struct {
			Prompt, Response, Completion, Messages json.RawMessage
		}
		var e Example
		if err := json.Unmarshal(b, &row); err != nil {
			return e, err
		}
		if row.Messages != nil {
			if err := json.Unmarshal(row.Messages, &e.Messages); err != nil {
				return e, err
			}
			if n := len(e.Messages); n == 0 || e.Messages[n-1].Role != "assistant" {
				return e, errors.New("messages must end with the assistant's")
			}
			return e, nil
		}
		if row.Response == nil {
			row.Response = row.Completion
		}
		if row.Prompt == nil || row.Response == nil {
			return e, errors.New(`want "prompt" and "response", or "messages"`)
		}
		var err error
		if e.Prompt, e.Messages, err = textOrMessages("prompt", row.Prompt); err != nil {
			return e, err
		}
		text, err := lastText("response", row.Response)
		if err != nil {
			return e, err
		}
		if e.Messages != nil {
			e.Messages = append(e.Messages, chat.Message{Role: "assistant", Content: text})
			return e, nil
		}
		e.Response = text
		return e, nil
	})
}

// ReadPairs reads JSON lines {"prompt", "chosen", "rejected"}. Where chosen and
// rejected are lists of messages, the responses are the last ones; where there is
// no prompt, it is what comes before.
func ReadPairs(r io.Reader) ([]Pair, error) {
	return readLines(r, func(b []byte) (Pair, error) {
		var row struct {
			Prompt, Messages, Chosen, Rejected json.RawMessage
		}
		var p Pair
		if err := json.Unmarshal(b, &row); err != nil {
			return p, err
		}
		if row.Chosen == nil || row.Rejected == nil {
			return p, errors.New(`want "prompt", "chosen" and "rejected"`)
		}
		var err error
		switch {
		case row.Prompt != nil:
			p.Prompt, p.Messages, err = textOrMessages("prompt", row.Prompt)
		case row.Messages != nil:
			err = json.Unmarshal(row.Messages, &p.Messages)
		default:
			err = json.Unmarshal(row.Chosen, &p.Messages)
			if n := len(p.Messages); err == nil && n > 1 {
				p.Messages = p.Messages[:n-1]
			} else {
				err = errors.New("has no prompt")
			}
		}
		if err != nil {
			return p, err
		}
		if p.Chosen, err = lastText("chosen", row.Chosen); err != nil {
			return p, err
		}
		p.Rejected, err = lastText("rejected", row.Rejected)
		return p, err
	})
}

// ReadPrompts reads JSON lines {"prompt"} or {"messages"} as pairs without
// responses.
func ReadPrompts(r io.Reader) ([]Pair, error) {
	return readLines(r, func(b []byte) (Pair, error) {
		var row struct{ Prompt, Messages json.RawMessage }
		var p Pair
		if err := json.Unmarshal(b, &row); err != nil {
			return p, err
		}
		var err error
		switch {
		case row.Prompt != nil:
			p.Prompt, p.Messages, err = textOrMessages("prompt", row.Prompt)
		case row.Messages != nil:
			err = json.Unmarshal(row.Messages, &p.Messages)
		default:
			err = errors.New(`want "prompt" or "messages"`)
		}
		return p, err
	})
}

func textOrMessages(key string, b json.RawMessage) (text string, messages []chat.Message, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		if err := json.Unmarshal(b, &messages); err != nil {
			return "", nil, fmt.Errorf("%s: %w", key, err)
		}
		return "", messages, nil
	}
	if err := json.Unmarshal(b, &text); err != nil {
		return "", nil, fmt.Errorf("%s: %w", key, err)
	}
	return text, nil, nil
}

func lastText(key string, b json.RawMessage) (string, error) {
	text, messages, err := textOrMessages(key, b)
	if err != nil || messages == nil {
		return text, err
	}
	if len(messages) == 0 {
		return "", fmt.Errorf("%s is an empty list", key)
	}
	return messages[len(messages)-1].Content, nil
}

// readLines parses the lines of r that are not blank, of any length.
func readLines[T any](r io.Reader, parse func([]byte) (T, error)) ([]T, error) {
	var rows []T
	var faults []string
	in := bufio.NewReaderSize(r, 1<<16)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			row, err := parse(line)
			if err != nil {
				faults = append(faults, fmt.Sprintf("line %d: %v", n, err))
			}
			rows = append(rows, row)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
	}
	const most = 10
	if n := len(faults); n > most {
		faults = append(faults[:most], fmt.Sprintf("and %d more", n-most))
	}
	if faults != nil {
		return nil, fmt.Errorf("train: %s", strings.Join(faults, "; "))
	}
	if len(rows) == 0 {
		return nil, errors.New("train: there are no rows")
	}
	return rows, nil
}
