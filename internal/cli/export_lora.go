package cli

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"expo"
	"expo/publish/export"
	"expo/weights/tensor"
)

// runLoRA writes the δ of a pair as an adapter.
func (a *app) runLoRA(cmd *cobra.Command, f *exportFlags, args []string) error {
	for _, name := range []string{"alpha", "quant", "dry-run", "name", "no-sync", "imatrix", "imatrix-context", "imatrix-chunks", "save-imatrix"} {
		if cmd.Flags().Changed(name) {
			return usagef("--%s has no meaning for an adapter: its α is the scale with which it is loaded", name)
		}
	}
	if len(args) > 0 {
		return usagef("--lora takes a pair: --sft MODEL --aligned MODEL")
	}
	if f.lora < 1 {
		return usagef("--lora %d: the rank must be above 0", f.lora)
	}
	if err := f.complete(); err != nil {
		return err
	}
	p, err := openPair(f.sft, f.aligned)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := apart(f.output, p.SFT, p.Aligned); err != nil {
		return err
	}
	opt := expo.Options{Alpha: -1, DType: tensor.F32}
	if err := f.policies.set(&opt); err != nil {
		return err
	}
	aligned, err := p.Aligned.Dequantize()
	if err != nil {
		return err
	}
	// Where α is −1 stands the SFT model, with the aligned one's tensors.
	sft, err := expo.Extrapolate(p.Pair, opt)
	if err != nil {
		return err
	}
	start := time.Now()
	bar := a.progress("decomposing")
	w, err := export.WriteLoRA(cmd.Context(), f.output, sft, aligned, export.LoRAOptions{
		Rank: f.lora, Base: cmp.Or(p.aligned.Repo, p.aligned.Path), Jobs: f.jobs, Force: f.force, Progress: bar.update,
	})
	bar.stop()
	if errors.Is(err, export.ErrExists) {
		return fmt.Errorf("%w; --force replaces it", err)
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(w)
	}
	if a.verbose {
		for _, m := range w.Modules {
			a.say("%s %v: ‖δ‖ %.3g, %s of Σδ² kept", m.Name, m.Shape, m.DeltaNorm, percent(m.Kept))
		}
	}
	a.say("rank %d keeps %s of Σδ²; %s lie in the modules it covers", w.Rank, percent(w.Kept), percent(w.Covered))
	a.say("took %.1f s; load it onto the aligned model with scale α (llama.cpp: --lora-scaled %s/%s α)", time.Since(start).Seconds(), f.output, export.AdapterGGUFFile)
	_, err = fmt.Fprintln(a.out, f.output)
	return err
}
