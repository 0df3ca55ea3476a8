package mtbench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"expo/eval/judge"
)

// Judgment is the rating of one answer, a line of
// model_judgment/JUDGE_single.jsonl.
type Judgment struct {
	QuestionID int          `json:"question_id"`
	Model      string       `json:"model"`
	Judge      []string     `json:"judge"` // the judge's name, and that of the prompt
	UserPrompt string       `json:"user_prompt"`
	Judgment   string       `json:"judgment"` // the judge's reply
	Score      judge.Rating `json:"score"`    // -1: there was none
	Turn       int          `json:"turn"`     // 1 or 2
	Tstamp     float64      `json:"tstamp"`
}

// PairJudgment is a game between two answers, judged in both orders, a line of
// model_judgment/JUDGE_pair.jsonl.
type PairJudgment struct {
	QuestionID   int      `json:"question_id"`
	Model1       string   `json:"model_1"`
	Model2       string   `json:"model_2"`
	G1Winner     string   `json:"g1_winner"` // model_1, model_2, tie or error; model_1 was shown first
	G2Winner     string   `json:"g2_winner"` // model_2 was shown first
	Judge        []string `json:"judge"`
	G1UserPrompt string   `json:"g1_user_prompt"`
	G1Judgment   string   `json:"g1_judgment"`
	G2UserPrompt string   `json:"g2_user_prompt"`
	G2Judgment   string   `json:"g2_judgment"`
	Turn         int      `json:"turn"`
	Tstamp       float64  `json:"tstamp"`
}

// ReadQuestions reads question.jsonl.
func ReadQuestions(r io.Reader) ([]Question, error) {
	seen := map[int]bool{}
	return readLines(r, "questions", unmarshal, func(q *Question) error {
		switch {
		case len(q.Turns) == 0 || len(q.Turns) > 2:
			return fmt.Errorf("question %d has %d turns, want two, or one", q.ID, len(q.Turns))
		case seen[q.ID]:
			return fmt.Errorf("a second question %d", q.ID)
		}
		seen[q.ID] = true
		return nil
	})
}

// ReadAnswers reads model_answer/MODEL.jsonl, or reference answers. Of several
// lines for a question the last one counts.
func ReadAnswers(r io.Reader) ([]Answer, error) {
	at := map[int]int{}
	var out []Answer
	_, err := readLines(r, "answers", unmarshal, func(a *Answer) error {
		if len(a.Choices) == 0 || len(a.Choices[0].Turns) == 0 {
			return fmt.Errorf("question %d: no choice, or one without turns", a.QuestionID)
		}
		if i, ok := at[a.QuestionID]; ok {
			out[i] = *a
			return nil
		}
		at[a.QuestionID] = len(out)
		out = append(out, *a)
		return nil
	})
	return out, err
}

// ReadJudgments reads judgments of either kind; a line with a winner is a
// game.
func ReadJudgments(r io.Reader) ([]Judgment, []PairJudgment, error) {
	var single []Judgment
	var pairs []PairJudgment
	_, err := readLines(r, "judgments", decodeJudgment, func(l *judgmentLine) error {
		switch {
		case l.G1Winner != nil || l.Winner != nil:
			p := PairJudgment{l.QuestionID, l.Model1, l.Model2, "", l.G2Winner, l.Judge, l.G1UserPrompt, l.G1Judgment, l.G2UserPrompt, l.G2Judgment, l.Turn, l.Tstamp}
			if l.G1Winner != nil {
				p.G1Winner = *l.G1Winner
			} else {
				p.G1Winner, p.G2Winner = *l.Winner, *l.Winner
			}
			for _, w := range []string{p.G1Winner, p.G2Winner} {
				if w != "model_1" && w != "model_2" && w != "tie" && w != "error" {
					return fmt.Errorf("question %d: winner %q, want model_1, model_2, tie or error", p.QuestionID, w)
				}
			}
			pairs = append(pairs, p)
		case l.Score != nil:
			if l.Turn != 1 && l.Turn != 2 {
				return fmt.Errorf("question %d: turn %d, want 1 or 2", l.QuestionID, l.Turn)
			}
			if l.Model == "" {
				return fmt.Errorf("question %d: no model", l.QuestionID)
			}
			single = append(single, Judgment{l.QuestionID, l.Model, l.Judge, l.UserPrompt, l.Judgment, *l.Score, l.Turn, l.Tstamp})
		default:
			return errors.New("neither a score nor a winner; is this FastChat's model_judgment/JUDGE_single.jsonl or _pair.jsonl?")
		}
		return nil
	})
	return single, pairs, err
}

// readLines decodes JSON lines. Blank ones count for nothing.
func readLines[T any](r io.Reader, what string, decode func([]byte, *T) error, check func(*T) error) ([]T, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	var out []T
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var v T
			err := decode(line, &v)
			if err == nil {
				err = check(&v)
			}
			if err != nil {
				return nil, fmt.Errorf("mtbench: %s: line %d: %w", what, n, err)
			}
			out = append(out, v)
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("mtbench: %s: %w", what, err)
		}
	}
}

func unmarshal[T any](line []byte, v *T) error { return json.Unmarshal(line, v) }

// Write writes questions, answers or judgments as JSON lines.
func Write[T Question | Answer | Judgment | PairJudgment](w io.Writer, rows []T) error {
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("mtbench: %w", err)
		}
	}
	return out.Flush()
}

// value is a rating as a number, and whether it is one.
func value(r judge.Rating) (float64, bool) {
	x, err := strconv.ParseFloat(string(r), 64)
	return x, err == nil && x != -1
}
