package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"expo"
	"expo/weights/checkpoint"
)

type extrapolateFlags struct {
	pairFlags
	methodFlags
	output    string
	recipe    string
	shardSize string
	jobs      int
	noDigest  bool
	noSync    bool
	force     bool
	dryRun    bool
}

func (a *app) extrapolate() *cobra.Command {
	var f extrapolateFlags
	cmd := &cobra.Command{
		Use:   "extrapolate --sft MODEL --aligned MODEL --alpha NUMBER -o DIR",
		Short: "Make the extrapolated checkpoint",
		Long: `Compute θ = θ_aligned + α(θ_aligned − θ_sft) and write it as a model directory: the
aligned model's shards, configuration and tokenizer, and expo.json, which says how
it was made and what rounding left of α.

Both models stream through a fixed window of memory. The directory appears under
its name when it is complete and on disk; an interrupted run goes on where it was
when the same command is given again.
` + exitHelp,
		Example: `  expo extrapolate --sft mistralai/Mistral-7B-Instruct-v0.2 --aligned UCLA-AGI/Mistral7B-PairRM-SPPO --alpha 0.3 -o out
  expo extrapolate --sft a --aligned b --alpha 'model.layers.*.self_attn.*=0.5' --alpha 0.3 --dtype f32 -o out
  expo extrapolate --recipe out/expo.json -o again`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runExtrapolate(cmd, &f) },
	}
	f.pairFlags.add(cmd)
	f.methodFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&f.output, "output", "o", "", "the new model's `DIR`")
	fl.StringVar(&f.recipe, "recipe", "", "repeat what this expo.json `FILE` records")
	fl.StringVar(&f.shardSize, "shard-size", "", "at most so many bytes per weight file, such as `5GB` (default: the aligned model's shards)")
	fl.IntVarP(&f.jobs, "jobs", "j", 0, "workers (default: the number of cores, 16 at most)")
	fl.BoolVar(&f.noDigest, "no-digest", false, "do not compute the SHA-256 of the weight files")
	fl.BoolVar(&f.noSync, "no-sync", false, "do not wait until the weights are on disk: safe from kills, not from a power cut")
	fl.BoolVar(&f.force, "force", false, "replace an existing output")
	fl.BoolVar(&f.dryRun, "dry-run", false, "check the pair and print what would be done")
	return cmd
}

func (a *app) runExtrapolate(cmd *cobra.Command, f *extrapolateFlags) error {
	if f.output == "" && !f.dryRun {
		return usagef("no output; give it with -o DIR")
	}
	opt, shardSize, rec, err := f.resolve(cmd)
	if err != nil {
		return err
	}
	p, err := openPair(f.sft, f.aligned)
	if err != nil {
		return err
	}
	defer p.Close()
	if rec != nil {
		if err := rec.SFT.Matches(p.SFT); err != nil {
			return err
		}
		if err := rec.Aligned.Matches(p.Aligned); err != nil {
			return err
		}
	}
	if f.output != "" {
		if err := apart(f.output, p.SFT, p.Aligned); err != nil {
			return err
		}
	}
	if f.dryRun {
		return a.dryRun(p, opt, f.output)
	}
	a.say("SFT      %s", p.SFT.Name())
	a.say("aligned  %s", p.Aligned.Name())
	a.say("%s", direction(opt))
	bar := a.progress("writing")
	start := time.Now()
	w, err := expo.Write(cmd.Context(), f.output, p.Pair, opt, expo.WriteOptions{
		SFT: p.sft, Aligned: p.aligned, Version: Version, ShardSize: shardSize, Jobs: f.jobs,
		NoDigest: f.noDigest, NoSync: f.noSync, Force: f.force, Progress: bar.update,
	})
	bar.stop()
	if err != nil {
		return err
	}
	a.summary(w, p, time.Since(start))
	if a.json {
		return a.printJSON(map[string]any{"output": f.output, "resumed": w.Resumed, "record": w.Record})
	}
	_, err = fmt.Fprintln(a.out, f.output)
	return err
}

// resolve takes the options from the flags or from a recipe, never from both.
func (f *extrapolateFlags) resolve(cmd *cobra.Command) (opt expo.Options, shardSize int64, rec *expo.Record, err error) {
	if f.recipe != "" {
		for _, name := range methodNames {
			if cmd.Flags().Changed(name) {
				return opt, 0, nil, usagef("--%s contradicts --recipe, which repeats exactly what was done", name)
			}
		}
		if rec, err = readRecipe(f.recipe); err != nil {
			return opt, 0, nil, err
		}
		if f.sft == "" {
			f.sft = recordedModel(rec.SFT)
		}
		if f.aligned == "" {
			f.aligned = recordedModel(rec.Aligned)
		}
		opt, err = rec.Recipe.Options()
		return opt, rec.Recipe.ShardSize, rec, err
	}
	if err := f.complete(); err != nil {
		return opt, 0, nil, err
	}
	if f.shardSize != "" {
		if shardSize, err = parseSize(f.shardSize); err != nil {
			return opt, 0, nil, usagef("--shard-size: %w", err)
		}
	}
	opt, err = f.options()
	return opt, shardSize, nil, err
}

// direction says in words where the result lies: swapped inputs look like any
// others, so the reader has to see which is which.
func direction(opt expo.Options) string {
	al := strconv.FormatFloat(opt.Alpha, 'g', -1, 64)
	formula := fmt.Sprintf("θ = aligned + %s·(aligned − SFT): ", al)
	switch a := opt.Alpha; {
	case a > 0:
		formula += fmt.Sprintf("from the SFT model through the aligned model and %s of that way beyond it", al)
	case a == 0:
		formula += "the aligned model itself"
	case a > -1:
		formula += fmt.Sprintf("back from the aligned model towards the SFT model, %s of the way", strconv.FormatFloat(-a, 'g', -1, 64))
	case a == -1:
		formula += "the SFT model itself"
	default:
		formula += "from the aligned model through the SFT model and beyond it, away from alignment"
	}
	if len(opt.Rules) > 0 {
		formula += "; another α for " + count(len(opt.Rules), "pattern")
	}
	return formula
}

// summary says what was written and what became of α.
func (a *app) summary(w *expo.Written, p *pair, took time.Duration) {
	r := w.Record
	t := r.Statistics.Total
	for _, n := range r.Notes {
		a.say("note: %s", n)
	}
	for _, c := range []*checkpoint.Checkpoint{p.SFT, p.Aligned} {
		if list := c.Skipped(); len(list) > 0 {
			a.say("note: %s holds more than tensors, which is left out: %s", c.Name(), strings.Join(list, ", "))
		}
	}
	for _, h := range r.Rules {
		a.say("α %g for %s by %s", h.Alpha, count(h.Tensors, "tensor"), h.Pattern)
	}
	var bytes int64
	for _, f := range r.Output {
		bytes += f.Size
	}
	resumed := ""
	if w.Resumed > 0 {
		resumed = fmt.Sprintf(", %s taken over from the interrupted run", count(w.Resumed, "shard"))
	}
	a.say("wrote %s parameters, %s in %.1f s%s", formatCount(p.Aligned.Parameters()), formatSize(bytes), took.Seconds(), resumed)
	if t.Elements > 0 {
		a.say("‖δ‖/‖θ‖ %.2g; training left %s of the weights as they were", t.RelativeNorm, percent(t.Unchanged))
	}
	switch {
	case t.Elements == 0:
		a.say("every tensor was copied from the aligned model")
	case t.DeltaNorm == 0:
		a.say("the two models are equal, so the result is the aligned model")
	case t.NominalAlpha != 0:
		a.say("effective α %.3g of nominal %.3g along δ; rounding swallowed %s of the changes", t.EffectiveAlpha, t.NominalAlpha, percent(t.Swallowed))
	}
	if n := t.InputNaN + t.InputInf; n > 0 {
		a.warn("%d elements of the inputs are NaN and %d infinite; they were carried over (%d NaN, %d infinite in the result)", t.InputNaN, t.InputInf, t.NaN, t.Inf)
	}
	if t.Overflow > 0 {
		a.warn("%d finite elements became infinite", t.Overflow)
	}
	a.alternatives(r)
	a.tokenizers(p.SFT, p.Aligned)
}

// alternatives warns when rounding took or gave much of α, and says what other
// outputs would have kept.
func (a *app) alternatives(r *expo.Record) {
	alts := r.Statistics.Alternatives
	if len(alts) == 0 {
		return
	}
	t := r.Statistics.Total
	a.warn("along δ the result acts as α = %.3g, not %.3g: weights rounded to %s take whole steps, and most changes are smaller", t.EffectiveAlpha, t.NominalAlpha, outputName(r))
	how := "measured on this pair"
	if r.Statistics.SampledElements < t.Elements {
		how = fmt.Sprintf("measured on %s elements of this pair", formatCount(r.Statistics.SampledElements))
	}
	a.hint("other outputs, %s: %s", how, outcomes(alts))
	a.hint("the projection overstates what behaviour loses; a model written finer must also be run finer (f16, f32) to keep the gain")
}

func outputName(r *expo.Record) string {
	if r.Recipe.DType != "" {
		return r.Recipe.DType
	}
	if r.Recipe.Rounding == expo.PerOp.String() {
		return "BF16"
	}
	return "the aligned model's dtype"
}

func outcomes(list []expo.Outcome) string {
	text := ""
	for i, o := range list {
		if i > 0 {
			text += ", "
		}
		name := "--dtype " + o.Output
		if o.Output == "stochastic" {
			name = "--rounding stochastic"
		}
		text += fmt.Sprintf("%s %.3g", name, o.EffectiveAlpha)
		if o.Output == "f16" && math.Abs(o.EffectiveAlpha-o.Alpha) > 0.02*math.Abs(o.Alpha) {
			text += " (biased too)"
		}
		if o.Output == "stochastic" {
			text += fmt.Sprintf(" (unbiased, noise %.1f × the step)", o.Noise)
		}
	}
	return text
}

// tokenizers warns of vocabularies that give one row two meanings.
func (a *app) tokenizers(sft, aligned *checkpoint.Checkpoint) {
	for _, line := range expo.VocabularyConflicts(sft, aligned) {
		a.warn("%s", line)
	}
}

// dryRun checks everything that can be checked without computing.
func (a *app) dryRun(p *pair, opt expo.Options, output string) error {
	view, err := expo.Extrapolate(p.Pair, opt)
	if err != nil {
		return err
	}
	var size int64
	for t := range view.Tensors() {
		size += t.Size()
	}
	small, err := view.SmallFiles()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"output": output, "tensors": view.Len(), "parameters": view.Parameters(), "bytes": size, "shards": len(view.Shards()), "files": small})
	}
	a.say("%s", direction(opt))
	_, err = fmt.Fprintf(a.out, "would write %d tensors, %s parameters, %s in %d weight files, and %d small files\n", view.Len(), formatCount(view.Parameters()), formatSize(size), len(view.Shards()), len(small))
	return err
}
