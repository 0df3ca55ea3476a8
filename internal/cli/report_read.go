package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"expo/eval"
	"expo/eval/alpacaeval"
	"expo/eval/mtbench"
)

// resultFile is the file that a RESULT is in: itself, or result.json of a
// directory.
func resultFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return path, err
	}
	file := filepath.Join(path, "result.json")
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("%s holds no result.json; name the directory that expo eval wrote to with -o, or a file", path)
	}
	return file, nil
}

// readMeasured reads a file of any kind, told by what it holds.
func readMeasured(path string, f *reportFlags) ([]*measured, error) {
	kind, err := readWith(path, kindOf)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "result":
		return readResults(path, f)
	case "lm-eval":
		return readWith(path, func(r io.Reader) ([]*measured, error) { return readLMEval(r, path) })
	case "judgments":
		return readJudged(path, f)
	case "leaderboard":
		return readBoard(path, f)
	case "annotations", "numbers":
		sets, err := readAnnotations([]string{path})
		if err != nil {
			return nil, err
		}
		var out []*measured
		for _, s := range sets {
			out = append(out, measuredOf(s, f.draws))
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s is no result that is known here: neither expo's result.json, nor alpaca_eval's leaderboard or annotations, nor FastChat's judgments, nor lm-eval's results", path)
}

// kindOf looks at the beginning of a file.
func kindOf(r io.Reader) (string, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	head, err := in.Peek(1 << 16)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	start := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), " \t\r\n")
	if len(start) == 0 {
		return "", errors.New("the file is empty")
	}
	if start[0] != '{' && start[0] != '[' {
		line, _, _ := strings.Cut(string(start), "\n")
		has := map[string]bool{}
		for _, name := range strings.Split(strings.TrimSpace(line), ",") {
			has[strings.Trim(name, `"`)] = true
		}
		switch {
		case has["win_rate"]:
			return "leaderboard", nil
		case has["preference"] && has["instr"] && has["len_model"]:
			return "numbers", nil
		case has["preference"] && has["std_delta_len"], has["preference_surrogate"]:
			return "gamed", nil
		case has["np.tanh(std_delta_len)"]:
			return "weights", nil
		case has["instruction_difficulty"]:
			return "difficulty", nil
		}
		return "", nil
	}
	// The first object's names tell. The document may be cut off here; if none
	// of them has come by then, it is something else.
	dec := json.NewDecoder(bytes.NewReader(start))
	t, err := dec.Token()
	if err == nil && t == json.Delim('[') {
		t, err = dec.Token()
	}
	for err == nil && t == json.Delim('{') && dec.More() {
		name, err := dec.Token()
		if err != nil {
			return "", nil
		}
		switch name {
		case "suite", "metrics":
			return "result", nil
		case "user_prompt", "judgment", "g1_winner", "g1_user_prompt":
			return "judgments", nil
		case "results":
			return "lm-eval", nil
		case "output_1", "annotator", "preference":
			return "annotations", nil
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return "", nil
		}
	}
	return "", nil
}

// readResults reads result.json, of one model or of several, and the samples
// and weights beside it.
func readResults(path string, f *reportFlags) ([]*measured, error) {
	results, err := readWith(path, func(r io.Reader) ([]eval.Result, error) {
		b, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		if b = bytes.TrimSpace(b); bytes.HasPrefix(b, []byte("[")) {
			var many []eval.Result
			return many, json.Unmarshal(b, &many)
		}
		one := make([]eval.Result, 1)
		return one, json.Unmarshal(b, &one[0])
	})
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	samples, err := readBeside(filepath.Join(dir, "samples.jsonl"), eval.ReadSamples)
	if err != nil {
		return nil, err
	}
	weights, err := readBeside(filepath.Join(dir, "weights.csv"), alpacaeval.ReadWeights)
	if err != nil {
		return nil, err
	}
	scores := scoresOf(samples)
	var out []*measured
	for _, r := range results {
		if r.Suite == "" || r.Model == "" {
			return nil, fmt.Errorf("%s: a result without a suite or a model; was it written by expo eval?", path)
		}
		if len(r.Metrics) == 0 {
			return nil, fmt.Errorf("%s: no metrics of %s; result.json that expo eval writes to -o has them, what it prints has not", path, r.Model)
		}
		m := &measured{suite: r.Suite, version: r.Version, model: r.Model, source: path, judge: r.Config["judge"], baseline: r.Config["baseline"]}
		for _, w := range r.Warnings {
			m.warnings = append(m.warnings, r.Model+": "+strings.TrimPrefix(w, r.Model+": "))
		}
		m.metrics = r.Metrics
		switch r.Suite {
		case "alpacaeval":
			if r.Config["annotator"] != "" {
				m.judge = r.Config["annotator"]
			}
			m.addComparisons(r, samples, weights)
		case "mtbench":
			m.addRatings(scores)
			out = append(out, m.games()...)
			if _, ok := m.metric("all"); !ok {
				continue
			}
		}
		if m.judge == "" {
			m.judge = f.judge
		}
		out = append(out, m)
	}
	for _, m := range out {
		if m.judge == "" && m.suite != "alpacaeval" && m.suite != "mtbench" {
			m.judge = "–"
		}
	}
	return out, nil
}

// readBeside reads a file that may be absent.
func readBeside[T any](path string, read func(io.Reader) (T, error)) (T, error) {
	v, err := readWith(path, read)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return v, err
}

// addComparisons are the samples of an AlpacaEval result.
func (m *measured) addComparisons(r eval.Result, samples []eval.Sample, weights []alpacaeval.Fitted) {
	if x, ok := r.Metric("avg_length"); ok {
		m.length = x.Value
	}
	j := &alpacaeval.Judged{Source: m.source, Judge: m.judge, Baseline: m.baseline, Model: m.model}
	predictions := []float64{}
	for _, s := range samples {
		if s.Model != m.model {
			continue
		}
		c := alpacaeval.Comparison{Index: -1, Preference: math.NaN()}
		if i, err := strconv.Atoi(s.ID); err == nil && i >= 0 {
			c.Index = i
		}
		if s.Score != nil {
			c.Preference = *s.Score + 1
		}
		number := func(name string) float64 {
			if x, ok := s.Details[name].(float64); ok && x-x == 0 {
				return x
			}
			return math.NaN()
		}
		if x := number("length"); x >= 0 && x < 1e9 {
			c.LenModel = int(x)
		}
		if x := number("baseline_length"); x >= 0 && x < 1e9 {
			c.LenBaseline = int(x)
		}
		c.Instruction, _ = s.Details["instruction"].(string)
		j.Rows = append(j.Rows, c)
		predictions = append(predictions, number("glm_preference"))
	}
	if len(j.Rows) == 0 {
		return
	}
	m.judged, m.counted = j, r.Config["lc_align"] == string(alpacaeval.ByPosition)
	if _, ok := m.metric(lcMetric); !ok {
		return
	}
	m.fit = &lcFit{glm: alpacaeval.GLM(r.Config["lc_glm"]), tanh: math.NaN(), predictions: predictions}
	if x, ok := r.Metric("lc_c"); ok {
		m.fit.c = x.Value
	}
	for _, w := range weights {
		if w.Model == m.model {
			m.fit.tanh = w.Weights.Tanh
		}
	}
}

// scoresOf are MT-Bench's figures of samples.
func scoresOf(samples []eval.Sample) []mtbench.Scores {
	js, questions := ratingsOf(samples)
	return mtbench.Score(js, mtbench.ScoreOptions{Questions: questions, Draws: -1})
}

// ratingsOf are the ratings of samples, and the categories of their questions.
func ratingsOf(samples []eval.Sample) ([]mtbench.Judgment, []mtbench.Question) {
	var js []mtbench.Judgment
	var questions []mtbench.Question
	for _, s := range samples {
		name := judgedBy(s)
		_, game := s.Details["g1_winner"]
		id, err := strconv.Atoi(s.ID)
		if s.Details["judge"] == nil || game || err != nil || s.Turn < 1 || s.Turn > 2 {
			continue
		}
		j := mtbench.Judgment{QuestionID: id, Model: s.Model, Turn: s.Turn, Score: "-1"}
		if name != "" {
			j.Judge = []string{name}
		}
		if s.Score != nil {
			b, _ := json.Marshal(*s.Score)
			if json.Unmarshal(b, &j.Score) != nil {
				continue
			}
		}
		js = append(js, j)
		if s.Category != "" {
			questions = append(questions, mtbench.Question{ID: id, Category: s.Category})
		}
	}
	return js, questions
}

// addRatings takes apart what an MT-Bench result says, and finds its ratings.
func (m *measured) addRatings(scores []mtbench.Scores) {
	kept := m.metrics[:0:0]
	for _, x := range m.metrics {
		if c, ok := strings.CutPrefix(x.Name, "category/"); ok {
			x.Name = c
			m.categories = append(m.categories, x)
		} else {
			kept = append(kept, x)
		}
	}
	m.metrics = kept
	for i, s := range scores {
		if s.Model == m.model && (s.Judge == m.judge || m.judge == "") || mtbench.Label(scores, s) == m.model {
			m.scores, m.model, m.judge = &scores[i], s.Model, s.Judge
			return
		}
	}
}

// games splits the figures of games from those of ratings.
func (m *measured) games() []*measured {
	if _, ok := m.metric("win_rate_adjusted"); !ok {
		return nil
	}
	return []*measured{{suite: suitePairs, judge: m.judge, model: m.model, source: m.source, metrics: m.metrics}}
}

// readJudged reads FastChat's judgments.
func readJudged(path string, f *reportFlags) ([]*measured, error) {
	var pairs []mtbench.PairJudgment
	single, err := readWith(path, func(r io.Reader) ([]mtbench.Judgment, error) {
		single, p, err := mtbench.ReadJudgments(r)
		pairs = p
		return single, err
	})
	if err != nil {
		return nil, err
	}
	draws := f.draws
	if draws == 0 {
		draws = -1
	}
	var out []*measured
	scores := mtbench.Score(single, mtbench.ScoreOptions{Draws: draws})
	for i, s := range scores {
		out = append(out, &measured{suite: "mtbench", version: mtbench.Version, judge: s.Judge, model: s.Model, source: path,
			metrics: []eval.Metric{s.Turn1, s.Turn2, s.All}, categories: s.Categories, scores: &scores[i], warnings: s.Warnings()})
	}
	byJudge := map[string][]mtbench.PairJudgment{}
	var judges []string
	for _, p := range pairs {
		name := ""
		if len(p.Judge) > 0 {
			name = p.Judge[0]
		}
		if byJudge[name] == nil {
			judges = append(judges, name)
		}
		byJudge[name] = append(byJudge[name], p)
	}
	for _, judge := range judges {
		games, bias := mtbench.ScorePairs(byJudge[judge], max(draws, 0))
		for _, g := range games {
			m := &measured{suite: suitePairs, judge: judge, model: g.Model, source: path, metrics: []eval.Metric{g.WinRate, g.LossRate, g.WinRateAdjusted}}
			if bias.Games > 0 {
				m.warnings = append(m.warnings, fmt.Sprintf("%s: the order of the answers decided in %d of %d games; %d games have no verdict", judge, bias.Inconsistent, bias.Games, bias.Dropped))
			}
			out = append(out, m)
		}
	}
	for _, m := range out {
		if m.judge == "" {
			m.judge = f.judge
		}
	}
	return out, nil
}

// readBoard reads a leaderboard.
func readBoard(path string, f *reportFlags) ([]*measured, error) {
	rows, err := readWith(path, alpacaeval.ReadLeaderboard)
	if err != nil {
		return nil, err
	}
	judge := f.judge
	if judge == "" {
		judge = boardJudge(path)
	}
	var out []*measured
	for _, r := range rows {
		out = append(out, boardRow(r, path, judge))
	}
	return out, nil
}

// boardJudge is the judge of a leaderboard by the name of its file: alpaca_eval's
// own are called JUDGE_leaderboard.csv.
func boardJudge(path string) string {
	name, ok := strings.CutSuffix(strings.TrimSuffix(filepath.Base(path), ".gz"), "_leaderboard.csv")
	if !ok || !strings.Contains(name, "alpaca_eval") {
		return ""
	}
	return name
}

func boardRow(r alpacaeval.Row, path, judge string) *measured {
	m := &measured{suite: "alpacaeval", judge: judge, model: r.Model, source: path, length: float64(max(r.AverageLength, 0))}
	m.version = alpacaVersion(judge, "")
	n := max(r.Total, 0)
	m.metrics = []eval.Metric{{Name: wrMetric, Value: r.WinRate.WinRate, N: n, StdErr: r.StandardError}, {Name: lcMetric, Value: r.LC, N: n, StdErr: r.LCError}}
	return m
}

// measuredOf computes what follows from judgments alone.
func measuredOf(j *alpacaeval.Judged, draws int) *measured {
	wr := alpacaeval.NewWinRate(j.Preferences())
	m := &measured{suite: "alpacaeval", judge: j.Judge, baseline: j.Baseline, model: j.Model, source: j.Source, judged: j, length: float64(j.AverageLength())}
	m.version = alpacaVersion(j.Judge, j.Baseline)
	x := eval.Metric{Name: wrMetric, Value: wr.WinRate, N: wr.Total, StdErr: wr.StandardError}
	if draws > 0 {
		x.CI = alpacaeval.Bootstrap{Draws: draws, Seed: 1}.WinRateInterval(j.Preferences())
	}
	m.metrics = []eval.Metric{x}
	if wr.Missing > 0 {
		m.warnings = append(m.warnings, fmt.Sprintf("%s: %d rows have no judgment and count in no rate", j.Model, wr.Missing))
	}
	return m
}

// alpacaVersion is that of AlpacaEval which a judge or a baseline belongs to; ""
// for others.
func alpacaVersion(judge, baseline string) string {
	switch {
	case baseline == "text_davinci_003" || judge == "alpaca_eval_gpt4":
		return "1"
	case baseline == paperBaseline || judge == paperPairJudge:
		return "2.0"
	}
	return ""
}
