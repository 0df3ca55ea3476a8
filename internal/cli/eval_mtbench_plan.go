package cli

import (
	"fmt"
	"slices"
	"strings"

	"expo/eval/mtbench"
	"expo/lm/generate"
	"expo/lm/generate/openai"
)

// matches are the games of --mode pair.
func (r *mtbenchRun) matches(models []mtbench.Answers) ([]mtbench.Match, error) {
	var names []string
	for _, m := range models {
		names = append(names, m.Model)
	}
	if r.f.baseline == "" {
		if len(names) < 2 {
			return nil, usagef("--mode %s needs two models: give answers of another with --answers FILE", r.f.mode)
		}
		return mtbench.AllMatches(names), nil
	}
	if !slices.Contains(names, r.f.baseline) {
		return nil, usagef("--baseline %s: there are answers of %s only", r.f.baseline, strings.Join(names, ", "))
	}
	var out []mtbench.Match
	for _, n := range names {
		if n != r.f.baseline {
			out = append(out, mtbench.Match{Model1: r.f.baseline, Model2: n})
		}
	}
	return out, nil
}

// stages is what will be asked for, with answers that are not there yet taken
// to be as long as they may be.
func (r *mtbenchRun) stages() ([]estimate, error) {
	var out []estimate
	add := func(s *speaker, what string, requests []generate.Request) {
		if s.servers != nil {
			out = append(out, s.estimate(what, requests))
			return
		}
		out = append(out, estimate{what: what, Estimate: openai.Price{}.Estimate(requests...), model: s.name, priced: true, local: true})
	}
	models := slices.Clone(r.models)
	if r.answerer != nil {
		requests, answers, err := r.answerer.Plan(r.log, r.questions)
		if err != nil {
			return nil, err
		}
		add(r.model, "answers", requests)
		models = append(models, *answers)
	}
	if r.f.answersOnly {
		return out, nil
	}
	if r.f.mode != "pair" {
		requests, err := r.judge.PlanGrade(r.log, r.questions, models)
		if err != nil {
			return nil, err
		}
		add(r.judging, "ratings", requests)
	}
	if r.f.mode != "single" {
		matches, err := r.matches(models)
		if err != nil {
			return nil, err
		}
		requests, err := r.judge.PlanCompare(r.log, r.questions, models, matches)
		if err != nil {
			return nil, err
		}
		add(r.judging, "comparisons", requests)
	}
	return out, nil
}

// stageJSON is a stage of a dry run.
type stageJSON struct {
	Stage      string          `json:"stage"`
	Model      string          `json:"model"`
	Estimate   openai.Estimate `json:"estimate"`
	PriceKnown bool            `json:"price_known"`
}

func (r *mtbenchRun) printStages(stages []estimate) error {
	docs := []stageJSON{}
	for _, e := range stages {
		docs = append(docs, stageJSON{e.what, e.model, e.Estimate, e.priced})
	}
	if r.json {
		return r.printJSON(map[string]any{"stages": docs})
	}
	for _, e := range stages {
		cost := "at a price that is not known"
		if e.priced {
			cost = fmt.Sprintf("at most about %.2f", e.Cost)
		}
		if _, err := fmt.Fprintf(r.out, "%s: %d requests to %s, about %d tokens in, at most %d out, %s\n", e.what, e.Requests, e.model, e.PromptTokens, e.CompletionTokens, cost); err != nil {
			return err
		}
	}
	return nil
}
