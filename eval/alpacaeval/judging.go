package alpacaeval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"expo/eval"
	"expo/eval/judge"
	"expo/lm/generate"
)

// Judging is how outputs are compared.
type Judging struct {
	Worker
	Judge *judge.Pairwise
	// Price is what a reply costs in US dollars; nil if that is unknown.
	Price func(promptTokens, completionTokens int) float64
}

// Match pairs a model's outputs with the baseline's by instruction, in the
// baseline's order. Outputs to other instructions are counted, as are
// instructions without an output; two outputs to one are an error.
func Match(baseline, model []Output) (pairs []Annotation, unknown, absent int, err error) {
	at := make(map[string]int, len(model))
	for i, o := range model {
		if first, ok := at[o.Instruction]; ok {
			if model[first].Output == o.Output {
				continue
			}
			return nil, 0, 0, fmt.Errorf("alpacaeval: rows %d and %d answer the same instruction (%s); keep one of them", first, i, short(o.Instruction))
		}
		at[o.Instruction] = i
	}
	seen := make(map[string]bool, len(baseline))
	for _, b := range baseline {
		if seen[b.Instruction] {
			continue
		}
		seen[b.Instruction] = true
		i, ok := at[b.Instruction]
		if !ok {
			absent++
			continue
		}
		pairs = append(pairs, Annotation{Dataset: b.Dataset, Datasplit: b.Datasplit, Instruction: b.Instruction,
			Output1: b.Output, Generator1: b.Generator, Output2: model[i].Output, Generator2: model[i].Generator})
	}
	for s := range at {
		if !seen[s] {
			unknown++
		}
	}
	return pairs, unknown, absent, nil
}

// loggedReply is a reply of a judge in the log.
type loggedReply struct {
	Kind        string              `json:"kind"` // "judgment"
	Judge       string              `json:"annotator"`
	Template    string              `json:"template_sha256"`
	Instruction string              `json:"instruction"`
	Generator   string              `json:"generator_2"`
	Switched    bool                `json:"is_switched_outputs"`
	Sample      int                 `json:"sample,omitempty"`
	Try         int                 `json:"try,omitempty"`
	Readable    bool                `json:"readable"`
	Reply       judge.PairwiseReply `json:"reply"`
}

func (j *Judging) key(ask *judge.Ask) string {
	return eval.Key("judgment", j.Judge.ID, j.Identity, j.Judge.Template.SHA256(), keyOf(&ask.Request))
}

// Pending lists the requests that Run would make at first; replies that cannot
// be read cost more.
func (j *Judging) Pending(ctx context.Context, log *eval.Log, pairs []Annotation) ([]generate.Request, error) {
	var out []generate.Request
	for _, a := range pairs {
		if a.Preference != nil {
			continue
		}
		_, err := j.Judge.Judge(ctx, pairOf(&a), func(ctx context.Context, ask judge.Ask) (judge.PairwiseReply, error) {
			if reply, known, err := j.kept(log, j.key(&ask)); known || err != nil {
				return reply, err
			}
			out = append(out, ask.Request)
			// A reply that can be read, whatever the reading, so that all
			// samples and orders are seen.
			return j.stand(), nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// stand is a reply in the place of one that is not there yet.
func (j *Judging) stand() judge.PairwiseReply {
	r := judge.PairwiseReply{HasLogprobs: true, Text: "m", Logprobs: []judge.TokenChoice{{Token: "m", Logprob: 0}}}
	if j.Judge.First != "" {
		r.Text, r.Logprobs[0].Token = j.Judge.First, j.Judge.First
	}
	if j.Judge.Reading == judge.Ranking {
		first := j.Judge.First
		if first == "" {
			first = "model_1"
		}
		r.Text = fmt.Sprintf("[{'model': %q, 'rank': 1}]", first)
	}
	return r
}

func pairOf(a *Annotation) judge.Pair {
	return judge.Pair{Instruction: a.Instruction, Output1: a.Output1, Output2: a.Output2}
}

// Run judges pairs, except those that have a preference already, and gives
// them back with what was found. A pair that could not be judged has no
// preference; it is listed if that was for a failure, and otherwise counts as
// undecided: the judge answered what cannot be read.
func (j *Judging) Run(ctx context.Context, log *eval.Log, pairs []Annotation) (out []Annotation, failed []Failure, undecided int, err error) {
	out = make([]Annotation, len(pairs))
	copy(out, pairs)
	mute := make([]bool, len(pairs))
	errs, err := j.each(ctx, len(pairs), func(i int) error {
		a := &out[i]
		if a.Preference != nil {
			return nil
		}
		a.Annotator = j.Judge.ID
		v, err := j.Judge.Judge(ctx, pairOf(a), func(ctx context.Context, ask judge.Ask) (judge.PairwiseReply, error) {
			return j.answer(ctx, log, a, ask)
		})
		if err != nil {
			return err
		}
		j.record(a, v)
		mute[i] = a.Preference == nil
		return nil
	})
	for _, m := range mute {
		if m {
			undecided++
		}
	}
	return out, failures(errs, func(i int) string { return pairs[i].Instruction }), undecided, err
}

// kept gives the reply that the log has, unless it lacks what the verdict is
// read from: the server may have learned to give it.
func (j *Judging) kept(log *eval.Log, key string) (judge.PairwiseReply, bool, error) {
	var v loggedReply
	if log == nil {
		return v.Reply, false, nil
	}
	known, err := log.Get(key, &v)
	if err != nil {
		return v.Reply, false, errors.Join(err, errLog)
	}
	return v.Reply, known && (v.Reply.HasLogprobs || !j.Judge.NeedsLogprobs()), nil
}

// answer gives the reply from the log, or asks for it and keeps it.
func (j *Judging) answer(ctx context.Context, log *eval.Log, a *Annotation, ask judge.Ask) (judge.PairwiseReply, error) {
	k := j.key(&ask)
	if reply, known, err := j.kept(log, k); known || err != nil {
		return reply, err
	}
	start := time.Now()
	resp, err := j.Generator.Generate(ctx, ask.Request)
	if err != nil {
		return judge.PairwiseReply{}, err
	}
	reply := j.Judge.Reply(resp, time.Since(start))
	reply.Date = start.UTC().Format(time.RFC3339)
	_, readable := j.Judge.Read(reply)
	v := loggedReply{"judgment", j.Judge.ID, j.Judge.Template.SHA256(), a.Instruction, a.Generator2, ask.Switched, ask.Sample, ask.Try, readable, reply}
	if err := log.Append(k, v); err != nil {
		return reply, errors.Join(err, errLog)
	}
	return reply, nil
}

// record writes a verdict into its row.
func (j *Judging) record(a *Annotation, v judge.Verdict) {
	if !math.IsNaN(v.Preference) {
		p := v.Preference
		a.Preference = &p
	}
	if len(v.Rulings) == 0 { // equal outputs
		return
	}
	seconds, price := 0.0, 0.0
	var raw []any
	for _, r := range v.Rulings {
		for _, reply := range r.Replies {
			seconds += reply.Seconds
			if j.Price != nil {
				price += j.Price(reply.PromptTokens, reply.CompletionTokens)
			}
			raw = append(raw, j.completion(reply))
			a.Date = reply.Date
		}
	}
	a.Seconds = &seconds
	if j.Price != nil {
		a.Price = &price
	}
	if len(v.Rulings) == 1 {
		a.IsSwitched = &v.Rulings[0].Switched
	}
	var all any = raw
	switch len(raw) {
	case 0:
		return
	case 1:
		all = raw[0]
	}
	if b, err := json.Marshal(all); err == nil {
		a.RawCompletion = b
	}
}

// completion is a reply in the form that alpaca_eval keeps it in and reads it
// from: of judges by log-probabilities the choice, of others the text.
func (j *Judging) completion(r judge.PairwiseReply) any {
	if j.Judge.Reading != judge.FirstToken && j.Judge.Reading != judge.LastToken {
		return r.Text
	}
	type token struct {
		Token   string  `json:"token"`
		Logprob float64 `json:"logprob"`
	}
	type position struct {
		Top []token `json:"top_logprobs"`
	}
	var c struct {
		FinishReason string `json:"finish_reason"`
		Logprobs     struct {
			Content []position `json:"content"`
		} `json:"logprobs"`
		Text        string `json:"text"`
		TotalTokens int    `json:"total_tokens"`
	}
	c.FinishReason, c.Text, c.TotalTokens = r.FinishReason, r.Text, r.PromptTokens+r.CompletionTokens
	p := position{Top: []token{}}
	for _, t := range r.Logprobs {
		p.Top = append(p.Top, token{t.Token, t.Logprob})
	}
	c.Logprobs.Content = []position{p}
	return c
}

// Keep takes over the preferences that rows of an earlier run have, of the
// same judge for the same texts. Rows without a judgment, −1 included, are
// left to be judged again. It counts what was taken.
func Keep(pairs, earlier []Annotation, judgeID string) int {
	type key struct{ instruction, output1, output2 string }
	have := make(map[key]*Annotation, len(earlier))
	for i := range earlier {
		e := &earlier[i]
		if e.Preference == nil || e.Annotator != judgeID {
			continue
		}
		if _, ok := Valid(*e.Preference); ok {
			have[key{e.Instruction, e.Output1, e.Output2}] = e
		}
	}
	n := 0
	for i := range pairs {
		p := &pairs[i]
		e := have[key{p.Instruction, p.Output1, p.Output2}]
		if e == nil {
			continue
		}
		generator1, generator2 := p.Generator1, p.Generator2
		*p = *e
		p.Generator1, p.Generator2 = generator1, generator2
		p.GLMPreference = nil
		n++
	}
	return n
}

// JudgedOf are the rows of one model as comparisons.
func JudgedOf(rows []Annotation, source, judgeID, baseline, model string) *Judged {
	j := &Judged{Source: source, Judge: judgeID, Baseline: baseline, Model: model, Rows: make([]Comparison, len(rows))}
	for i, a := range rows {
		j.Rows[i] = comparisonOf(&a)
	}
	return j
}
