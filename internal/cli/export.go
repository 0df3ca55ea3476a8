package cli

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"expo"
	"expo/lm/chat"
	"expo/publish/export"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

type exportFlags struct {
	pairFlags
	policies policyFlags
	alphas   []string
	quants   []string
	output   string
	name     string
	lora     int
	jobs     int
	noSync   bool
	force    bool
	dryRun   bool

	importance importanceFlags
}

func (a *app) export() *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export MODEL -o FILE.gguf [--quant TYPE]",
		Short: "Write a model as GGUF files, plain or quantized",
		Long: `Write a model directory, or with --sft, --aligned and --alpha the model on the line
through a pair, as a GGUF file for llama.cpp and what is built on it. A model may be
BASE+ADAPTER, a model and a LoRA adapter of PEFT. Weights are
quantized from the float32 values of the formula, so α is not rounded away before.

--quant and --alpha may be given several times; all files are written in one pass
over the inputs. Their names then are those of -o with α and type added, before
.gguf if it ends so, and else in the directory -o.

--imatrix runs the model, that of each α in its own right, over a text and weighs
rounding errors by what its matrices are multiplied by there. Files of llama.cpp's
llama-imatrix are taken, too. Types of 8 bits and more do not use it.

--lora writes what preference training changed as a low-rank adapter to the aligned
model instead, for PEFT and vLLM and for llama.cpp; its scale there is α.

Types: ` + exportTypes() + ".\n" + exitHelp,
		Example: `  expo export out -o out-Q4_K_M.gguf --quant Q4_K_M
  expo export --sft SFT --aligned DPO --alpha 0.3 --alpha 0.5 --quant Q4_K_M --quant Q8_0 -o quants/
  expo export out -o out-Q4_K_M.gguf --quant Q4_K_M --imatrix text.txt
  expo export --sft SFT --aligned DPO --lora 64 -o adapter`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runExport(cmd, &f, args) },
	}
	f.pairFlags.add(cmd)
	f.policies.add(cmd)
	fl := cmd.Flags()
	fl.StringArrayVar(&f.alphas, "alpha", nil, "how far beyond the aligned model, `[PATTERN=]NUMBER`; each bare number makes files of its own, patterns hold for all")
	fl.StringSliceVar(&f.quants, "quant", []string{"F16"}, "`TYPE` of the file, repeatable")
	fl.StringVarP(&f.output, "output", "o", "", "the `FILE.gguf`, or the directory for several")
	fl.StringVar(&f.name, "name", "", "the model's name in the file (default: its directory's or repository's)")
	fl.IntVar(&f.lora, "lora", 0, "write an adapter of so high a `RANK` into the directory -o")
	fl.IntVarP(&f.jobs, "jobs", "j", 0, "workers (default: the number of cores)")
	fl.BoolVar(&f.noSync, "no-sync", false, "do not wait until the files are on disk")
	fl.BoolVar(&f.force, "force", false, "replace existing files")
	fl.BoolVar(&f.dryRun, "dry-run", false, "check the model and print what would be written")
	f.importance.add(cmd)
	return cmd
}

func exportTypes() string {
	var names []string
	for _, t := range export.Types() {
		names = append(names, t.String())
	}
	return strings.Join(names, ", ")
}

func (a *app) runExport(cmd *cobra.Command, f *exportFlags, args []string) error {
	if f.output == "" {
		return usagef("no output; give it with -o FILE.gguf")
	}
	if cmd.Flags().Changed("lora") {
		return a.runLoRA(cmd, f, args)
	}
	var types []export.Type
	for _, q := range f.quants {
		t, err := export.ParseType(q)
		if err != nil {
			return usageError{err}
		}
		types = append(types, t)
	}
	if err := f.importance.check(cmd, types); err != nil {
		return err
	}
	s, err := f.sources(args)
	if err != nil {
		return err
	}
	defer s.close()
	files, err := f.files(s, types)
	if err != nil {
		return err
	}
	opt := s.opt
	opt.Jobs, opt.Force, opt.NoSync = f.jobs, f.force, f.noSync
	if opt.ChatTemplates, err = chatTemplates(files[0].Weights); err != nil {
		a.warn("the chat template is left out: %s", message(err))
	} else if opt.ChatTemplates == nil {
		a.say("note: the model has no chat template, so the file has none")
	}
	var saved []string
	if f.importance.file != "" {
		if saved, err = a.importances(cmd, f, s, files, opt); err != nil {
			return existing(err)
		}
	}
	start := time.Now()
	var w *export.Written
	if f.dryRun {
		w, err = export.Plan(files, opt)
	} else {
		bar := a.progress("writing")
		opt.Progress = bar.update
		w, err = export.Write(cmd.Context(), files, opt)
		bar.stop()
	}
	if err != nil {
		return existing(err)
	}
	for _, n := range w.Notes {
		a.warn("%s", n)
	}
	if s.pair != nil {
		a.tokenizers(s.pair.SFT, s.pair.Aligned)
	}
	if a.json {
		doc := map[string]any{"output": f.output, "dry_run": f.dryRun, "files": w.Files, "notes": append([]string{}, w.Notes...)}
		if saved != nil {
			doc["imatrix_files"] = saved
		}
		if len(w.Files) == 1 {
			x := w.Files[0]
			doc["quant"], doc["bytes"] = x.Type, x.Bytes
			if x.Alpha != nil {
				doc["alpha"] = *x.Alpha
			}
			if x.EffectiveAlpha != nil {
				doc["effective_alpha"] = *x.EffectiveAlpha
			}
		}
		return a.printJSON(doc)
	}
	for _, x := range w.Files {
		line := fmt.Sprintf("%s: %s, %s, %.2f bits a weight", x.Path, x.Type, formatSize(x.Bytes), x.BitsPerWeight)
		if !f.dryRun {
			line += fmt.Sprintf(", relative error %.2g", x.RelativeError)
			if x.Importance != nil {
				line += fmt.Sprintf(" (%.2g by importance)", x.Importance.RelativeError)
			}
		}
		if x.EffectiveAlpha != nil {
			line += fmt.Sprintf(", effective α %.3g of %.3g", *x.EffectiveAlpha, *x.Alpha)
			if math.Abs(*x.AlphaOffset) > 0.005 {
				line += fmt.Sprintf(" (± %.1g; %.3g more than the aligned model quantized alike)", *x.AlphaNoise, *x.EffectiveAlpha-*x.AlphaOffset)
			}
		}
		a.say("%s", line)
		if x.EffectiveAlpha == nil || *x.Alpha == 0 {
			continue
		}
		if gain := *x.EffectiveAlpha - *x.AlphaOffset; !(math.Abs(gain / *x.Alpha - 1) <= 0.2) {
			a.warn("%s: rounding leaves α = %.3g of %.3g; types of more bits keep more of it", x.Path, gain, *x.Alpha)
		}
	}
	if !f.dryRun {
		a.say("took %.1f s", time.Since(start).Seconds())
	}
	for _, x := range w.Files {
		if _, err := fmt.Fprintln(a.out, x.Path); err != nil {
			return err
		}
	}
	return nil
}

// existing names the remedy for a file that is there.
func existing(err error) error {
	if errors.Is(err, export.ErrExists) {
		return fmt.Errorf("%w; --force replaces it", err)
	}
	return err
}

// exportSource is what is exported: views of one pair, or one model.
type exportSource struct {
	opt    export.Options
	name   string
	pair   *pair // nil for a single model
	views  []*checkpoint.Checkpoint
	mixes  []expo.Options // of the views of a pair, but for their type
	alphas []*float64     // nil for a model of which none is known
	close  func()
}

func (f *exportFlags) sources(args []string) (*exportSource, error) {
	pairGiven := f.sft != "" || f.aligned != ""
	switch {
	case pairGiven && len(args) > 0:
		return nil, usagef("give either a MODEL or --sft, --aligned and --alpha")
	case pairGiven:
		return f.pairSources()
	case len(args) == 0:
		return nil, usagef("needs a MODEL, or --sft, --aligned and --alpha")
	case len(f.alphas) > 0:
		return nil, usagef("--alpha needs --sft and --aligned")
	case strings.HasSuffix(args[0], ".gguf"):
		return nil, usagef("%s is a GGUF file already; export reads model directories", args[0])
	}
	c, in, done, err := openAdapted(args[0])
	if err != nil {
		return nil, err
	}
	s := &exportSource{name: cmp.Or(f.name, modelName(in)), alphas: []*float64{nil}, close: done}
	plain, err := c.Dequantize()
	if err != nil {
		done()
		return nil, err
	}
	s.views = []*checkpoint.Checkpoint{plain}
	s.opt.BaseModels = baseModels(in)
	if in.Repo == "" {
		s.opt.BaseModels = nil
	}
	if r, err := expo.ReadRecord(c.Files()); err == nil && r != nil {
		s.alphas[0] = &r.Recipe.Alpha
		s.opt.BaseModels = baseModels(r.Aligned, r.SFT)
	}
	return s, nil
}

func (f *exportFlags) pairSources() (*exportSource, error) {
	if err := f.complete(); err != nil {
		return nil, err
	}
	var patterns, bare []string
	for _, v := range f.alphas {
		if strings.Contains(v, "=") {
			patterns = append(patterns, v)
		} else {
			bare = append(bare, v)
		}
	}
	if len(bare) == 0 {
		return nil, usagef("no α; give one with --alpha NUMBER")
	}
	p, err := openPair(f.sft, f.aligned)
	if err != nil {
		return nil, err
	}
	s := &exportSource{name: cmp.Or(f.name, modelName(p.aligned)+"-expo"), pair: p, close: p.Close}
	if err := f.views(s, p, patterns, bare); err != nil {
		p.Close()
		return nil, err
	}
	s.opt.BaseModels = baseModels(p.aligned, p.sft)
	return s, nil
}

// views makes the model of each α, and the ends of the line as float32.
func (f *exportFlags) views(s *exportSource, p *pair, patterns, bare []string) error {
	opt := expo.Options{DType: tensor.F32}
	if err := f.policies.set(&opt); err != nil {
		return err
	}
	aligned, err := p.Aligned.Dequantize()
	if err != nil {
		return err
	}
	for _, v := range bare {
		o := opt
		if o.Alpha, o.Rules, err = expo.ParseAlphas(append(patterns[:len(patterns):len(patterns)], v)); err != nil {
			return usageError{err}
		}
		opt.Rules = o.Rules
		view := aligned
		if o.Alpha != 0 || len(o.Rules) > 0 {
			if view, err = expo.Extrapolate(p.Pair, o); err != nil {
				return err
			}
		}
		s.views, s.alphas = append(s.views, view), append(s.alphas, &o.Alpha)
		o.DType = tensor.Invalid
		s.mixes = append(s.mixes, o)
	}
	// The SFT model with the aligned one's tensors is where α is −1.
	end := opt
	end.Alpha = -1
	end.Rules = append([]expo.Rule(nil), opt.Rules...)
	for i := range end.Rules {
		if end.Rules[i].Alpha != 0 {
			end.Rules[i].Alpha = -1
		}
	}
	s.opt.Aligned = aligned
	s.opt.SFT, err = expo.Extrapolate(p.Pair, end)
	return err
}

// files gives each α and type a path.
func (f *exportFlags) files(s *exportSource, types []export.Type) ([]export.File, error) {
	stem, single := strings.CutSuffix(f.output, ".gguf")
	if !single {
		stem = filepath.Join(f.output, s.name)
	}
	var files []export.File
	for i, view := range s.views {
		for _, t := range types {
			name, model := stem, s.name
			if s.opt.Aligned != nil {
				model += "-" + shortFloat(*s.alphas[i])
			}
			if s.opt.Aligned != nil && (!single || len(s.views) > 1) {
				name += "-" + shortFloat(*s.alphas[i])
			}
			if !single || len(types) > 1 {
				name += "-" + t.String()
			}
			files = append(files, export.File{Path: name + ".gguf", Type: t, Weights: view, Alpha: s.alphas[i], Name: model})
		}
	}
	return files, nil
}

func shortFloat(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// modelName is the last part of where a model came from.
func modelName(in expo.Input) string {
	if in.Repo != "" {
		return in.Repo[strings.LastIndex(in.Repo, "/")+1:]
	}
	return filepath.Base(in.Path)
}

func baseModels(ins ...expo.Input) []export.BaseModel {
	var out []export.BaseModel
	for _, in := range ins {
		out = append(out, export.BaseModel{Name: modelName(in), Repo: in.Repo, Revision: cmp.Or(in.Commit, in.Revision)})
	}
	return out
}

// chatTemplates are a model's own, by name; none if it has none.
func chatTemplates(c *checkpoint.Checkpoint) (map[string]string, error) {
	t, err := chat.Load(c.Files())
	if errors.Is(err, chat.ErrNoTemplate) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string]string{"default": t.Source()}
	for _, name := range t.Variants() {
		v, err := t.Variant(name)
		if err != nil {
			return nil, err
		}
		all[name] = v.Source()
	}
	return all, nil
}
