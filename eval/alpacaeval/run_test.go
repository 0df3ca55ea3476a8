package alpacaeval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"expo/eval"
	"expo/eval/judge"
	"expo/lm/chat"
	"expo/lm/generate"
)

// speaker answers by a function and counts.
type speaker struct {
	mu    sync.Mutex
	calls map[string]int
	say   func(r generate.Request) (generate.Response, error)
}

func (s *speaker) Generate(ctx context.Context, r generate.Request) (generate.Response, error) {
	if err := ctx.Err(); err != nil {
		return generate.Response{}, err
	}
	s.mu.Lock()
	if s.calls == nil {
		s.calls = map[string]int{}
	}
	s.calls[fmt.Sprintf("%v %d", r.Messages, r.Sample)]++
	s.mu.Unlock()
	return s.say(r)
}

func (s *speaker) count() (distinct, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.calls {
		distinct, all = distinct+1, all+n
	}
	return distinct, all
}

func questions(n int) []Output {
	out := make([]Output, n)
	for i := range out {
		out[i] = Output{Instruction: fmt.Sprint("question ", i), Dataset: "d"}
	}
	return out
}

// answered are questions with a baseline's answers, longer and longer ones.
func answered(n int) []Output {
	out := questions(n)
	for i := range out {
		out[i].Output, out[i].Generator = strings.Repeat("b", 10+i), "base"
	}
	return out
}

func openLog(t *testing.T, path string) *eval.Log {
	t.Helper()
	l, err := eval.OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func echo(r generate.Request) (generate.Response, error) {
	return generate.Response{Text: " re: " + r.Messages[0].Content + " ", FinishReason: generate.Stop}, nil
}

func TestAnswering(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "log.jsonl")
	s := &speaker{say: echo}
	a := &Answering{Worker: Worker{Generator: s, Identity: "id", Jobs: 4}, Model: "m", Request: generate.Request{MaxTokens: 9, Sampling: generate.Sampling{Seed: 42}}}
	q := questions(25)
	log := openLog(t, path)
	if n := len(a.Pending(log, q)); n != 25 {
		t.Errorf("%d pending, want 25", n)
	}
	out, failed, err := a.Run(ctx, log, q)
	if err != nil || len(failed) != 0 || len(out) != 25 {
		t.Fatal(len(out), failed, err)
	}
	for i, o := range out {
		if want := (Output{Instruction: q[i].Instruction, Output: " re: " + q[i].Instruction + " ", Generator: "m", Dataset: "d"}); o != want {
			t.Fatalf("%d: %+v, want %+v", i, o, want)
		}
	}
	log.Close()

	// Another process, the same answers: nothing is asked.
	log = openLog(t, path)
	defer log.Close()
	if n := len(a.Pending(log, q)); n != 0 {
		t.Errorf("%d pending, want none", n)
	}
	a.Strip = true
	out, _, err = a.Run(ctx, log, q)
	if distinct, all := s.count(); err != nil || all != 25 || distinct != 25 || out[3].Output != "re: question 3" {
		t.Errorf("%d requests, %v, %q", all, err, out[3].Output)
	}
	// What is answered stays, and the others keep their random numbers.
	some := append([]Output(nil), q...)
	some[0].Output, some[0].Generator = "mine", "me"
	if out, _, err := a.Run(ctx, log, some); err != nil || out[0] != some[0] || out[1].Generator != "m" {
		t.Errorf("%+v, %v", out[:2], err)
	}
	if _, all := s.count(); all != 25 {
		t.Errorf("%d requests, want 25", all)
	}
	// What changes the answer is asked anew.
	for name, change := range map[string]func(){
		"temperature": func() { a.Request.Temperature = 0.7 },
		"model":       func() { a.Identity = "another" },
		"seed":        func() { a.Request.Seed++ },
	} {
		change()
		if n := len(a.Pending(log, q)); n != 25 {
			t.Errorf("another %s: %d pending, want 25", name, n)
		}
	}
}

func TestAnsweringFails(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	broken, dead := errors.New("broken"), errors.New("dead")
	q := questions(60)
	for _, c := range []struct {
		name   string
		fails  func(i int) error
		failed int
		err    error
		least  int // answers in the log
	}{
		{"some", func(i int) error {
			if i%7 == 3 {
				return broken
			}
			return nil
		}, 9, nil, 51},
		{"fatal", func(i int) error {
			if i == 20 {
				return dead
			}
			return nil
		}, 0, dead, 20},
		{"in a row", func(i int) error {
			if i >= 30 {
				return broken
			}
			return nil
		}, inARow, broken, 30},
	} {
		s := &speaker{say: func(r generate.Request) (generate.Response, error) {
			var i int
			fmt.Sscanf(r.Messages[0].Content, "question %d", &i)
			if err := c.fails(i); err != nil {
				return generate.Response{}, err
			}
			return echo(r)
		}}
		log := openLog(t, filepath.Join(dir, c.name))
		a := &Answering{Worker: Worker{Generator: s, Jobs: 3, Fatal: func(err error) bool { return errors.Is(err, dead) }}, Model: "m"}
		out, failed, err := a.Run(ctx, log, q)
		if !errors.Is(err, c.err) || len(failed) < c.failed || log.Len() < c.least || log.Len() != len(out) {
			t.Errorf("%s: %d answers, %d kept, %d failed, %v", c.name, len(out), log.Len(), len(failed), err)
		}
		// Failures are tried again, answers are not.
		before := log.Len()
		s.calls, s.say = nil, echo
		out, failed, err = a.Run(ctx, log, q)
		if _, all := s.count(); err != nil || len(failed) != 0 || len(out) != 60 || all != 60-before {
			t.Errorf("%s: again: %d answers, %d failed, %v, %d requests for %d", c.name, len(out), len(failed), err, all, 60-before)
		}
		log.Close()
	}

	done, cancel := context.WithCancel(ctx)
	log := openLog(t, filepath.Join(dir, "canceled"))
	defer log.Close()
	n := 0
	var mu sync.Mutex
	a := &Answering{Worker: Worker{Generator: &speaker{say: func(r generate.Request) (generate.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n == 10 {
			cancel()
		}
		return echo(r)
	}}, Jobs: 2}, Model: "m"}
	if _, failed, err := a.Run(done, log, q); !errors.Is(err, context.Canceled) || len(failed) != 0 || log.Len() < 10 || log.Len() > 12 {
		t.Errorf("canceled: %d kept, %d failed, %v", log.Len(), len(failed), err)
	}
}

const template = "<|im_start|>user\n{instruction}|{output_1}|{output_2}<|im_end|>"

// judgeOf prefers the longer output, by how much longer it is.
func judgeOf(r generate.Request) (generate.Response, error) {
	part := strings.Split(r.Messages[0].Content, "|")
	z := float64(len(part[1])-len(part[2])) / 5
	top := []generate.TokenLogprob{{Token: "m", Logprob: math.Log(sigmoid(z))}, {Token: "M", Logprob: math.Log(sigmoid(-z))}}
	return generate.Response{Text: "m", Logprobs: []generate.TokenLogprob{{Token: "m", Top: top}}, Usage: generate.Usage{PromptTokens: 100, CompletionTokens: 1}}, nil
}

func newJudging(t *testing.T, s *speaker) *Judging {
	t.Helper()
	tmpl, err := judge.ParsePairwiseTemplate(template)
	if err != nil {
		t.Fatal(err)
	}
	return &Judging{Worker: Worker{Generator: s, Identity: "server", Jobs: 4}, Judge: &judge.Pairwise{ID: "j", Template: tmpl, Reading: judge.FirstToken, Request: generate.Request{MaxTokens: 1, TopLogprobs: 5}},
		Price: func(in, out int) float64 { return float64(in)*0.01 + float64(out) }}
}

func TestJudging(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "log.jsonl")
	base := answered(30)
	model := make([]Output, len(base))
	for i, b := range base {
		model[i] = Output{Instruction: b.Instruction, Output: strings.Repeat("m", 20), Generator: "model"}
	}
	model[4].Output = base[4].Output // a draw without a request
	model[0], model[29] = model[29], model[0]
	pairs, unknown, absent, err := Match(base, append(model[:28:28], Output{Instruction: "another", Generator: "model"}))
	if err != nil || unknown != 1 || absent != 2 || len(pairs) != 28 {
		t.Fatal(len(pairs), unknown, absent, err)
	}
	if pairs, _, _, err = Match(base, model); err != nil || len(pairs) != 30 || pairs[29].Output2 != strings.Repeat("m", 20) {
		t.Fatal(len(pairs), err)
	}
	s := &speaker{say: judgeOf}
	j := newJudging(t, s)
	log := openLog(t, path)
	if p, err := j.Pending(ctx, log, pairs); err != nil || len(p) != 29 {
		t.Errorf("%d pending (%v), want 29", len(p), err)
	}
	rows, failed, undecided, err := j.Run(ctx, log, pairs)
	if err != nil || len(failed) != 0 || undecided != 0 {
		t.Fatal(failed, undecided, err)
	}
	for i, r := range rows {
		want := 2 - sigmoid(float64(len(r.Output1)-len(r.Output2))/5)
		if r.Preference == nil || math.Abs(*r.Preference-want) > 1e-12 || r.Annotator != "j" || r.Generator1 != "base" || r.Generator2 != "model" {
			t.Fatalf("%d: %+v, want %v", i, r, want)
		}
		if i == 4 {
			if r.RawCompletion != nil || r.Price != nil {
				t.Errorf("a draw was paid for: %+v", r)
			}
		} else if *r.IsSwitched != judge.Switched(r.Instruction) || math.Abs(*r.Price-2) > 1e-12 || !strings.Contains(string(r.RawCompletion), `"top_logprobs":[{"token":"m"`) {
			t.Errorf("%d: %+v %s", i, r, r.RawCompletion)
		}
	}
	if rows[0].Preference == nil || pairs[0].Preference != nil {
		t.Error("the pairs themselves were changed")
	}
	log.Close()

	log = openLog(t, path)
	defer log.Close()
	again, _, _, err := j.Run(ctx, log, pairs)
	if distinct, all := s.count(); err != nil || all != 29 || distinct != 29 || *again[7].Preference != *rows[7].Preference {
		t.Errorf("again: %d requests, %v", all, err)
	}
	// Judgments of an earlier run, one of them without a preference.
	for i := range rows[:3] {
		rows[i].Preference = nil
	}
	minus := -1.0
	rows[3].Preference = &minus
	kept := append([]Annotation(nil), pairs...)
	if n := Keep(kept, rows, "j"); n != 26 {
		t.Errorf("%d judgments kept, want 26", n)
	}
	if n := Keep(append([]Annotation(nil), pairs...), rows, "another"); n != 0 {
		t.Errorf("%d judgments of another judge kept", n)
	}
	j.Judge.ID = "j2" // whose log is empty
	if p, err := j.Pending(ctx, log, kept); err != nil || len(p) != 4 {
		t.Errorf("%d pending (%v), want 4", len(p), err)
	}
}

// TestJudgingUnreadable: replies that cannot be read are kept and counted, and
// not asked for again by the next run.
func TestJudgingUnreadable(t *testing.T) {
	ctx := context.Background()
	base := answered(20)
	model := answered(20)
	for i := range model {
		model[i].Output, model[i].Generator = "model", "model"
	}
	pairs, _, _, _ := Match(base, model)
	s := &speaker{}
	s.say = func(r generate.Request) (generate.Response, error) {
		resp, _ := judgeOf(r)
		var i int
		fmt.Sscanf(r.Messages[0].Content, "question %d", &i)
		if i%5 == 0 || i%5 == 1 && r.Sample == 0 {
			resp.Logprobs[0].Top = []generate.TokenLogprob{{Token: "I", Logprob: -0.5}}
		}
		return resp, nil
	}
	j := newJudging(t, s)
	log := openLog(t, filepath.Join(t.TempDir(), "log.jsonl"))
	defer log.Close()
	for run := range 2 {
		rows, failed, undecided, err := j.Run(ctx, log, pairs)
		if err != nil || len(failed) != 0 || undecided != 4 {
			t.Fatalf("run %d: %v, %d undecided, %v", run, failed, undecided, err)
		}
		if _, all := s.count(); all != 20+8-0 || rows[0].Preference != nil || rows[1].Preference == nil {
			t.Errorf("run %d: %d requests, want 28", run, all)
		}
		set := JudgedOf(rows, "", "j", "base", "model")
		if w := NewWinRate(set.Preferences()); w.Total != 16 || w.Missing != 4 {
			t.Errorf("run %d: %+v", run, w)
		}
	}
	j.Judge.Tries = 3 // one more for those
	if _, _, undecided, err := j.Run(ctx, log, pairs); err != nil || undecided != 4 {
		t.Error(undecided, err)
	}
	if _, all := s.count(); all != 32 {
		t.Errorf("%d requests, want 32", all)
	}
	// A server without log-probabilities ends the stage at its first reply.
	s = &speaker{say: func(r generate.Request) (generate.Response, error) { return generate.Response{Text: "m"}, nil }}
	j = newJudging(t, s)
	j.Identity, j.Jobs = "mute", 1
	if _, _, _, err := j.Run(ctx, log, pairs); !errors.Is(err, judge.ErrNoLogprobs) {
		t.Error(err)
	}
	if _, all := s.count(); all != 1 {
		t.Errorf("%d requests to a judge without log-probabilities, want 1", all)
	}
	if _, _, _, err := j.Run(ctx, log, pairs); !errors.Is(err, judge.ErrNoLogprobs) {
		t.Error(err)
	}
	if _, all := s.count(); all != 2 {
		t.Errorf("%d requests after a second run, want 2: the server may have learned it", all)
	}
	// By votes it can judge.
	j.Judge.Reading, j.Judge.Samples = judge.Votes, 3
	if p, err := j.Pending(ctx, log, pairs); err != nil || len(p) != 59 { // what it said is in the log
		t.Errorf("%d pending (%v), want 59", len(p), err)
	}
	rows, _, _, err := j.Run(ctx, log, pairs)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		want := 1.0
		if judge.Switched(r.Instruction) {
			want = 2
		}
		if *r.Preference != want || !strings.HasPrefix(string(r.RawCompletion), `["m",`) {
			t.Errorf("%v %s, want %v", *r.Preference, r.RawCompletion, want)
		}
	}
}

func TestMatchErrors(t *testing.T) {
	base := answered(3)
	model := []Output{{Instruction: "question 1", Output: "a"}, {Instruction: "question 1", Output: "b"}}
	if _, _, _, err := Match(base, model); err == nil || !strings.Contains(err.Error(), "rows 0 and 1") {
		t.Errorf("two answers: %v", err)
	}
	model[1].Output = "a"
	if pairs, _, absent, err := Match(base, model); err != nil || len(pairs) != 1 || absent != 2 {
		t.Errorf("the same answer twice: %d pairs, %d absent, %v", len(pairs), absent, err)
	}
}

func TestRequestKey(t *testing.T) {
	r := generate.Request{Messages: []chat.Message{{Role: "user", Content: "q"}}}
	if got, want := eval.Key(keyOf(&r)), eval.Key(requestKey{Messages: r.Messages}); got != want {
		t.Error("zero values are part of the key")
	}
	a := &Answering{Raw: true}
	if q := a.request(3, "text"); q.Prompt != "text" || q.Messages != nil || q.Sample != 3 {
		t.Errorf("raw: %+v", q)
	}
}
