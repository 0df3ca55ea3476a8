package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"expo/eval"
)

// lmEvalFile is what is used of results.json of lm-evaluation-harness.
// https://github.com/EleutherAI/lm-evaluation-harness
type lmEvalFile struct {
	Results   map[string]map[string]any `json:"results"`
	Versions  map[string]any            `json:"versions"`
	ModelName string                    `json:"model_name"`
	Config    struct {
		Model     string          `json:"model"`
		ModelArgs json.RawMessage `json:"model_args"`
	} `json:"config"`
	Samples map[string]struct {
		Effective int `json:"effective"`
	} `json:"n-samples"`
}

// readLMEval reads results of lm-eval: the metrics of every task, with the
// filter where a task has several, and standard errors. Older files do not say
// how many samples there were.
func readLMEval(r io.Reader, path string) ([]*measured, error) {
	var f lmEvalFile
	if err := json.NewDecoder(r).Decode(&f); err != nil {
		return nil, fmt.Errorf("lm-eval: %w", err)
	}
	m := &measured{suite: "lm-eval", judge: "–", model: f.model(path), source: path}
	for _, task := range slices.Sorted(maps.Keys(f.Results)) {
		values := f.Results[task]
		for _, key := range slices.Sorted(maps.Keys(values)) {
			x, ok := values[key].(float64)
			name, filter, _ := strings.Cut(key, ",")
			if !ok || strings.HasSuffix(name, "_stderr") || name == "sample_len" {
				continue
			}
			x0 := eval.Metric{Name: task + " " + name, Value: x, N: f.Samples[task].Effective, StdErr: math.NaN()}
			errKey := name + "_stderr"
			if filter != "" {
				errKey += "," + filter
			}
			if filter != "" && filter != "none" {
				x0.Name += " (" + filter + ")"
			}
			if se, ok := values[errKey].(float64); ok {
				x0.StdErr = se
			}
			m.metrics = append(m.metrics, x0)
		}
	}
	if len(m.metrics) == 0 {
		return nil, errors.New("lm-eval: no figures in results")
	}
	return []*measured{m}, nil
}

// model is the model's name: as it is given, or in the arguments, or that of
// the directory that lm-eval makes for it.
func (f *lmEvalFile) model(path string) string {
	name := f.ModelName
	if name == "" {
		var line string
		var args map[string]any
		if json.Unmarshal(f.Config.ModelArgs, &line) == nil {
			for _, arg := range strings.Split(line, ",") {
				if v, ok := strings.CutPrefix(strings.TrimSpace(arg), "pretrained="); ok {
					name = v
				}
			}
		} else if json.Unmarshal(f.Config.ModelArgs, &args) == nil {
			name, _ = args["pretrained"].(string)
		}
	}
	if name == "" {
		name = filepath.Base(filepath.Dir(path))
		if name == "." || name == string(filepath.Separator) {
			name = strings.TrimSuffix(filepath.Base(path), ".json")
		}
	}
	return name
}
