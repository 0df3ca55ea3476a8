package judge

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode"

	"expo/lm/chat"
)

// PairwiseTemplate is a prompt with places for an instruction and two outputs,
// in ChatML: <|im_start|>ROLE, a newline, the content, <|im_end|>.
type PairwiseTemplate struct {
	text     string
	messages []chat.Message // with placeholders
}

const (
	imStart = "<|im_start|>"
	imEnd   = "<|im_end|>"
)

// placeholders in the order in which they are named here.
var placeholders = [3]string{"{instruction}", "{output_1}", "{output_2}"}

// ParsePairwiseTemplate reads a template as alpaca_eval's are written.
func ParsePairwiseTemplate(text string) (*PairwiseTemplate, error) {
	t := &PairwiseTemplate{text: text}
	var err error
	if t.messages, err = splitChatML(text); err != nil {
		return nil, fmt.Errorf("judge: template: %w", err)
	}
	var lacks []string
	for _, p := range placeholders {
		found := false
		for _, m := range t.messages {
			found = found || strings.Contains(m.Content, p)
		}
		if !found {
			lacks = append(lacks, p)
		}
	}
	if lacks != nil {
		return nil, fmt.Errorf("judge: template: no place for %s", strings.Join(lacks, ", "))
	}
	return t, nil
}

// SHA256 is the digest of the template's text, in hexadecimal.
func (t *PairwiseTemplate) SHA256() string {
	sum := sha256.Sum256([]byte(t.text))
	return hex.EncodeToString(sum[:])
}

// Fill puts an instruction and the outputs, in the order in which they are to
// be shown, into the messages. What they contain stays content: it can neither
// end a message nor take another's place.
func (t *PairwiseTemplate) Fill(instruction, first, second string) []chat.Message {
	r := strings.NewReplacer(placeholders[0], instruction, placeholders[1], first, placeholders[2], second)
	out := make([]chat.Message, len(t.messages))
	for i, m := range t.messages {
		out[i] = chat.Message{Role: m.Role, Content: r.Replace(m.Content)}
	}
	return out
}

// FillLiterally does what alpaca_eval does: it replaces the first occurrence
// of each placeholder, one after the other in the order of the template, and
// splits the result into messages. An output that holds a placeholder or a
// ChatML token changes the prompt, or leaves none, which is an error. For all
// others the result is that of Fill.
func (t *PairwiseTemplate) FillLiterally(instruction, first, second string) ([]chat.Message, error) {
	values := map[string]string{placeholders[0]: instruction, placeholders[1]: first, placeholders[2]: second}
	order := placeholders
	sort.SliceStable(order[:], func(i, j int) bool { return strings.Index(t.text, order[i]) < strings.Index(t.text, order[j]) })
	text := t.text
	for _, p := range order {
		text = strings.Replace(text, p, values[p], 1)
	}
	messages, err := splitChatML(text)
	if err != nil {
		return nil, fmt.Errorf("judge: the outputs break the prompt: %w", err)
	}
	return messages, nil
}

// splitChatML takes a prompt apart as alpaca_eval's prompt_to_chatml does.
func splitChatML(text string) ([]chat.Message, error) {
	text = strip(text)
	if !strings.HasPrefix(text, imStart) || !strings.HasSuffix(text, imEnd) {
		return nil, errors.New("it does not begin with " + imStart + " and end with " + imEnd)
	}
	var messages []chat.Message
	for i, part := range strings.Split(text, imStart)[1:] {
		role, content, ok := strings.Cut(part, "\n")
		if !ok {
			return nil, fmt.Errorf("message %d has no line after its role", i)
		}
		content, _, _ = strings.Cut(content, imEnd)
		messages = append(messages, chat.Message{Role: strip(role), Content: strip(content)})
	}
	return messages, nil
}

// strip is Python's str.strip.
func strip(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f })
}
