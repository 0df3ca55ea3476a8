package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Sample is the outcome of one question, a line of samples.jsonl.
type Sample struct {
	ID       string `json:"id"` // of the question, within the suite
	Model    string `json:"model"`
	Category string `json:"category,omitempty"`
	Turn     int    `json:"turn,omitempty"` // from 1, where a question has several

	// Score is nil if there is none, and Error says why then.
	Score *float64 `json:"score"`
	Error string   `json:"error,omitempty"`

	// Details are the suite's own: answers, the judge's reply, lengths.
	Details map[string]any `json:"details,omitempty"`
}

// WriteSamples writes samples as JSON lines.
func WriteSamples(w io.Writer, samples []Sample) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for _, s := range samples {
		if err := enc.Encode(s); err != nil {
			return fmt.Errorf("eval: sample %s: %w", s.ID, err)
		}
	}
	return out.Flush()
}

// ReadSamples reads JSON lines; blank ones count for nothing.
func ReadSamples(r io.Reader) ([]Sample, error) {
	in := bufio.NewReader(r)
	var samples []Sample
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var s Sample
			if err := json.Unmarshal(line, &s); err != nil {
				return samples, fmt.Errorf("eval: samples: line %d: %w", n, err)
			}
			samples = append(samples, s)
		}
		if errors.Is(err, io.EOF) {
			return samples, nil
		}
		if err != nil {
			return samples, fmt.Errorf("eval: samples: %w", err)
		}
	}
}
