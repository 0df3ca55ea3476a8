package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"expo/eval"
	"expo/lm/generate"
)

// A searchTask is what --no-worse names.
type searchTask struct {
	name   string // METRIC:file name
	metric string
	items  []taskItem
}

type taskItem struct {
	prompt  searchPrompt
	choices []string // continuations; one for loglikelihood
	right   int      // of choices
	answer  string   // for metrics of generated answers
}

var taskMetrics = []string{"acc", "acc_norm", "loglikelihood", "exact_match", "contains", "last_number"}

// generated tells whether a metric is about answers.
func (t *searchTask) generated() bool { return slices.Index(taskMetrics, t.metric) >= 3 }

func readTask(arg string, limit int, raw bool) (searchTask, error) {
	metric, path, ok := strings.Cut(arg, ":")
	if !ok || !slices.Contains(taskMetrics, metric) || path == "" {
		return searchTask{}, usagef("--no-worse %q: want METRIC:FILE, METRIC one of %s", arg, strings.Join(taskMetrics, ", "))
	}
	t := searchTask{name: metric + ":" + filepath.Base(path), metric: metric}
	err := readRecords(path, limit, func(row map[string]json.RawMessage) error {
		var it taskItem
		var err error
		if it.prompt, err = parsePrompt(row, raw); err != nil {
			return err
		}
		text := func(name string, to any) {
			if b, ok := row[name]; !ok {
				err = errors.Join(err, fmt.Errorf("has no %s", name))
			} else if e := json.Unmarshal(b, to); e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", name, e))
			}
		}
		switch metric {
		case "acc", "acc_norm":
			text("choices", &it.choices)
			if err == nil {
				it.right, err = rightChoice(row["answer"], it.choices)
			}
		case "loglikelihood":
			it.choices = make([]string, 1)
			text("continuation", &it.choices[0])
		default:
			var v any
			text("answer", &v)
			it.answer = fmt.Sprint(v)
		}
		for _, c := range it.choices {
			if c == "" && err == nil {
				err = errors.New("a choice is empty")
			}
		}
		t.items = append(t.items, it)
		return err
	})
	return t, err
}

// rightChoice reads which choice is right: its number from 0, its letter, or
// its text.
func rightChoice(b json.RawMessage, choices []string) (int, error) {
	var n int
	if json.Unmarshal(b, &n) == nil && b != nil {
		if n < 0 || n >= len(choices) {
			return 0, fmt.Errorf("answer is %d, with %d choices (the first is 0)", n, len(choices))
		}
		return n, nil
	}
	var s string
	if b == nil || json.Unmarshal(b, &s) != nil {
		return 0, errors.New("answer: want the number of a choice, its letter, or its text")
	}
	if i := slices.Index(choices, s); i >= 0 {
		return i, nil
	}
	if len(s) == 1 {
		if i := int(strings.ToUpper(s)[0]) - 'A'; i >= 0 && i < len(choices) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("answer %q is none of the choices", s)
}

// taskScores are the scores of a task at an α in samples.jsonl.
type taskScores struct {
	Type    string     `json:"type"` // "task"
	Alpha   float64    `json:"alpha"`
	Task    string     `json:"task"`
	Scores  []float64  `json:"scores"`
	Answers [][]string `json:"answers,omitempty"`
}

// task scores the items of a task at an α.
func (s *searchRun) task(ctx context.Context, alpha float64, t *searchTask) ([]float64, error) {
	var content []any
	for _, it := range t.items {
		content = append(content, it.prompt.content(), it.choices, it.right, it.answer)
	}
	key := eval.Key("task", s.line.identity(alpha), t.metric, s.raw, s.flags.system, s.request.MaxTokens, s.request.Stop, content)
	var old taskScores
	if found, err := s.log.Get(key, &old); err != nil || found {
		return old.Scores, err
	}
	who, err := s.line.at(ctx, alpha)
	if err != nil {
		return nil, err
	}
	r := taskScores{Type: "task", Alpha: alpha, Task: t.name, Scores: make([]float64, len(t.items))}
	if t.generated() {
		err = s.answerTask(ctx, who, t, &r)
	} else {
		err = s.chooseTask(ctx, who, t, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.name, err)
	}
	return r.Scores, s.log.Append(key, r)
}

// chooseTask scores by log-likelihood, as lm-evaluation-harness does: acc takes
// the likeliest choice, acc_norm the one that is likeliest per byte.
func (s *searchRun) chooseTask(ctx context.Context, who generate.Generator, t *searchTask, r *taskScores) error {
	var cs []generate.Continuation
	for i := range t.items {
		for _, choice := range t.items[i].choices {
			c, err := s.continuation(ctx, &t.items[i].prompt, choice, false)
			if err != nil {
				return fmt.Errorf("item %d: %w", i+1, err)
			}
			cs = append(cs, c)
		}
	}
	ls, err := scoreWith(ctx, who, cs)
	if err != nil {
		return err
	}
	for i, it := range t.items {
		mine := ls[:len(it.choices)]
		ls = ls[len(it.choices):]
		if t.metric == "loglikelihood" {
			r.Scores[i] = mine[0].Logprob / float64(len(mine[0].TokenIDs))
			continue
		}
		best, high := 0, math.Inf(-1)
		for k, l := range mine {
			v := l.Logprob
			if t.metric == "acc_norm" {
				v /= float64(len(it.choices[k]))
			}
			if v > high {
				best, high = k, v
			}
		}
		if best == it.right {
			r.Scores[i] = 1
		}
	}
	return nil
}

// answerTask scores greedy answers.
func (s *searchRun) answerTask(ctx context.Context, who generate.Generator, t *searchTask, r *taskScores) error {
	r.Answers = make([][]string, len(t.items))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(s.line.width())
	for i := range t.items {
		group.Go(func() error {
			it := &t.items[i]
			req := s.ask(&it.prompt)
			req.Sampling = generate.Sampling{}
			resp, err := who.Generate(gctx, req)
			if err != nil {
				return fmt.Errorf("item %d: %w", i+1, err)
			}
			r.Answers[i] = []string{resp.Text}
			if matches(t.metric, resp.Text, it.answer) {
				r.Scores[i] = 1
			}
			return nil
		})
	}
	return group.Wait()
}

var searchNumber = regexp.MustCompile(`-?[0-9][0-9,]*(\.[0-9]+)?`)

// matches compares an answer with the right one.
func matches(metric, got, want string) bool {
	if !utf8.ValidString(got) {
		got = strings.ToValidUTF8(got, "�")
	}
	switch metric {
	case "contains":
		return strings.Contains(got, want)
	case "last_number":
		last := func(s string) string {
			all := searchNumber.FindAllString(s, -1)
			if len(all) == 0 {
				return ""
			}
			n := strings.ReplaceAll(all[len(all)-1], ",", "")
			if strings.Contains(n, ".") {
				n = strings.TrimRight(strings.TrimRight(n, "0"), ".")
			}
			return n
		}
		return last(got) != "" && last(got) == last(want)
	}
	return strings.TrimSpace(got) == strings.TrimSpace(want)
}
