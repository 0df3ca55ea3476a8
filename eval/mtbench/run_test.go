package mtbench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"expo/eval"
	"expo/eval/judge"
	"expo/lm/generate"
)

// generator answers by a function and keeps what it was asked.
type generator struct {
	mu    sync.Mutex
	asked []generate.Request
	reply func(n int, r generate.Request) (generate.Response, error)
}

func (g *generator) Generate(_ context.Context, r generate.Request) (generate.Response, error) {
	g.mu.Lock()
	n := len(g.asked)
	g.asked = append(g.asked, r)
	g.mu.Unlock()
	return g.reply(n, r)
}

func last(r generate.Request) string { return r.Messages[len(r.Messages)-1].Content }

// questions are two of each category, with made-up turns.
func questions() []Question {
	var out []Question
	for i := 81; i <= 160; i += 5 {
		out = append(out, Question{ID: i, Category: CategoryOf(i), Turns: []string{fmt.Sprint("first of ", i), fmt.Sprint("second of ", i)}})
	}
	return out
}

// newJudge has prompts that say what they show.
func newJudge(g generate.Generator) *Judge {
	j := &Judge{Name: "jay", Identity: "jay", Generator: g, Templates: map[string]judge.Template{}, References: map[int]Answer{}, Jobs: 4}
	for _, name := range []string{"single-v1", "single-math-v1", "pair-v2", "pair-math-v1"} {
		one, two := "{question}|{answer}", "{question_1}|{answer_1}|{question_2}|{answer_2}"
		if strings.HasPrefix(name, "pair") {
			one, two = "{question}|{answer_a}|{answer_b}", "{question_1}|{question_2}|{answer_a_1}|{answer_a_2}|{answer_b_1}|{answer_b_2}"
		}
		if strings.Contains(name, "math") {
			one, two = one+"|{ref_answer_1}", two+"|{ref_answer_1}|{ref_answer_2}"
		}
		j.Templates[name] = judge.Template{Name: name, SystemPrompt: "judge", Prompt: one, OutputFormat: "[[rating]]"}
		j.Templates[name+"-multi-turn"] = judge.Template{Name: name + "-multi-turn", SystemPrompt: "judge both", Prompt: two, OutputFormat: "[[rating]]"}
	}
	for _, q := range questions() {
		if needsReference(q.Category) {
			j.References[q.ID] = Answer{Choices: []Choice{{Turns: []string{"ref 1", "ref 2"}}}}
		}
	}
	return j
}

func openLog(t *testing.T, path string) *eval.Log {
	t.Helper()
	log, err := eval.OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

func TestAnswer(t *testing.T) {
	g := &generator{reply: func(_ int, r generate.Request) (generate.Response, error) {
		return generate.Response{Text: "  re: " + last(r) + "\n", FinishReason: generate.Stop, Usage: generate.Usage{CompletionTokens: 3}}, nil
	}}
	a := &Answerer{Model: "m", Identity: "m", Generator: g, Jobs: 4}
	path := filepath.Join(t.TempDir(), "log.jsonl")
	log := openLog(t, path)
	got, err := a.Answer(context.Background(), log, questions())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Answers) != 16 || len(got.Open) != 0 || got.Asked != 32 || got.Tokens != 96 {
		t.Errorf("%d answers, %d open, %d asked, %d tokens", len(got.Answers), len(got.Open), got.Asked, got.Tokens)
	}
	if want := []string{"re: first of 86", "re: second of 86"}; !reflect.DeepEqual(got.Answers[1].turns(), want) || len(got.Answers[1].AnswerID) != 22 || got.Answers[1].Tstamp == 0 {
		t.Errorf("answer is %+v", got.Answers[1])
	}
	temperatures := map[string]float64{"writing": 0.7, "roleplay": 0.7, "reasoning": 0, "math": 0, "coding": 0, "extraction": 0, "stem": 0.1, "humanities": 0.1}
	for _, r := range g.asked {
		var id int
		fmt.Sscanf(r.Messages[0].Content, "first of %d", &id)
		if want := temperatures[CategoryOf(id)]; r.Temperature != want || r.MaxTokens != 1024 {
			t.Errorf("question %d is asked at temperature %v with %d tokens", id, r.Temperature, r.MaxTokens)
		}
		if n := len(r.Messages); n == 3 && (r.Messages[1].Role != "assistant" || r.Messages[1].Content != fmt.Sprint("re: first of ", id)) || n != 1 && n != 3 {
			t.Errorf("question %d: messages are %+v", id, r.Messages)
		}
	}
	// Once more, after the process has died.
	log.Close()
	log = openLog(t, path)
	plan, _, err := a.Plan(log, questions())
	if err != nil || len(plan) != 0 {
		t.Errorf("%d requests are planned, want none (%v)", len(plan), err)
	}
	second, err := a.Answer(context.Background(), log, questions())
	if err != nil || second.Asked != 0 || !reflect.DeepEqual(second.Answers, got.Answers) {
		t.Errorf("a second run asked %d times, or answers differ (%v)", second.Asked, err)
	}
	// Other parameters are other answers.
	a.Temperature = new(1.0)
	if plan, _, _ := a.Plan(log, questions()); len(plan) != 32 {
		t.Errorf("%d requests are planned at another temperature, want 32", len(plan))
	}
	if plan, answers, _ := a.Plan(nil, questions()[:1]); len(plan) != 2 || len(answers.Answers[0].turns()) != 2 || len(plan[1].Messages[1].Content) < 4*800 {
		t.Errorf("the plan is %+v", plan)
	}
	forced := append(questions(), Question{ID: 200, Turns: []string{"x"}, RequiredTemperature: new(0.5)})
	if _, err := a.Answer(context.Background(), log, forced); err == nil {
		t.Error("two temperatures are accepted")
	}
	a.Temperature, a.System = nil, "be brief"
	if _, err := a.Answer(context.Background(), log, forced[16:]); err != nil {
		t.Fatal(err)
	}
	if r := g.asked[len(g.asked)-1]; r.Temperature != 0.5 || r.Messages[0].Role != "system" {
		t.Errorf("asked %+v", r)
	}
}

func TestFailures(t *testing.T) {
	bad := fmt.Errorf("too long (%w)", generate.ErrRequest)
	g := &generator{reply: func(_ int, r generate.Request) (generate.Response, error) {
		if last(r) == "second of 91" {
			return generate.Response{}, bad
		}
		reason := generate.Stop
		if last(r) == "first of 81" {
			reason = generate.Length
		}
		return generate.Response{Text: "x", FinishReason: reason}, nil
	}}
	a := &Answerer{Model: "m", Generator: g}
	log := openLog(t, filepath.Join(t.TempDir(), "log.jsonl"))
	got, err := a.Answer(context.Background(), log, questions())
	if err != nil || len(got.Open) != 1 || len(got.Answers) != 15 || got.Truncated != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if f := got.Open[0]; f.Question != 91 || f.Turn != 2 || !errors.Is(f, generate.ErrRequest) || !strings.Contains(f.Error(), "m, question 91, turn 2: too long") {
		t.Errorf("failure is %v", f)
	}
	// An error of the server ends the run; what was answered stays.
	broken := errors.New("on fire")
	g = &generator{reply: func(n int, r generate.Request) (generate.Response, error) {
		if n == 10 {
			return generate.Response{}, broken
		}
		return generate.Response{Text: "x"}, nil
	}}
	a = &Answerer{Model: "m", Generator: g, Identity: "other", Jobs: 1}
	if _, err := a.Answer(context.Background(), log, questions()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "question") {
		t.Errorf("got %v", err)
	}
	got, err = a.Answer(context.Background(), log, questions())
	if err != nil || got.Asked != 22 {
		t.Errorf("asked %d times after the failure, want 22 (%v)", got.Asked, err)
	}
}

// answered is a model whose answers are its name and the turn.
func answered(model string) Answers {
	a := Answers{Model: model}
	for _, q := range questions() {
		a.Answers = append(a.Answers, Answer{QuestionID: q.ID, Choices: []Choice{{Turns: []string{model + " 1", model + " 2"}}}})
	}
	return a
}

func TestGrade(t *testing.T) {
	g := &generator{}
	g.reply = func(_ int, r generate.Request) (generate.Response, error) {
		switch text := last(r); {
		case strings.HasPrefix(text, "first of 86|a 1") && r.Sample == 0, strings.HasPrefix(text, "first of 91|a 1|first") == false && strings.HasPrefix(text, "first of 91|a 1"):
			return generate.Response{Text: "I would rather not"}, nil
		case strings.HasPrefix(text, "first of 96|a 1"):
			return generate.Response{}, fmt.Errorf("too long (%w)", generate.ErrRequest)
		case strings.Contains(text, "second"):
			return generate.Response{Text: "[[6]]"}, nil
		}
		return generate.Response{Text: "[[8.5]]"}, nil
	}
	j := newJudge(g)
	path := filepath.Join(t.TempDir(), "log.jsonl")
	log := openLog(t, path)
	b := answered("a") // the same answers under another name
	b.Model = "b"
	models := []Answers{answered("a"), b}
	js, run, err := j.Grade(context.Background(), log, questions(), models)
	if err != nil {
		t.Fatal(err)
	}
	// 96 fails in both turns, 91 twice gets no rating in both; 86 is rated at the second try, both turns.
	if len(js) != 2*(32-2) || len(run.Open) != 4 || run.Unparsed != 4 {
		t.Errorf("%d judgments, %d open, %d unparsed", len(js), len(run.Open), run.Unparsed)
	}
	// Nothing is asked twice for equal answers: 32 and a second try for two
	// turns of 86 and two of 91; two have failed, once for each model.
	if run.Asked != 32+4-2 {
		t.Errorf("asked %d times, want 34", run.Asked)
	}
	for _, x := range js {
		want := judge.Rating("8.5")
		if x.Turn == 2 {
			want = "6"
		}
		if x.QuestionID == 91 {
			want = judge.Unrated
		}
		q := questions()[(x.QuestionID-81)/5]
		prompt := "single-v1"
		text := fmt.Sprintf("first of %d|a 1", q.ID)
		if x.Turn == 2 {
			text = fmt.Sprintf("first of %d|a 1|second of %d|a 2", q.ID, q.ID)
		}
		if needsReference(q.Category) {
			prompt = "single-math-v1"
			text += "|ref 1"
			if x.Turn == 2 {
				text += "|ref 2"
			}
		}
		if x.Turn == 2 {
			prompt += "-multi-turn"
		}
		if x.Score != want || x.UserPrompt != text || !reflect.DeepEqual(x.Judge, []string{"jay", prompt}) {
			t.Errorf("judgment is %+v, want %s and %q by %s", x, want, text, prompt)
		}
	}
	if r := g.asked[0]; r.Temperature != 0 || r.MaxTokens != 2048 || r.Messages[0].Role != "system" {
		t.Errorf("asked %+v", r)
	}
	// Again: only what failed is asked for.
	log.Close()
	log = openLog(t, path)
	n := len(g.asked)
	again, run, err := j.Grade(context.Background(), log, questions(), models)
	if err != nil || run.Asked != 0 || len(g.asked) > n+4 || !reflect.DeepEqual(again, js) || run.Unparsed != 4 {
		t.Errorf("a second run asked %d times for %d, or judgments differ (%v)", len(g.asked)-n, run.Asked, err)
	}
	if plan, err := j.PlanGrade(log, questions(), models); err != nil || len(plan) != 2 {
		t.Errorf("%d requests are planned, want those two that failed (%v)", len(plan), err)
	}
	if plan, err := j.PlanGrade(nil, questions(), models); err != nil || len(plan) != 32 {
		t.Errorf("%d requests are planned, want 32 (%v)", len(plan), err)
	}
	j.Tries = 3 // a further try for those without a rating
	if _, run, err = j.Grade(context.Background(), log, questions(), models); err != nil || run.Asked != 2 {
		t.Errorf("a third try asked %d times, want 2 (%v)", run.Asked, err)
	}
	delete(j.References, 101)
	if _, _, err := j.Grade(context.Background(), log, questions(), models); err == nil || !strings.Contains(err.Error(), "question 101 (reasoning) needs a reference") {
		t.Errorf("got %v, want the reference that is missing", err)
	}
	delete(j.Templates, "single-v1")
	if _, _, err := j.Grade(context.Background(), log, questions(), models); err == nil || !strings.Contains(err.Error(), "single-v1") {
		t.Errorf("got %v, want the prompt that is missing", err)
	}
}

func TestCompareModels(t *testing.T) {
	// The judge prefers b, but in the first turn whatever comes first.
	g := &generator{reply: func(_ int, r generate.Request) (generate.Response, error) {
		f := strings.Split(last(r), "|")
		switch {
		case strings.HasPrefix(last(r), "first of 81|second"):
			return generate.Response{Text: "cannot say"}, nil
		case !strings.Contains(last(r), "second"):
			return generate.Response{Text: "[[A]]"}, nil
		case f[2] == "b 1":
			return generate.Response{Text: "[[A]]"}, nil
		}
		return generate.Response{Text: "[[B]]"}, nil
	}}
	j := newJudge(g)
	log := openLog(t, filepath.Join(t.TempDir(), "log.jsonl"))
	models := []Answers{answered("a"), answered("b")}
	ps, run, err := j.Compare(context.Background(), log, questions(), models, AllMatches([]string{"a", "b"}))
	if err != nil {
		t.Fatal(err)
	}
	if len(ps) != 32 || run.Asked != 66 || run.Unparsed != 2 {
		t.Errorf("%d games, %+v", len(ps), run)
	}
	again(t, "games", ps, func(r io.Reader) ([]PairJudgment, error) {
		_, ps, err := ReadJudgments(r)
		return ps, err
	})
	scores, bias := ScorePairs(append(ps, ps[0]), 100)
	if want := (Bias{Games: 31, Dropped: 1, Inconsistent: 16, First: 16}); bias != want || bias.InconsistencyRate() != 16.0/31 {
		t.Errorf("bias is %+v, want %+v", bias, want)
	}
	if s := scores[1]; s.Model != "b" || s.Wins != 15 || s.Ties != 16 || s.Losses != 0 || s.WinRateAdjusted.Value != 23.0/31 || s.WinRateAdjusted.CI == nil {
		t.Errorf("scores are %+v", s)
	}
	for _, m := range []Match{{"a", "a"}, {"a", "c"}} {
		if _, _, err := j.Compare(context.Background(), log, questions(), models, []Match{m}); err == nil {
			t.Errorf("%v is accepted", m)
		}
	}
}

func TestFigures(t *testing.T) {
	rate := func(id, turn int, score string) Judgment {
		return Judgment{QuestionID: id, Model: "m", Judge: []string{"j", "p"}, Turn: turn, Score: judge.Rating(score)}
	}
	js := []Judgment{
		rate(81, 1, "8"), rate(81, 2, "6"), rate(82, 1, "10"), rate(82, 2, "-1"), rate(111, 1, "72"), rate(111, 2, "1.5"),
		rate(81, 1, "2"), rate(82, 2, "4"), // a second rating, and one in place of none
	}
	s := Score(js, ScoreOptions{})
	if len(s) != 1 {
		t.Fatal(s)
	}
	got := s[0]
	if got.All.Value != (8+6+10+4+72+1.5)/6 || got.All.N != 6 || got.Turn1.Value != 30 || got.Turn2.N != 3 || got.Duplicates != 2 || got.OutOfRange != 1 || got.Unparsed != 0 {
		t.Errorf("figures are %+v", got)
	}
	// Question means 7, 7, 36.75: standard deviation over √3.
	if mean := (7 + 7 + 36.75) / 3; math.Abs(got.All.StdErr-math.Sqrt((2*(7-mean)*(7-mean)+(36.75-mean)*(36.75-mean))/2/3)) > 1e-12 {
		t.Errorf("standard error is %v", got.All.StdErr)
	}
	if got.All.CI == nil || got.All.CI.Low != 7 || got.All.CI.High != 36.75 {
		t.Errorf("interval is %+v", got.All.CI)
	}
	if len(got.Categories) != 2 || got.Categories[0].Name != "writing" || got.Categories[0].Value != 7 {
		t.Errorf("categories are %+v", got.Categories)
	}
	if w := strings.Join(got.Warnings(), "\n"); !strings.Contains(w, "6 of 160 ratings") || !strings.Contains(w, "1 rating is not from 1 to 10") || !strings.Contains(w, "2 further ratings") {
		t.Errorf("warnings are %s", w)
	}
	strict := Score(js, ScoreOptions{Strict: true})[0]
	if strict.All.N != 5 || strict.All.Value != (8+6+10+4+1.5)/5 {
		t.Errorf("strict figures are %+v", strict)
	}
	other := rate(81, 1, "3")
	other.Judge = []string{"k"}
	two := Score(append(js, other), ScoreOptions{Draws: -1})
	if len(two) != 2 || Label(two, two[1]) != "m [k]" || two[1].All.CI != nil || Label(s, got) != "m" {
		t.Errorf("two judges give %+v", two)
	}
	none := Score([]Judgment{rate(81, 1, "-1")}, ScoreOptions{})[0]
	if !math.IsNaN(none.All.Value) || none.Unparsed != 1 || none.All.N != 0 {
		t.Errorf("figures of nothing are %+v", none)
	}
}

func TestDifference(t *testing.T) {
	make := func(model string, add float64) Scores {
		var js []Judgment
		for i := range 20 {
			x := 5 + float64(i%3) + add*float64(i%2)
			js = append(js, Judgment{QuestionID: 81 + i, Model: model, Turn: 1, Score: judge.Rating(fmt.Sprint(x))})
		}
		return Score(js, ScoreOptions{})[0]
	}
	d := Compare(make("b", 1), make("a", 0), 0)
	if d.Model != "b" || d.Than != "a" || d.Mean.Value != 0.5 || d.Mean.N != 20 || d.Higher != 10 || d.Tie != 10 || d.Lower != 0 || d.Mean.CI.Low <= 0 {
		t.Errorf("difference is %+v", d)
	}
	// Of 1024 ways to give ten differences a sign, two are as extreme.
	if d.P < 0.0005 || d.P > 0.005 {
		t.Errorf("p is %v, want about 0.002", d.P)
	}
	if d := Compare(make("a", 0), make("a", 0), 0); d.P != 1 || d.Mean.Value != 0 {
		t.Errorf("difference to itself is %+v", d)
	}
}

func TestFiles(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		read func(string) error
		says string
	}{
		"broken":      {"{}\n{", readQ, "line 1"},
		"three turns": {`{"question_id":1,"turns":["a","b","c"]}`, readQ, "3 turns"},
		"twice":       {`{"question_id":1,"turns":["a"]}` + "\n\n" + `{"question_id":1,"turns":["a"]}`, readQ, "line 3"},
		"no choice":   {`{"question_id":1,"choices":[]}`, readA, "no choice"},
		"no kind":     {`{"question_id":1}`, readJ, "neither a score nor a winner"},
		"turn":        {`{"question_id":1,"model":"m","score":1,"turn":3}`, readJ, "turn 3"},
		"text":        {`{"question_id":1,"model":"m","score":"x","turn":1}`, readJ, "line 1"},
		"winner":      {`{"g1_winner":"A","g2_winner":"tie"}`, readJ, `winner "A"`},
	} {
		if err := tt.read(tt.text); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", name, err, tt.says)
		}
	}
	as, err := ReadAnswers(strings.NewReader(`{"question_id":1,"choices":[{"turns":["a"]}]}
{"question_id":2,"choices":[{"turns":["b"]}]}
{"question_id":1,"choices":[{"turns":["c"]}]}`))
	if err != nil || len(as) != 2 || as[0].turns()[0] != "c" {
		t.Errorf("the last answer does not count: %+v, %v", as, err)
	}
	_, ps, err := ReadJudgments(strings.NewReader(`{"question_id":1,"model_1":"a","model_2":"b","winner":"tie"}`))
	if err != nil || ps[0].G1Winner != "tie" || ps[0].G2Winner != "tie" {
		t.Errorf("a game of an older file is %+v, %v", ps, err)
	}
}

func readQ(s string) error { _, err := ReadQuestions(strings.NewReader(s)); return err }
func readA(s string) error { _, err := ReadAnswers(strings.NewReader(s)); return err }
func readJ(s string) error { _, _, err := ReadJudgments(strings.NewReader(s)); return err }

func FuzzFiles(f *testing.F) {
	f.Add([]byte(`{"question_id":1,"model":"m","judge":["j"],"score":8.50,"turn":1,"tstamp":1.5}`))
	f.Add([]byte(`{"g1_winner":"tie","g2_winner":"error","turn":1}`))
	f.Add([]byte(`{"question_id":1,"choices":[{"turns":["a","b"]}],"turns":["x"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		js, ps, err := ReadJudgments(bytes.NewReader(b))
		if err == nil {
			again(t, "judgments", js, func(r io.Reader) ([]Judgment, error) {
				js, _, err := ReadJudgments(r)
				return js, err
			})
			Score(js, ScoreOptions{Draws: 10})
			ScorePairs(ps, 10)
		}
		if as, err := ReadAnswers(bytes.NewReader(b)); err == nil {
			again(t, "answers", as, ReadAnswers)
		}
		if qs, err := ReadQuestions(bytes.NewReader(b)); err == nil {
			again(t, "questions", qs, ReadQuestions)
		}
	})
}
