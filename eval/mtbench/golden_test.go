package mtbench

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"expo/eval/judge"
)

// recorded is the folder of published answers and judgments, which are not
// part of this repository. Tests that need it are skipped without.
func recorded(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("EXPO_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	dir = filepath.Join(dir, "leaderboard", "mtbench")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no published judgments here")
	}
	return dir
}

func read(t testing.TB, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(elem[len(elem)-1], ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// unpack gives the files of an archive whose names end in .jsonl.
func unpack(t testing.TB, elem ...string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(read(t, elem...))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(h.Name, ".jsonl") {
			if out[h.Name], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// official are the files of FastChat, as they are published.
func official(t testing.TB, dir string) ([]Question, *Judge) {
	t.Helper()
	j := &Judge{References: map[int]Answer{}}
	var err error
	if j.Templates, err = judge.ReadTemplates(bytes.NewReader(read(t, dir, "judge_prompts.jsonl"))); err != nil {
		t.Fatal(err)
	}
	for _, a := range must(ReadAnswers(bytes.NewReader(read(t, dir, "reference_answer_gpt-4.jsonl")))) {
		j.References[a.QuestionID] = a
	}
	return must(ReadQuestions(bytes.NewReader(read(t, dir, "question.jsonl")))), j
}

func TestOfficialFiles(t *testing.T) {
	dir := recorded(t)
	questions, prompts, references := Sources()
	for file, s := range map[string]Source{"question.jsonl": questions, "judge_prompts.jsonl": prompts, "reference_answer_gpt-4.jsonl": references} {
		if sum := sha256.Sum256(read(t, dir, file)); hex.EncodeToString(sum[:]) != s.SHA256 {
			t.Errorf("%s has SHA-256 %x, want %s", file, sum, s.SHA256)
		}
	}
	qs, j := official(t, dir)
	if len(qs) != 80 || len(j.Templates) != 8 || len(j.References) != 30 {
		t.Fatalf("%d questions, %d prompts, %d references, want 80, 8, 30", len(qs), len(j.Templates), len(j.References))
	}
	for i, q := range qs {
		_, ref := j.References[q.ID]
		if q.ID != 81+i || q.Category != CategoryOf(q.ID) || len(q.Turns) != 2 || ref != needsReference(q.Category) {
			t.Errorf("question %d of category %s has %d turns, reference %v", q.ID, q.Category, len(q.Turns), ref)
		}
	}
	// Questions, references: written, read, written again.
	again(t, "questions", qs, ReadQuestions)
	again(t, "references", must(ReadAnswers(bytes.NewReader(read(t, dir, "reference_answer_gpt-4.jsonl")))), ReadAnswers)
}

// again writes rows, reads them, and writes them again, and wants the same
// bytes.
func again[T Question | Answer | Judgment | PairJudgment](t *testing.T, what string, rows []T, read func(io.Reader) ([]T, error)) {
	t.Helper()
	var a, b bytes.Buffer
	if err := Write(&a, rows); err != nil {
		t.Fatal(err)
	}
	back, err := read(bytes.NewReader(a.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(&b, back); err != nil {
		t.Fatal(err)
	}
	if len(back) != len(rows) || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("%s change when they are written and read", what)
	}
}

// same reports whether two JSON texts hold the same values.
func same(t testing.TB, a, b []byte) bool {
	t.Helper()
	decode := func(b []byte) (out []any) {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		for {
			var v any
			err := d.Decode(&v)
			if errors.Is(err, io.EOF) {
				return out
			}
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, v)
		}
	}
	return fmt.Sprint(decode(a)) == fmt.Sprint(decode(b))
}

var judgmentFiles = []string{"dontpanic", "medusa", "selfeval", "stefanstud"}

func judgments(t testing.TB, dir, name string) []Judgment {
	t.Helper()
	single, pairs, err := ReadJudgments(bytes.NewReader(read(t, dir, "judgments", name+"_gpt-4_single.jsonl.gz")))
	if err != nil || len(pairs) > 0 {
		t.Fatal(len(pairs), err)
	}
	return single
}

// TestRatings reads all recorded replies again.
func TestRatings(t *testing.T) {
	dir := recorded(t)
	n := 0
	seen := map[judge.Rating]int{}
	for _, name := range judgmentFiles {
		js := judgments(t, dir, name)
		for _, j := range js {
			n++
			got := judge.ParseRating(j.Judgment)
			seen[got]++
			if got != j.Score {
				t.Errorf("%s, %s, question %d, turn %d: rating %s, recorded %s", name, j.Model, j.QuestionID, j.Turn, got, j.Score)
			}
		}
		var b bytes.Buffer
		if err := Write(&b, js); err != nil {
			t.Fatal(err)
		}
		if !same(t, b.Bytes(), read(t, dir, "judgments", name+"_gpt-4_single.jsonl.gz")) {
			t.Errorf("%s: written judgments differ from the file", name)
		}
	}
	if n != 1760 || seen["8.5"] != 11 || seen["9.5"] != 1 || seen[judge.Unrated] != 2 {
		t.Errorf("%d ratings, %d of 8.5, %d of 9.5, %d unrated; want 1760, 11, 1, 2", n, seen["8.5"], seen["9.5"], seen[judge.Unrated])
	}
}

// TestScores compares figures with the means of the recorded scores.
func TestScores(t *testing.T) {
	dir := recorded(t)
	want := map[string][3]float64{ // turn 1, turn 2, all
		"llama2_chat_7b":                    {536.5 / 80, 454.0 / 80, 990.5 / 160},
		"finetune_llama2_chat_7b":           {5.3875, 3.8625, 4.6250},
		"finetune_llama2_chat_7b_FFNet":     {5.9500, 4.2625, 5.10625},
		"finetune_llama2_chat_7b_Attention": {5.89375, 4.4000, 5.146875},
		"llama2_7b":                         {4.7625, 3.1750, 3.96875},
		"medusa-vicuna-7b-v1.3-1-temperature-0.0-posterior_threshold-0.09-posterior_alpha-0.3": {6.79375, 5.18125, 5.9875},
		"vicuna-7b-v1.3":        {6.73125, 5.4750, 6.103125},
		"vicuna-7b-v1.3-greedy": {6.51875, 5.2375, 5.878125},
		"llama2-7b-chat":        {435.0 / 79, 333.0 / 79, 768.0 / 158},
		"vicuna-7b":             {6.0375, 4.9000, 5.46875},
		"phi-3-dpo":             {8.3625, 8.0375, 8.2000},
	}
	categories := map[string][]float64{
		"llama2_chat_7b": {8.800, 7.350, 4.500, 2.400, 3.050, 5.500, 8.375, 9.550},
		"vicuna-7b-v1.3": {8.125, 7.600, 4.800, 2.350, 3.450, 5.350, 8.000, 9.150},
		"llama2-7b-chat": {6.600, 6.350, 3.632, 2.350, 2.350, 3.789, 5.650, 8.050},
		"phi-3-dpo":      {9.600, 8.550, 6.850, 6.150, 6.450, 8.250, 9.800, 9.950},
	}
	var all []Judgment
	for _, name := range judgmentFiles {
		all = append(all, judgments(t, dir, name)...)
	}
	scores := Score(all, ScoreOptions{Draws: 200})
	if len(scores) != len(want) {
		t.Errorf("%d models, want %d", len(scores), len(want))
	}
	for _, s := range scores {
		w, ok := want[s.Model]
		if !ok {
			t.Errorf("unexpected model %s", s.Model)
			continue
		}
		for i, got := range []float64{s.Turn1.Value, s.Turn2.Value, s.All.Value} {
			if math.Abs(got-w[i]) > 1e-9 {
				t.Errorf("%s: %v, want %v", s.Model, got, w[i])
			}
		}
		unparsed := 0
		if s.Model == "llama2-7b-chat" {
			unparsed = 2
		}
		if s.Unparsed != unparsed || s.All.N != 160-unparsed || !s.Complete() || s.Duplicates+s.OutOfRange != 0 {
			t.Errorf("%s: %d ratings, %d unparsed", s.Model, s.All.N, s.Unparsed)
		}
		for i, got := range s.Categories {
			if c := categories[s.Model]; c != nil && (math.Abs(got.Value-c[i]) > 5.01e-4 || got.Name != Categories()[i]) {
				t.Errorf("%s: %s is %v, want %v", s.Model, got.Name, got.Value, c[i])
			}
		}
	}
}

// TestPrompts makes the prompts of 800 recorded judgments again.
func TestPrompts(t *testing.T) {
	dir := recorded(t)
	qs, j := official(t, dir)
	answers := map[string]map[int]Answer{}
	for name, b := range unpack(t, dir, "answers", "dontpanic_model_answer.tar.gz") {
		model := strings.TrimSuffix(path.Base(name), ".jsonl")
		answers[model] = map[int]Answer{}
		as := must(ReadAnswers(bytes.NewReader(b)))
		again(t, model, as, ReadAnswers)
		for _, a := range as {
			answers[model][a.QuestionID] = a
		}
	}
	n := 0
	for _, want := range judgments(t, dir, "dontpanic") {
		q := qs[want.QuestionID-81]
		r, name, err := j.Prompt(q, answers[want.Model][q.ID], want.Turn)
		if err != nil {
			t.Fatal(err)
		}
		if name != want.Judge[1] || r.Messages[1].Content != want.UserPrompt {
			t.Errorf("%s, question %d, turn %d: the prompt %s differs", want.Model, q.ID, want.Turn, name)
		}
		n++
	}
	if n != 800 {
		t.Errorf("%d prompts, want 800", n)
	}
}

func TestGames(t *testing.T) {
	dir := recorded(t)
	file := read(t, dir, "judgments", "stefanstud_gpt-4_pair.jsonl.gz")
	_, pairs, err := ReadJudgments(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, pairs); err != nil || !same(t, b.Bytes(), file) {
		t.Errorf("written games differ from the file (%v)", err)
	}
	for _, p := range pairs {
		g1 := winner(judge.ParseWinner(p.G1Judgment, "[[A]]"), "model_1", "model_2")
		g2 := winner(judge.ParseWinner(p.G2Judgment, "[[A]]"), "model_2", "model_1")
		if g1 != p.G1Winner || g2 != p.G2Winner {
			t.Errorf("question %d: winners %s and %s, recorded %s and %s", p.QuestionID, g1, g2, p.G1Winner, p.G2Winner)
		}
	}
	scores, bias := ScorePairs(pairs, 200)
	if len(pairs) != 75 || bias.Games != 73 || bias.Dropped != 2 || bias.Inconsistent != 27 {
		t.Errorf("%d games: %+v; want 75, 73 of them valid, 27 inconsistent", len(pairs), bias)
	}
	for _, s := range scores {
		wins, losses := 18, 20
		if s.Model == "phi-3-dpo" {
			wins, losses = 20, 18
		}
		if s.Wins != wins || s.Losses != losses || s.Ties != 35 || s.Inconsistent != 27 || s.Games != 73 ||
			s.WinRate.Value != float64(wins)/73 || s.LossRate.Value != float64(losses)/73 || math.Abs(s.WinRateAdjusted.Value-(float64(wins)+17.5)/73) > 1e-12 {
			t.Errorf("%+v", s)
		}
	}
	// The prompts of the first turn, by the answers that they show.
	qs, j := official(t, dir)
	for _, p := range pairs {
		between := func(text, from, to string) string {
			_, rest, _ := strings.Cut(text, from)
			out, _, _ := strings.Cut(rest, to)
			return out
		}
		answer := func(side string) Answer {
			return Answer{Choices: []Choice{{Turns: []string{between(p.G1UserPrompt, "[The Start of Assistant "+side+"'s Answer]\n", "\n[The End of Assistant "+side+"'s Answer]")}}}}
		}
		a, b := answer("A"), answer("B")
		for _, g := range []struct {
			first, second Answer
			want          string
		}{{a, b, p.G1UserPrompt}, {b, a, p.G2UserPrompt}} {
			r, name, err := j.PairPrompt(qs[p.QuestionID-81], g.first, g.second, 1)
			if err != nil || name != p.Judge[1] || r.Messages[1].Content != g.want {
				t.Errorf("question %d: the prompt %s differs (%v)", p.QuestionID, name, err)
			}
		}
	}
}

func TestPublishedAnswers(t *testing.T) {
	files := unpack(t, recorded(t), "answers", "expo24_model_answer.tar.gz")
	if len(files) != 24 {
		t.Errorf("%d models, want 24", len(files))
	}
	for name, b := range files {
		as := must(ReadAnswers(bytes.NewReader(b)))
		if len(as) != 80 {
			t.Errorf("%s: %d answers, want 80", name, len(as))
		}
		for _, a := range as {
			if len(a.Choices) != 1 || len(a.turns()) != 2 {
				t.Errorf("%s: question %d has %d choices of %d turns", name, a.QuestionID, len(a.Choices), len(a.turns()))
			}
		}
		var out bytes.Buffer
		if err := Write(&out, as); err != nil || !same(t, out.Bytes(), b) {
			t.Errorf("%s: written answers differ from the file (%v)", name, err)
		}
	}
}

// TestOtherLayout reads the replies of gpt-4o-mini in kook222's own files, whose
// figures are published in tables.
func TestOtherLayout(t *testing.T) {
	files := unpack(t, recorded(t), "kook222", "en_judgments_answers.tar.gz")
	wantMean := map[string]float64{"Mistral-7B-Instruct-v0.3": 7.2062, "gemma-2-9b-it": 8.0125, "EXAONE-3.5-7.8B-Instruct": 8.7250,
		"EEVE-Korean-Instruct-10.8B": 6.8125, "Llama-3.1-8B-Instruct": 7.8187, "Phi-3.5-mini-Instruct": 7.9688}
	type row struct {
		QuestionID    int     `json:"question_id"`
		ScoreTurn1    float64 `json:"score_turn1"`
		ScoreTurn2    float64 `json:"score_turn2"`
		JudgmentTurn1 string  `json:"judgment_turn1"`
		JudgmentTurn2 string  `json:"judgment_turn2"`
		ModelA        string  `json:"model_a"`
		ModelB        string  `json:"model_b"`
		JudgmentAB    string  `json:"judgment_ab"`
		JudgmentBA    string  `json:"judgment_ba"`
		WinnerAB      string  `json:"winner_ab"`
		WinnerBA      string  `json:"winner_ba"`
	}
	var single []Judgment
	var pairs []PairJudgment
	ref, without := map[string]float64{}, map[string]float64{} // by model and question
	for name, b := range files {
		kind := path.Base(path.Dir(name))
		model := strings.TrimSuffix(path.Base(name), ".jsonl")
		if !strings.Contains(name, "/judgments/") {
			continue
		}
		rows := must(readLines(bytes.NewReader(b), name, unmarshal, func(*row) error { return nil }))
		for _, r := range rows {
			key := fmt.Sprint(model, r.QuestionID)
			switch kind {
			case "single_grade", "single_grade_ref":
				for turn, text := range []string{r.JudgmentTurn1, r.JudgmentTurn2} {
					recorded := []float64{r.ScoreTurn1, r.ScoreTurn2}[turn]
					if kind == "single_grade_ref" && turn == 0 {
						continue
					}
					got := judge.ParseRating(text)
					if x, _ := got.Float64(); x != recorded {
						t.Errorf("%s, question %d, turn %d: rating %s, recorded %v", name, r.QuestionID, turn+1, got, recorded)
					}
					if kind == "single_grade" {
						single = append(single, Judgment{QuestionID: r.QuestionID, Model: model, Turn: turn + 1, Score: got})
						without[key] = r.ScoreTurn2
					} else {
						ref[key] = recorded
					}
				}
			case "pairwise":
				g1, g2 := judge.ParseWinner(r.JudgmentAB, "[[A]]"), judge.ParseWinner(r.JudgmentBA, "[[A]]")
				if string(g1) != r.WinnerAB || string(g2) != r.WinnerBA {
					t.Errorf("%s, question %d: winners %s and %s, recorded %s and %s", name, r.QuestionID, g1, g2, r.WinnerAB, r.WinnerBA)
				}
				pairs = append(pairs, PairJudgment{QuestionID: r.QuestionID, Model1: r.ModelA, Model2: r.ModelB, Turn: 2,
					G1Winner: winner(g1, "model_1", "model_2"), G2Winner: winner(g2, "model_2", "model_1")})
			}
		}
	}
	sum := 0.0
	for _, s := range Score(single, ScoreOptions{Draws: -1}) {
		sum += s.All.Value * float64(s.All.N)
		if math.Abs(s.All.Value-wantMean[s.Model]) > 5.01e-5 {
			t.Errorf("%s: %.4f, want %.4f", s.Model, s.All.Value, wantMean[s.Model])
		}
	}
	if mean := sum / 960; len(single) != 960 || math.Abs(mean-7.7573) > 5e-5 {
		t.Errorf("mean of %d ratings is %.4f, want 7.7573 of 960", len(single), mean)
	}
	a, b := 0.0, 0.0
	for key, x := range ref {
		a, b = a+without[key], b+x
	}
	if n := float64(len(ref)); n != 174 || math.Abs(a/n-7.5517) > 5e-5 || math.Abs(b/n-5.3046) > 5e-5 {
		t.Errorf("%v pairs: %.4f without reference, %.4f with; want 174, 7.5517, 5.3046", n, a/n, b/n)
	}
	_, bias := ScorePairs(pairs, -1)
	if want := (Bias{Games: 1193, Dropped: 7, Inconsistent: 399, First: 321, Second: 69}); bias != want {
		t.Errorf("games are %+v, want %+v", bias, want)
	}
}
