package cli

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"

	"expo/align/search"
	"expo/eval"
	"expo/internal/report"
)

// searchDocument is what search.json holds and --json prints.
type searchDocument struct {
	BestAlpha search.Number `json:"best_alpha"`
	*search.Result
	Rows            any                 `json:"rows"` // the result's; of a scan alone, the scan's
	SFT             string              `json:"sft,omitempty"`
	Aligned         string              `json:"aligned,omitempty"`
	Endpoints       []string            `json:"endpoints,omitempty"`
	Reward          string              `json:"reward_model,omitempty"`
	PromptsFile     string              `json:"prompts_file,omitempty"`
	Prompts         int                 `json:"prompts"`
	SamplesPerAlpha int                 `json:"samples_per_alpha"`
	Sampling        map[string]any      `json:"sampling"`
	Scan            *search.Scanned     `json:"scan,omitempty"`
	Correlation     *search.Correlation `json:"correlation,omitempty"`
	Version         string              `json:"expo_version"`
}

func (s *searchRun) document() *searchDocument {
	f := s.flags
	r := s.request
	return &searchDocument{
		BestAlpha: search.Number(math.NaN()), Rows: []search.Row{},
		SFT: f.sft, Aligned: f.aligned, Endpoints: f.endpoints, Reward: f.reward.model + f.reward.url,
		PromptsFile: f.prompts, Prompts: len(s.prompts), SamplesPerAlpha: len(s.prompts) * s.seeds,
		Sampling: map[string]any{
			"max_tokens": r.MaxTokens, "temperature": r.Temperature, "top_p": r.TopP, "top_k": r.TopK,
			"presence_penalty": r.PresencePenalty, "frequency_penalty": r.FrequencyPenalty, "seed": s.seed, "seeds": s.seeds, "chat_template": !s.raw,
		},
		Version: Version,
	}
}

// write makes search.json, report.html and the plots.
func (s *searchRun) write(doc *searchDocument) error {
	switch {
	case doc.Result != nil:
		doc.BestAlpha, doc.Rows = doc.Result.BestAlpha, doc.Result.Rows
	case doc.Scan != nil:
		doc.BestAlpha, doc.Rows = doc.Scan.BestAlpha, doc.Scan.Rows
	}
	dir := s.flags.output
	err := eval.WriteFile(filepath.Join(dir, "search.json"), func(w io.Writer) error { return writeJSON(w, doc) })
	if err != nil {
		return err
	}
	if err := eval.WriteFile(filepath.Join(dir, "report.html"), s.page(doc).WriteHTML); err != nil {
		return err
	}
	if !s.flags.plots {
		return nil
	}
	for _, p := range searchPlots(doc) {
		fig := p.plot.Figure(720, 400)
		if err := eval.WriteFile(filepath.Join(dir, p.name+".svg"), fig.WriteSVG); err != nil {
			return err
		}
		err := eval.WriteFile(filepath.Join(dir, p.name+".png"), func(w io.Writer) error { return fig.WritePNG(w, 2) })
		if err != nil {
			return err
		}
	}
	return nil
}

// print puts the best α on standard output, and the table beside it.
func (s *searchRun) print(doc *searchDocument) error {
	a := s.a
	if a.json {
		return a.printJSON(doc)
	}
	if !a.quiet {
		if doc.Scan != nil {
			if err := scanTable(doc.Scan).WriteText(a.err); err != nil {
				return err
			}
			fmt.Fprintln(a.err)
		}
		if doc.Result != nil {
			if err := searchTable(doc.Result).WriteText(a.err); err != nil {
				return err
			}
			fmt.Fprintln(a.err)
			if err := rewardChart(doc.Result).WriteText(a.err, 78, 14); err != nil {
				return err
			}
			fmt.Fprintln(a.err)
			for _, n := range doc.Result.Notes {
				a.say("%s", n)
			}
		}
		if c := doc.Correlation; c != nil && c.N > 2 {
			a.say("over %d α, reward correlates with the scan's margin %.2f, accuracy %.2f, DPO likelihood %.2f", c.N, float64(c.Margin), float64(c.Accuracy), float64(c.Loss))
		}
		a.say("wrote %s", filepath.Join(s.flags.output, "report.html"))
	}
	if math.IsNaN(float64(doc.BestAlpha)) {
		return nil
	}
	_, err := fmt.Fprintln(a.out, shortFloat(float64(doc.BestAlpha)))
	return err
}

func shortNumber(n search.Number) string {
	if math.IsNaN(float64(n)) {
		return "none"
	}
	return shortFloat(float64(n))
}

// searchTable has a row for each α.
func searchTable(r *search.Result) *report.Table {
	t := &report.Table{Columns: []report.Column{
		{Name: "α", Key: "alpha", Format: "%g"},
		{Name: "reward", Format: "%.3f"},
		{Name: "− aligned", Key: "difference", Format: "%+.3f"},
		{Name: "at equal length", Key: "adjusted_difference", Format: "%+.3f"},
		{Name: "length", Format: "%.0f"},
		{Name: "× aligned", Key: "length_growth", Format: "%.2f"},
		{Name: "finished", Format: "%.3f"},
		{Name: "repetition", Format: "%.3f"},
	}}
	tasks := map[string]bool{}
	var names []string
	for _, row := range r.Rows {
		for name := range row.Tasks {
			if !tasks[name] {
				tasks[name] = true
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, n := range names {
		t.Columns = append(t.Columns, report.Column{Name: n, Format: "%.3f"})
	}
	t.Columns = append(t.Columns, report.Column{Name: "best in", Key: "best_share", Format: "%.0f %%"}, report.Column{Name: "", Key: "note", Text: true})
	for i, row := range r.Rows {
		if row.Alpha == float64(r.BestAlpha) {
			t.Strong = append(t.Strong, i)
		}
		cells := []any{
			row.Alpha, value(row.Reward, row.RewardSE), value(row.Difference, row.DifferenceSE), value(row.AdjustedDifference, row.AdjustedDifferenceSE),
			float64(row.Length), float64(row.LengthGrowth), float64(row.Finished), float64(row.Repetition),
		}
		if row.Alpha == search.Aligned {
			cells[2], cells[3] = nil, nil
		}
		for _, n := range names {
			cells = append(cells, value(row.Tasks[n].Mean, row.Tasks[n].SE))
		}
		t.Rows = append(t.Rows, append(cells, 100*row.BestShare, rowNote(r, row)))
	}
	return t
}

func rowNote(r *search.Result, row search.Row) string {
	switch {
	case row.Gate != "":
		return "gate: " + row.Gate
	case row.Alpha == float64(r.BestAlpha):
		return "best"
	case row.Alpha == float64(r.HighestAlpha):
		return "highest, not told apart"
	case row.Alpha == search.SFT:
		return "SFT"
	case row.Alpha == search.Aligned:
		return "aligned"
	case row.Tied:
		return "not told apart"
	}
	return row.Added
}

func value(x, se search.Number) report.Value { return report.Value{X: float64(x), SE: float64(se)} }

func scanTable(r *search.Scanned) *report.Table {
	t := &report.Table{Title: fmt.Sprintf("Scan of %d pairs", r.Pairs), Columns: []report.Column{
		{Name: "α", Key: "alpha", Format: "%g"}, {Name: "margin", Format: "%.2f"}, {Name: "accuracy", Format: "%.3f"},
		{Name: fmt.Sprintf("DPO loss (β %g)", r.Beta), Key: "loss", Format: "%.4f"},
		{Name: "log p chosen", Key: "chosen_logprob", Format: "%.3f"}, {Name: "rejected", Key: "rejected_logprob", Format: "%.3f"}, {Name: "", Key: "note", Text: true},
	}}
	for i, row := range r.Rows {
		note := ""
		if row.Promising {
			note = "promising"
		}
		if row.Alpha == float64(r.BestAlpha) {
			t.Strong = append(t.Strong, i)
			note = "lowest loss"
		}
		t.Rows = append(t.Rows, []any{row.Alpha, value(row.Margin, row.MarginSE), float64(row.Accuracy), value(row.Loss, row.LossSE), float64(row.ChosenLogprob), float64(row.RejectedLogprob), note})
	}
	return t
}
