package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"expo/eval"
	"expo/eval/mtbench"
)

// replaced is old with the rows of each key that now has rows of in their place;
// further keys follow.
func replaced[T any](old, now []T, key func(T) string) []T {
	rows := map[string][]T{}
	for _, x := range now {
		rows[key(x)] = append(rows[key(x)], x)
	}
	var out []T
	written := map[string]bool{}
	for _, x := range old {
		k := key(x)
		if _, ok := rows[k]; !ok {
			out = append(out, x)
		} else if !written[k] {
			written[k] = true
			out = append(out, rows[k]...)
		}
	}
	for _, x := range now {
		if k := key(x); !written[k] {
			written[k] = true
			out = append(out, rows[k]...)
		}
	}
	return out
}

// judgedBy is the judge of a line of samples.jsonl.
func judgedBy(s eval.Sample) string {
	switch names := s.Details["judge"].(type) {
	case []string:
		if len(names) > 0 {
			return names[0]
		}
	case []any:
		if len(names) > 0 {
			name, _ := names[0].(string)
			return name
		}
	}
	return ""
}

// sampleKey tells the lines of samples.jsonl apart that are made together.
func sampleKey(s eval.Sample) string {
	baseline, _ := s.Details["baseline"].(string)
	return strings.Join([]string{s.Model, judgedBy(s), baseline}, "\x00")
}

// whole is what the folder holds once this run's figures are in it: those of
// other models and other judges stay as they are.
func (r *mtbenchResult) whole() ([]eval.Result, []eval.Sample, error) {
	path := filepath.Join(r.dir, "result.json")
	old, err := priorResults(path)
	if err != nil {
		if !r.f.force {
			return nil, nil, err
		}
		old = nil
	}
	now := r.results()
	mine := func(model string) map[string]string { // this run's settings of a model
		for _, n := range now {
			if n.Model == model {
				return n.Config
			}
		}
		return nil
	}
	for _, o := range old {
		if r.f.force || r.checked {
			break
		}
		if o.Suite != "mtbench" {
			return nil, nil, fmt.Errorf("%s exists and is of another run, of %s on %s; choose another -o, or --force", path, o.Suite, o.Model)
		}
		for _, n := range now {
			if o.Model == n.Model && o.Config["judge"] == n.Config["judge"] {
				if list := differing(o.Config, n.Config, true); list != nil {
					return nil, nil, fmt.Errorf("%s exists and is of another run, of %s (%s); choose another -o, or --force", path, o.Model, strings.Join(list, ", "))
				}
			}
		}
	}
	samples, err := readBeside(filepath.Join(r.dir, "samples.jsonl"), eval.ReadSamples)
	if err != nil && !r.f.force {
		return nil, nil, err
	}
	// With --force, answers may have been made anew: no figures of the others
	// are left.
	stale := func(model, judge string) bool {
		for _, o := range old {
			now := mine(model)
			if o.Model == model && o.Config["judge"] == judge && now != nil && r.f.force && differing(o.Config, now, judge == now["judge"]) != nil {
				return true
			}
		}
		return false
	}
	samples = slices.DeleteFunc(samples, func(s eval.Sample) bool {
		baseline, _ := s.Details["baseline"].(string)
		return len(old) == 0 || stale(s.Model, judgedBy(s)) || stale(baseline, judgedBy(s))
	})
	old = slices.DeleteFunc(slices.Clone(old), func(o eval.Result) bool {
		return o.Suite != "mtbench" || stale(o.Model, o.Config["judge"])
	})
	samples = replaced(samples, r.samples(), sampleKey)
	for _, judge := range r.judges() {
		var games []mtbench.PairJudgment
		for _, p := range gamesOf(samples) {
			if len(p.Judge) > 0 && p.Judge[0] == judge || len(p.Judge) == 0 && judge == "" {
				games = append(games, p)
			}
		}
		scores, _ := mtbench.ScorePairs(games, r.f.draws)
		for _, g := range scores {
			now = r.addMetrics(now, g.Model, judge, g.WinRate, g.LossRate, g.WinRateAdjusted)
		}
	}
	out := old
	for _, n := range now {
		i := slices.IndexFunc(out, func(o eval.Result) bool { return o.Model == n.Model && o.Config["judge"] == n.Config["judge"] })
		if i < 0 {
			out = append(out, n)
			continue
		}
		out[i] = joined(out[i], n, r.has(n.Model))
	}
	return out, samples, nil
}

// has tells whether a model is one of this run's.
func (r *mtbenchResult) has(model string) bool {
	return slices.ContainsFunc(r.single, func(j mtbench.Judgment) bool { return j.Model == model }) ||
		slices.ContainsFunc(r.pairs, func(p mtbench.PairJudgment) bool { return p.Model1 == model || p.Model2 == model })
}

// joined is a result with the metrics of a later one in their place. What is
// said of metrics that are left is said still.
func joined(old, now eval.Result, same bool) eval.Result {
	out := old
	out.Metrics = slices.Clone(old.Metrics)
	renewed := 0
	for _, m := range now.Metrics {
		i := slices.IndexFunc(out.Metrics, func(o eval.Metric) bool { return o.Name == m.Name })
		if i < 0 {
			out.Metrics = append(out.Metrics, m)
			continue
		}
		out.Metrics[i] = m
		renewed++
	}
	if !same {
		return out
	}
	out.Version, out.Config, out.Warnings = now.Version, now.Config, now.Warnings
	if renewed < len(old.Metrics) {
		for _, w := range old.Warnings {
			if !slices.Contains(out.Warnings, w) {
				out.Warnings = append(slices.Clone(out.Warnings), w)
			}
		}
	}
	return out
}

// gamesOf are the games of samples.
func gamesOf(samples []eval.Sample) []mtbench.PairJudgment {
	var out []mtbench.PairJudgment
	for _, s := range samples {
		baseline, ok := s.Details["baseline"].(string)
		g1, ok1 := s.Details["g1_winner"].(string)
		g2, ok2 := s.Details["g2_winner"].(string)
		id := 0
		if _, err := fmt.Sscan(s.ID, &id); err != nil || !ok || !ok1 || !ok2 {
			continue
		}
		p := mtbench.PairJudgment{QuestionID: id, Model1: baseline, Model2: s.Model, G1Winner: g1, G2Winner: g2, Turn: s.Turn}
		if judge := judgedBy(s); judge != "" {
			p.Judge = []string{judge}
		}
		out = append(out, p)
	}
	return out
}
