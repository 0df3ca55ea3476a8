package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"expo/eval"
	"expo/eval/mtbench"
)

// A folder may hold the answers of several models and the judgments of several
// judges, as FastChat's do. A run adds to them; what it would replace, answers
// or judgments that were made otherwise, is found out before anything is asked.

// judgeSettings are those of a configuration that only judgments depend on.
var judgeSettings = []string{"judge", "judge_identity", "judge_temperature", "judge_max_tokens", "judge_prompts_sha256", "reference_answers_sha256", "references_by", "judge_reported"}

// differing lists in what two configurations differ, the settings of the judge
// left out unless judged.
func differing(old, now map[string]string, judged bool) []string {
	var out []string
	all := maps.Clone(now)
	maps.Copy(all, old)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		switch {
		case k == "judge_reported", !judged && slices.Contains(judgeSettings, k), old[k] == now[k]:
		case k == "answers_sha256" && old[k] == "" && old["model_identity"] == "": // of answers from a file, before this was recorded
		default:
			out = append(out, fmt.Sprintf("%s %q, now %q", k, old[k], now[k]))
		}
	}
	return out
}

// names are those of the models of this run.
func (r *mtbenchRun) names() []string {
	var out []string
	for _, m := range r.models {
		out = append(out, m.Model)
	}
	if r.answerer != nil && !slices.Contains(out, r.answerer.Model) {
		out = append(out, r.answerer.Model)
	}
	return out
}

// settings are what figures of a model depend on; what the judge's servers
// report is not known before they are asked.
func (r *mtbenchRun) settings(model string) map[string]string {
	c := maps.Clone(r.config)
	if r.answerer != nil && r.answerer.Model == model {
		q := r.f.request
		c["temperature"] = "by category"
		if r.f.forced {
			c["temperature"] = fmt.Sprint(r.f.temperature)
		}
		for k, v := range map[string]any{
			"max_tokens": q.MaxTokens, "top_p": q.TopP, "top_k": q.TopK, "min_p": q.MinP, "presence_penalty": q.PresencePenalty,
			"frequency_penalty": q.FrequencyPenalty, "repetition_penalty": q.RepetitionPenalty, "seed": q.Seed, "system": r.f.system,
		} {
			c[k] = fmt.Sprint(v)
		}
		if len(q.Stop) > 0 {
			c["stop"] = fmt.Sprintf("%q", q.Stop)
		}
		if len(q.StopTokenIDs) > 0 {
			c["stop_token_ids"] = fmt.Sprint(q.StopTokenIDs)
		}
		c["model_identity"] = eval.Key(r.model.identity)
	}
	for _, m := range r.models {
		if m.Model != model || r.answerer != nil && r.answerer.Model == model {
			continue
		}
		sum := answersSum(m.Answers)
		if made := r.madeHere(model, sum); made != nil {
			maps.Copy(made, c)
			c = made
		} else {
			c["answers_sha256"] = sum
		}
	}
	if r.judge != nil {
		c["judge"], c["judge_identity"] = r.judge.Name, eval.Key(r.judging.identity)
		c["judge_temperature"], c["judge_max_tokens"] = fmt.Sprint(r.f.judgeRequest.Temperature), fmt.Sprint(r.f.judgeRequest.MaxTokens)
		c["references_by"] = "gpt-4"
	}
	return c
}

// answersSum identifies the texts of answers.
func answersSum(answers []mtbench.Answer) string {
	texts := map[int][]string{}
	for _, a := range answers {
		texts[a.QuestionID] = a.Choices[0].Turns
	}
	return eval.Key(texts)
}

// madeBy is the key under which the log has the settings of a model's answers.
func madeBy(model string) string { return eval.Key("mtbench settings", model) }

// madeHere are the settings of answers from a file that a run in this folder has
// made, nil for others.
func (r *mtbenchRun) madeHere(model, sum string) map[string]string {
	var made map[string]string
	if ok, err := r.log.Get(madeBy(model), &made); !ok || err != nil {
		return nil
	}
	answers, err := readWith(r.answerFile(model), mtbench.ReadAnswers)
	if err != nil || answersSum(answers) != sum {
		return nil
	}
	return made
}

// made records the settings of the answers that are written.
func (r *mtbenchRun) made() error {
	var old map[string]string
	now := r.settings(r.answerer.Model)
	for _, k := range judgeSettings {
		delete(now, k)
	}
	if ok, err := r.log.Get(madeBy(r.answerer.Model), &old); err != nil || ok && maps.Equal(old, now) {
		return err
	}
	return r.log.Append(madeBy(r.answerer.Model), now)
}

func (r *mtbenchRun) answerFile(model string) string {
	return filepath.Join(r.dir, "model_answer", model+".jsonl")
}

func (r *mtbenchRun) judgmentFile(kind string) string {
	return filepath.Join(r.dir, "model_judgment", r.judge.Name+"_"+kind+".jsonl")
}

// unlike fails if the run would replace what another one has left.
func (r *mtbenchRun) unlike() error {
	old, err := priorResults(filepath.Join(r.dir, "result.json"))
	if err != nil {
		return err
	}
	var other []string
	add := func(model string, list []string) {
		for _, d := range list {
			if d = model + ": " + d; !slices.Contains(other, d) {
				other = append(other, d)
			}
		}
	}
	for _, o := range old {
		if o.Suite != "mtbench" {
			return fmt.Errorf("%s exists and is of another run, of %s on %s; choose another -o, or --force", filepath.Join(r.dir, "result.json"), o.Suite, o.Model)
		}
	}
	asked := map[int]bool{}
	for _, q := range r.questions {
		asked[q.ID] = true
	}
	for _, model := range r.names() {
		now := r.settings(model)
		known := false
		for _, o := range old {
			if o.Model == model {
				known = true
				add(model, differing(o.Config, now, r.judge != nil && o.Config["judge"] == r.judge.Name))
			}
		}
		if r.answerer == nil || r.answerer.Model != model {
			continue
		}
		var made map[string]string
		if ok, err := r.log.Get(madeBy(model), &made); err != nil {
			return err
		} else if ok {
			known = true
			add(model, differing(made, now, false))
		}
		answers, err := readWith(r.answerFile(model), mtbench.ReadAnswers)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%w; choose another -o, or --force", err)
		}
		if !known {
			add(model, []string{"its answers are of no run here"})
		}
		left := 0
		for _, a := range answers {
			if !asked[a.QuestionID] {
				left++
			}
		}
		if left > 0 {
			add(model, []string{fmt.Sprintf("%d of %d answers are to questions that this run leaves out", left, len(answers))})
		}
	}
	if r.judge != nil {
		left, err := r.leftOut(asked)
		if err != nil {
			return fmt.Errorf("%w; choose another -o, or --force", err)
		}
		for _, model := range slices.Sorted(maps.Keys(left)) {
			add(model, []string{fmt.Sprintf("%d judgments are of questions that this run leaves out", left[model])})
		}
	}
	if other == nil {
		return nil
	}
	return fmt.Errorf("%s holds results of another run (%s); choose another -o, or another --name or --judge-name, or --force", r.dir, strings.Join(other, ", "))
}

// leftOut counts this judge's judgments of this run's models that are of other
// questions than this run's.
func (r *mtbenchRun) leftOut(asked map[int]bool) (map[string]int, error) {
	names := r.names()
	left := map[string]int{}
	for _, kind := range []string{"single", "pair"} {
		if r.f.mode != kind && r.f.mode != "both" {
			continue
		}
		single, pairs, err := r.earlier(kind)
		if err != nil {
			return nil, err
		}
		for _, j := range single {
			if !asked[j.QuestionID] && slices.Contains(names, j.Model) {
				left[j.Model]++
			}
		}
		for _, p := range pairs {
			if !asked[p.QuestionID] && slices.Contains(names, p.Model1) && slices.Contains(names, p.Model2) {
				left[p.Model2]++
			}
		}
	}
	return left, nil
}

// earlier are the judge's judgments that the folder holds.
func (r *mtbenchRun) earlier(kind string) ([]mtbench.Judgment, []mtbench.PairJudgment, error) {
	path := r.judgmentFile(kind)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	single, pairs, err := readJudgments(path)
	if err != nil && r.f.force {
		return nil, nil, nil
	}
	return single, pairs, err
}
