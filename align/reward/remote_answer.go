package reward

import (
	"encoding/json"
	"errors"
	"fmt"
)

// readScore finds the score in the answer of any of the endpoints. The answer
// is an object with a list "data" of one object, or such a list or object
// itself, and the score is, in the order in which it is looked for:
//
//	"score"      a number (/score)
//	"probs"      the outputs (/classify)
//	"data"       the outputs, or those for every token of which the last count (/pooling)
//	"embedding"  the same, as SGLang's /classify names it
func readScore(answer []byte, label int) (float64, error) {
	var doc struct {
		Data json.RawMessage `json:"data"`
	}
	rest := json.RawMessage(answer)
	if json.Unmarshal(answer, &doc) == nil && len(doc.Data) > 0 {
		var numbers []json.RawMessage
		if json.Unmarshal(doc.Data, &numbers) == nil && len(numbers) > 0 && numbers[0][0] == '{' {
			rest = doc.Data
		}
	}
	var list []json.RawMessage
	if json.Unmarshal(rest, &list) == nil {
		if len(list) != 1 {
			return 0, fmt.Errorf("the answer has %d results, want 1", len(list))
		}
		rest = list[0]
	}
	var row struct {
		Score     *float64        `json:"score"`
		Probs     json.RawMessage `json:"probs"`
		Data      json.RawMessage `json:"data"`
		Embedding json.RawMessage `json:"embedding"`
	}
	if err := json.Unmarshal(rest, &row); err != nil {
		return 0, errors.New("the answer is not a result of such an endpoint: " + excerpt(string(answer)))
	}
	if row.Score != nil {
		return *row.Score, nil
	}
	for _, raw := range []json.RawMessage{row.Probs, row.Data, row.Embedding} {
		if len(raw) > 0 && string(raw) != "null" {
			return output(raw, label)
		}
	}
	return 0, errors.New("the answer holds no score: " + excerpt(string(answer)))
}

// output is output label of a list of outputs, of the last of several such
// lists, or a number alone. Label -1 is the only one.
func output(raw json.RawMessage, label int) (float64, error) {
	var number *float64
	if json.Unmarshal(raw, &number) == nil && number != nil && label <= 0 {
		return *number, nil
	}
	var row []*float64
	if json.Unmarshal(raw, &row) != nil {
		var rows [][]*float64
		if json.Unmarshal(raw, &rows) != nil || len(rows) == 0 {
			return 0, errors.New("the outputs are no list of numbers: " + excerpt(string(raw)))
		}
		row = rows[len(rows)-1]
	}
	switch {
	case len(row) == 0:
		return 0, errors.New("the list of outputs is empty")
	case label < 0 && len(row) > 1:
		return 0, fmt.Errorf("the model has %d outputs: say which one is the reward", len(row))
	case label >= len(row):
		return 0, fmt.Errorf("there is no output %d; the model has %d", label, len(row))
	case row[max(label, 0)] == nil:
		return 0, errors.New("the output is null, so it was no number")
	}
	return *row[max(label, 0)], nil
}
