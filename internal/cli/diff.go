package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"expo"
)

type diffFlags struct {
	pairFlags
	policies policyFlags
	by, sort string
	limit    int
	jobs     int
	seed     uint64
}

func (a *app) diff() *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use:   "diff --sft MODEL --aligned MODEL",
		Short: "Compare a pair: what keeps it apart, where δ lies, what α would act as",
		Long: `List everything that keeps a pair from being extrapolated; show where
δ = aligned − SFT lies, by module, layer or tensor; and measure, for several α and
output types, the effective α that rounding would leave.

Exit status 3 if the pair is incompatible as it is.
` + exitHelp,
		Example: `  expo diff --sft SFT --aligned DPO
  expo diff --sft SFT --aligned DPO --by tensor --sort relative_norm --limit 20`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDiff(cmd, &f) },
	}
	f.pairFlags.add(cmd)
	f.policies.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.by, "by", "module", "group by `module|layer|tensor`")
	fl.StringVar(&f.sort, "sort", "", "sort by `COLUMN`: name, tensors, elements, delta_norm, aligned_norm, relative_norm, unchanged, share (default: the order of the model)")
	fl.IntVar(&f.limit, "limit", 0, "print at most so many rows (default: all)")
	fl.IntVarP(&f.jobs, "jobs", "j", 0, "workers (default: the number of cores, 16 at most)")
	fl.Uint64Var(&f.seed, "seed", 0, "of the stochastic rounding that is measured")
	return cmd
}

// columns are the numbers that rows can be sorted by, the largest first.
var columns = map[string]func(expo.Delta) float64{
	"tensors":       func(d expo.Delta) float64 { return float64(d.Tensors) },
	"elements":      func(d expo.Delta) float64 { return float64(d.Elements) },
	"delta_norm":    func(d expo.Delta) float64 { return d.DeltaNorm },
	"aligned_norm":  func(d expo.Delta) float64 { return d.AlignedNorm },
	"relative_norm": func(d expo.Delta) float64 { return d.RelativeNorm },
	"unchanged":     func(d expo.Delta) float64 { return d.Unchanged },
	"share":         func(d expo.Delta) float64 { return d.Share },
}

func (a *app) runDiff(cmd *cobra.Command, f *diffFlags) error {
	if err := f.complete(); err != nil {
		return err
	}
	if !slices.Contains([]string{"module", "layer", "tensor"}, f.by) {
		return usagef("--by %s: use module, layer or tensor", f.by)
	}
	column := strings.ReplaceAll(f.sort, "-", "_")
	if _, ok := columns[column]; !ok && column != "" && column != "name" {
		return usagef("--sort %s: there is no such column; see expo diff --help", f.sort)
	}
	opt := expo.Options{Seed: f.seed}
	if err := f.policies.set(&opt); err != nil {
		return err
	}
	p, err := openPair(f.sft, f.aligned)
	if err != nil {
		return err
	}
	defer p.Close()
	bar := a.progress("comparing")
	an, err := expo.Examine(cmd.Context(), p.Pair, opt, f.jobs, bar.update)
	bar.stop()
	if err != nil {
		return err
	}
	for _, rows := range [][]expo.Delta{an.Tensors, an.Layers, an.Modules} {
		sortDeltas(rows, column)
	}
	if a.json {
		if err := a.printJSON(an); err != nil {
			return err
		}
	} else {
		a.printAnatomy(an, f)
	}
	return an.Err()
}

func sortDeltas(rows []expo.Delta, column string) {
	switch key, ok := columns[column]; {
	case ok:
		slices.SortStableFunc(rows, func(x, y expo.Delta) int { return cmp.Compare(key(y), key(x)) })
	case column == "name":
		slices.SortStableFunc(rows, func(x, y expo.Delta) int { return cmp.Compare(x.Name, y.Name) })
	}
}

func (a *app) printAnatomy(an *expo.Anatomy, f *diffFlags) {
	fmt.Fprintln(a.out, an.Kind)
	for _, list := range [][]string{an.Settings, an.Vocabulary, an.Notes} {
		for _, line := range list {
			fmt.Fprintln(a.out, "  "+message(fmt.Errorf("%s", line)))
		}
	}
	if an.Total.Tensors == 0 {
		return
	}
	rows := map[string][]expo.Delta{"module": an.Modules, "layer": an.Layers, "tensor": an.Tensors}[f.by]
	fmt.Fprintln(a.out)
	t := a.newTable(f.by, "tensors", "elements", "‖δ‖", "‖θ‖", "‖δ‖/‖θ‖", "unchanged", "share of ‖δ‖²")
	var right []table.ColumnConfig
	for i := 2; i <= 8; i++ {
		right = append(right, table.ColumnConfig{Number: i, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(right)
	shown := rows
	if f.limit > 0 && f.limit < len(rows) {
		shown = rows[:f.limit]
	}
	for _, d := range append(slices.Clone(shown), an.Total) {
		name := message(fmt.Errorf("%s", d.Name))
		if d.SFT != d.Aligned {
			name += " (" + d.SFT + " → " + d.Aligned + ")"
		}
		t.AppendRow(table.Row{name, d.Tensors, formatCount(d.Elements), fmt.Sprintf("%.3g", d.DeltaNorm), fmt.Sprintf("%.4g", d.AlignedNorm), fmt.Sprintf("%.2e", d.RelativeNorm), percent(d.Unchanged), percent(d.Share)})
	}
	t.Render()
	if len(shown) < len(rows) {
		fmt.Fprintf(a.out, "… and %d more\n", len(rows)-len(shown))
	}
	a.printOutcomes(an)
}

// printOutcomes shows the effective α of each nominal one, a row each.
func (a *app) printOutcomes(an *expo.Anatomy) {
	fmt.Fprintln(a.out, "\neffective α along δ, by output (share of changes that rounding swallows):")
	t := a.newTable("α", "bf16", "f16", "f32", "bf16 stochastic")
	var row table.Row
	for i, o := range an.Outcomes {
		if i == 0 || o.Alpha != an.Outcomes[i-1].Alpha {
			if row != nil {
				t.AppendRow(row)
			}
			row = table.Row{fmt.Sprintf("%g", o.Alpha)}
		}
		cell := fmt.Sprintf("%.4f (%s)", o.EffectiveAlpha, percent(o.Swallowed))
		if o.Output == "stochastic" {
			cell = fmt.Sprintf("%.4f (noise %.1f × the step)", o.EffectiveAlpha, o.Noise)
		}
		row = append(row, cell)
	}
	t.AppendRow(row)
	t.Render()
}
