package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"expo"
	"expo/weights/tensor"
)

// pairFlags are the flags of every command that takes a pair.
type pairFlags struct {
	sft, aligned string
}

func (f *pairFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.sft, "sft", "", "the supervised fine-tuned `MODEL`, where the line begins")
	cmd.Flags().StringVar(&f.aligned, "aligned", "", "the preference-trained `MODEL`, through which the line goes")
}

// complete fails if an end is missing.
func (f *pairFlags) complete() error {
	if f.sft == "" || f.aligned == "" {
		return usagef("both ends of the line are needed: --sft MODEL --aligned MODEL")
	}
	return nil
}

// policyFlags are the policies for pairs that do not match.
type policyFlags struct {
	extraRows, missing, head string
}

func (f *policyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.extraRows, "extra-rows", "", "vocabulary rows that one side lacks: `aligned` keeps the aligned model's rows")
	cmd.Flags().StringVar(&f.missing, "missing", "", "tensors that one side lacks: `aligned` keeps the aligned model's and leaves out the SFT model's")
	cmd.Flags().StringVar(&f.head, "head", "", "a head stored although tied: `stored|tied`")
}

func (f *policyFlags) set(opt *expo.Options) error {
	choose := func(flag, value string, allowed ...string) error {
		if value == "" {
			return nil
		}
		for _, v := range allowed {
			if v == value {
				return nil
			}
		}
		return usagef("--%s=%s: use %s", flag, value, strings.Join(allowed, " or "))
	}
	if err := choose("extra-rows", f.extraRows, "aligned"); err != nil {
		return err
	}
	if err := choose("missing", f.missing, "aligned"); err != nil {
		return err
	}
	if err := choose("head", f.head, "stored", "tied"); err != nil {
		return err
	}
	opt.ExtraRows, opt.Missing, opt.Head = expo.ExtraRows(f.extraRows), expo.Missing(f.missing), expo.Head(f.head)
	return nil
}

// methodFlags are α and everything else that decides the result's bytes.
type methodFlags struct {
	alphas        []string
	rounding      string
	seed          uint64
	dtype         string
	allowOverflow bool
	policies      policyFlags
}

// methodNames are their names, to tell whether any was given.
var methodNames = []string{"alpha", "rounding", "seed", "dtype", "allow-overflow", "extra-rows", "missing", "head", "shard-size"}

func (f *methodFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.alphas, "alpha", nil, "how far beyond the aligned model, as a share of its way from the SFT model; `[PATTERN=]NUMBER`, repeatable, the first pattern that matches a tensor's name wins")
	fl.StringVar(&f.rounding, "rounding", "once", "`once|per-op|stochastic`: one rounding per element; one per operation as the authors' program does; at random without bias")
	fl.Uint64Var(&f.seed, "seed", 0, "of --rounding stochastic")
	fl.StringVar(&f.dtype, "dtype", "", "`bf16|f16|f32` of the output (default: the aligned model's; bf16 with --rounding per-op)")
	fl.BoolVar(&f.allowOverflow, "allow-overflow", false, "accept finite values that become infinite in f16")
	f.policies.add(cmd)
}

func (f *methodFlags) options() (expo.Options, error) {
	opt := expo.Options{Seed: f.seed, AllowOverflow: f.allowOverflow}
	var err error
	if opt.Alpha, opt.Rules, err = expo.ParseAlphas(f.alphas); err != nil {
		return opt, usageError{err}
	}
	if opt.Rounding, err = expo.ParseRounding(f.rounding); err != nil {
		return opt, usageError{err}
	}
	switch strings.ToLower(f.dtype) {
	case "":
	case "bf16", "bfloat16":
		opt.DType = tensor.BF16
	case "f16", "fp16", "float16":
		opt.DType = tensor.F16
	case "f32", "fp32", "float32":
		opt.DType = tensor.F32
	default:
		return opt, usagef("--dtype %s: use bf16, f16 or f32", f.dtype)
	}
	return opt, f.policies.set(&opt)
}

// readRecipe reads a record that an earlier run wrote.
func readRecipe(path string) (*expo.Record, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := expo.ParseRecord(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// recordedModel is what to open for an input of a record: the very commit, or
// the path.
func recordedModel(in expo.Input) string {
	if in.Repo != "" && in.Commit != "" {
		if _, err := os.Stat(in.Path); err != nil {
			return "hf://" + in.Repo + "@" + in.Commit
		}
	}
	return in.Path
}
