package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strings"

	"expo/lm/chat"
)

// A searchPrompt is a row of --prompts, or the prompt of a pair or of an item
// of a task.
type searchPrompt struct {
	text     string         // if there are no messages
	messages []chat.Message // without a system message of --system
	group    int            // the first row that asks the same
	repeat   int            // how many rows before ask the same
}

// content is what tells prompts apart.
func (p *searchPrompt) content() any {
	if p.messages != nil {
		return p.messages
	}
	return p.text
}

// asMessages is the prompt as a conversation.
func (p *searchPrompt) asMessages(system string) []chat.Message {
	var m []chat.Message
	if system != "" {
		m = append(m, chat.Message{Role: "system", Content: system})
	}
	if p.messages != nil {
		return append(m, p.messages...)
	}
	return append(m, chat.Message{Role: "user", Content: p.text})
}

// seedOf is the seed of a prompt's answer: a stream of random numbers for each
// prompt and answer, the same for every α. Servers take 31 bits everywhere.
func (p *searchPrompt) seedOf(seed uint64, sample int) uint64 {
	b, _ := json.Marshal(p.content()) // texts and messages can be marshalled
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %d %d ", seed, p.repeat, sample)
	h.Write(b)
	x := h.Sum64()
	x ^= x >> 31 // FNV leaves its low bits poorly mixed
	x *= 0x9e3779b97f4a7c15
	return x >> 33
}

// parsePrompt reads "prompt" or "messages" of a row. With raw there is no
// template for messages.
func parsePrompt(row map[string]json.RawMessage, raw bool) (searchPrompt, error) {
	var p searchPrompt
	if m, ok := row["messages"]; ok {
		if err := json.Unmarshal(m, &p.messages); err != nil {
			return p, fmt.Errorf("messages: %w", err)
		}
		if n := len(p.messages); n > 0 && p.messages[n-1].Role == "assistant" {
			p.messages = p.messages[:n-1]
		}
		if len(p.messages) == 0 {
			return p, errors.New("messages: nothing to be answered")
		}
		if raw {
			return p, errors.New("has messages, for which --raw has no template; give prompts")
		}
		return p, nil
	}
	b, ok := row["prompt"]
	if !ok {
		return p, errors.New("has neither prompt nor messages")
	}
	if err := json.Unmarshal(b, &p.text); err != nil {
		return p, errors.New("prompt: not a text")
	}
	if p.text == "" {
		return p, errors.New("prompt: empty")
	}
	return p, nil
}

// readRecords reads JSON lines, or one JSON list, of objects.
func readRecords(path string, limit int, f func(row map[string]json.RawMessage) error) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	n := 0
	one := func(where string, data []byte) error {
		if limit > 0 && n == limit {
			return nil
		}
		n++
		var row map[string]json.RawMessage
		err := json.Unmarshal(data, &row)
		if err == nil {
			err = f(row)
		}
		if err != nil {
			return fmt.Errorf("%s: %s: %w", path, where, err)
		}
		return nil
	}
	if t := bytes.TrimLeft(b, " \t\r\n"); len(t) > 0 && t[0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(t, &list); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for i, row := range list {
			if err := one(fmt.Sprintf("row %d", i+1), row); err != nil {
				return err
			}
		}
	} else if err := eachRow(bytes.NewReader(b), func(i int, line []byte) error { return one(fmt.Sprintf("line %d", i), line) }); err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%s: has no rows", path)
	}
	return nil
}

// readInputs reads prompts, pairs and tasks.
func (s *searchRun) readInputs() error {
	f := s.flags
	if f.prompts != "" {
		first, seen := map[string]int{}, map[string]int{}
		err := readRecords(f.prompts, f.limit, func(row map[string]json.RawMessage) error {
			p, err := parsePrompt(row, f.raw)
			if err != nil {
				return err
			}
			b, err := json.Marshal(p.content())
			if err != nil {
				return err
			}
			key := string(b)
			if _, ok := first[key]; !ok {
				first[key] = len(s.prompts)
			}
			p.group, p.repeat = first[key], seen[key]
			seen[key]++
			s.prompts = append(s.prompts, p)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if f.pairs != "" {
		err := readRecords(f.pairs, f.limit, func(row map[string]json.RawMessage) error {
			p, err := parsePair(row, f.raw)
			s.pairs = append(s.pairs, p)
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, t := range f.tasks {
		task, err := readTask(t, f.limit, f.raw)
		if err != nil {
			return err
		}
		for _, other := range s.tasks {
			if other.name == task.name {
				return usagef("--no-worse %s is given twice", t)
			}
		}
		s.tasks = append(s.tasks, task)
	}
	return nil
}

// A searchPair is a row of --pairs.
type searchPair struct {
	prompt           searchPrompt
	chosen, rejected string
}

// parsePair reads {"prompt", "chosen", "rejected"}. The answers are texts, or
// conversations that end with the answer, as on the Hub.
func parsePair(row map[string]json.RawMessage, raw bool) (searchPair, error) {
	var p searchPair
	var whole []chat.Message
	for name, to := range map[string]*string{"chosen": &p.chosen, "rejected": &p.rejected} {
		b, ok := row[name]
		if !ok {
			return p, fmt.Errorf("has no %s", name)
		}
		if json.Unmarshal(b, to) == nil {
			continue
		}
		if err := json.Unmarshal(b, &whole); err != nil || len(whole) < 1 || whole[len(whole)-1].Role != "assistant" {
			return p, fmt.Errorf("%s: want a text, or messages that end with an assistant's", name)
		}
		*to = whole[len(whole)-1].Content
	}
	if p.chosen == "" || p.rejected == "" {
		return p, errors.New("an answer is empty")
	}
	_, hasPrompt := row["prompt"]
	_, hasMessages := row["messages"]
	if !hasPrompt && !hasMessages && len(whole) > 1 && !raw {
		p.prompt.messages = whole[:len(whole)-1]
		return p, nil
	}
	var err error
	if hasPrompt { // "messages" of such rows is the chosen conversation
		row = map[string]json.RawMessage{"prompt": row["prompt"]}
		if m := bytes.TrimSpace(row["prompt"]); strings.HasPrefix(string(m), "[") {
			row = map[string]json.RawMessage{"messages": m}
		}
	}
	p.prompt, err = parsePrompt(row, raw)
	return p, err
}
