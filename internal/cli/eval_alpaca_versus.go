package cli

import (
	"fmt"

	"expo/eval"
	"expo/eval/alpacaeval"
)

// alpacaVersusJSON is LC against another model than the judge's baseline.
type alpacaVersusJSON struct {
	Model    string   `json:"model"`
	Baseline string   `json:"baseline"`
	LC       *float64 `json:"length_controlled_winrate"`
	LCError  *float64 `json:"lc_standard_error"`

	// The mean difference of the win rates over the instructions that both
	// have a judgment of, in points, where both are scored.
	Difference      *float64 `json:"paired_difference,omitempty"`
	DifferenceError *float64 `json:"paired_standard_error,omitempty"`
	DifferenceN     int      `json:"paired_n,omitempty"`
}

// weightsOf finds a model among fits; the baseline of all of them has none.
func weightsOf(model string, fits []alpacaeval.Fitted, zero string) (alpacaeval.Weights, error) {
	for _, w := range fits {
		if w.Model == model {
			return w.Weights, nil
		}
	}
	if model == zero {
		return alpacaeval.Weights{}, nil
	}
	return alpacaeval.Weights{}, fmt.Errorf("no weights of %s; score it too, or name a file that holds it with --weights", model)
}

func addVersus(f *alpacaScoreFlags, scored []*alpacaScored, ref *alpacaeval.Reference) error {
	if f.glm == "" || f.glm == alpacaeval.Minimal {
		return usagef("--baseline needs weights of difficulties: use --lc v1 or noreg")
	}
	var fits []alpacaeval.Fitted
	zero := ""
	for _, s := range scored {
		if s.lc != nil {
			fits = append(fits, alpacaeval.Fitted{Model: s.Model, Weights: s.lc.Weights})
		}
		if s.Judge != scored[0].Judge || s.Baseline != scored[0].Baseline {
			return fmt.Errorf("--baseline compares models that one judge compared with one baseline; %s and %s were not", scored[0].Model, s.Model)
		}
		zero = s.Baseline
	}
	if f.weights != "" {
		more, err := readWith(f.weights, alpacaeval.ReadWeights)
		if err != nil {
			return err
		}
		fits = append(fits, more...)
	}
	if zero == "" {
		zero = "gpt4_1106_preview"
	}
	base, err := weightsOf(f.baseline, fits, zero)
	if err != nil {
		return err
	}
	for _, s := range scored {
		if s.lc == nil {
			continue
		}
		rate, stderr, err := s.lc.Weights.Against(base, ref.Difficulty)
		if err != nil {
			return err
		}
		s.versus = &alpacaVersusJSON{Model: s.Model, Baseline: f.baseline, LC: eval.Finite(rate), LCError: eval.Finite(stderr)}
		for _, other := range scored {
			if other.Model == f.baseline && other != s {
				d, stderr, n := alpacaeval.PairedDifference(s.Judged, other.Judged)
				s.versus.Difference, s.versus.DifferenceError, s.versus.DifferenceN = eval.Finite(d), eval.Finite(stderr), n
			}
		}
	}
	return nil
}

// alpacaVersus computes LC between models from the weights of their fits.
func (a *app) alpacaVersus(f *alpacaFlags, models []string) error {
	if f.baseline == "" {
		return usagef("--weights without --annotations needs --baseline MODEL")
	}
	if f.difficulty == "" && f.gamed == "" {
		return usagef("--weights needs the difficulties of the instructions: --difficulty FILE, or --gamed FILE")
	}
	fits, err := readWith(f.weights, alpacaeval.ReadWeights)
	if err != nil {
		return err
	}
	var ref *alpacaeval.Reference
	if f.difficulty != "" {
		ref, err = readWith(f.difficulty, alpacaeval.ReadDifficulty)
	} else {
		var gamed *alpacaeval.Gamed
		if gamed, err = readWith(f.gamed, alpacaeval.ReadGamed); err == nil {
			ref = gamed.Reference()
		}
	}
	if err != nil {
		return err
	}
	const zero = "gpt4_1106_preview"
	if len(models) == 0 {
		for _, w := range fits {
			models = append(models, w.Model)
		}
	}
	base, err := weightsOf(f.baseline, fits, zero)
	if err != nil {
		return err
	}
	docs := make([]alpacaVersusJSON, len(models))
	for i, m := range models {
		w, err := weightsOf(m, fits, zero)
		if err != nil {
			return err
		}
		rate, stderr, err := w.Against(base, ref.Difficulty)
		if err != nil {
			return err
		}
		docs[i] = alpacaVersusJSON{Model: m, Baseline: f.baseline, LC: eval.Finite(rate), LCError: eval.Finite(stderr)}
	}
	if a.json {
		if len(docs) == 1 {
			return a.printJSON(docs[0])
		}
		return a.printJSON(map[string]any{"models": docs})
	}
	t := a.newTable("model", "LC % against "+f.baseline, "± SE")
	for _, d := range docs {
		t.AppendRow([]any{d.Model, fmt.Sprintf("%.2f", *d.LC), fmt.Sprintf("%.2f", *d.LCError)})
	}
	t.Render()
	return nil
}
