package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"

	"expo/eval"
	"expo/eval/alpacaeval"
)

// writeAlpaca writes result.json, samples.jsonl, leaderboard.csv and
// weights.csv. A result of another model, or of another configuration, is left
// alone without force.
func writeAlpaca(f *alpacaScoreFlags, dir string, scored []*alpacaScored) error {
	results := make([]eval.Result, len(scored))
	var samples []eval.Sample
	var rows []alpacaeval.Row
	var fits []alpacaeval.Fitted
	for i, s := range scored {
		results[i] = s.result(f)
		samples = append(samples, s.samples()...)
		rows = append(rows, s.row())
		if s.lc != nil {
			fits = append(fits, alpacaeval.Fitted{Model: s.Model, Weights: s.lc.Weights})
		}
	}
	var doc any = results
	if len(results) == 1 {
		doc = results[0]
	}
	path := filepath.Join(dir, "result.json")
	if err := sameResult(path, results); err != nil && !f.force {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := eval.WriteFile(filepath.Join(dir, "samples.jsonl"), func(w io.Writer) error { return eval.WriteSamples(w, samples) }); err != nil {
		return err
	}
	if err := eval.WriteFile(filepath.Join(dir, "leaderboard.csv"), func(w io.Writer) error { return alpacaeval.WriteLeaderboard(w, rows) }); err != nil {
		return err
	}
	if len(fits) > 0 {
		if err := eval.WriteFile(filepath.Join(dir, "weights.csv"), func(w io.Writer) error { return alpacaeval.WriteWeights(w, fits) }); err != nil {
			return err
		}
	}
	return eval.WriteFile(path, func(w io.Writer) error { return writeJSON(w, doc) })
}

// sameResult fails if path holds results of anything else.
func sameResult(path string, results []eval.Result) error {
	old, err := priorResults(path)
	if err != nil || old == nil {
		return err
	}
	if len(old) == len(results) {
		same := true
		for i := range old {
			same = same && old[i].Model == results[i].Model && reflect.DeepEqual(old[i].Config, results[i].Config)
		}
		if same {
			return nil
		}
	}
	return fmt.Errorf("%s exists and is of another run (%s); choose another -o, or --force", path, old[0].Model)
}

// samples are the model's comparisons, a line each.
func (s *alpacaScored) samples() []eval.Sample {
	out := make([]eval.Sample, len(s.Rows))
	for i, r := range s.Rows {
		index := r.Index
		if index < 0 {
			index = i
		}
		out[i] = eval.Sample{ID: strconv.Itoa(index), Model: s.Model, Details: map[string]any{"length": r.LenModel, "baseline_length": r.LenBaseline}}
		if p, ok := alpacaeval.Valid(r.Preference); ok {
			q := p - 1
			out[i].Score = &q
		} else {
			out[i].Error = "no judgment"
		}
		if r.Instruction != "" {
			out[i].Details["instruction"] = r.Instruction
		}
		if s.lc != nil {
			out[i].Details["glm_preference"] = s.lc.Predictions[i]
		}
	}
	return out
}
