package cli

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"expo"
	"expo/weights/checkpoint"
)

type verifyFlags struct {
	pairFlags
	rebuild        bool
	sample         string
	seed           uint64
	jobs           int
	allowNonFinite bool
}

func (a *app) verify() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify MODEL",
		Short: "Check a model: format, digests, finite values; --rebuild computes it again",
		Long: `Check that a model opens, that its files have the digests that expo.json (or the
Hugging Face cache) knows, and that every weight is a finite number. --rebuild
computes the tensors again from the inputs that expo.json names, and compares
every byte.

Prints ok; exit status 5 on any difference.
` + exitHelp,
		Example: `  expo verify out
  expo verify out --rebuild --sample 5%`,
		Args: oneArg("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.runVerify(cmd, &f, args[0]) },
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.rebuild, "rebuild", false, "compute the tensors again from the recorded inputs and compare")
	fl.StringVar(&f.sample, "sample", "", "with --rebuild: only this share of the tensors, chosen at random, such as `5%`")
	fl.Uint64Var(&f.seed, "seed", 0, "of --sample (default: another one each time)")
	fl.StringVar(&f.sft, "sft", "", "with --rebuild: where the SFT `MODEL` is now")
	fl.StringVar(&f.aligned, "aligned", "", "with --rebuild: where the aligned `MODEL` is now")
	fl.IntVarP(&f.jobs, "jobs", "j", 0, "workers (default: the number of cores, 16 at most)")
	fl.BoolVar(&f.allowNonFinite, "allow-nonfinite", false, "accept NaN and infinite weights")
	return cmd
}

func (a *app) runVerify(cmd *cobra.Command, f *verifyFlags, model string) error {
	share, err := parseShare(f.sample)
	if err != nil {
		return err
	}
	if !f.rebuild && (f.sample != "" || f.sft != "" || f.aligned != "") {
		return usagef("--sample, --sft and --aligned need --rebuild")
	}
	dir, _, err := locate(model)
	if err != nil {
		return err
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		return &problems{[]string{message(err)}}
	}
	defer c.Close()
	v, err := expo.Verify(cmd.Context(), c, expo.VerifyOptions{AllowNonFinite: f.allowNonFinite, Jobs: f.jobs})
	if err != nil {
		return err
	}
	a.say("%s and %s checked", count(v.Files, "file"), count(v.Tensors, "tensor"))
	if v.NoDigest > 0 {
		a.say("note: %s without a recorded digest", count(v.NoDigest, "file"))
	}
	found := v.Problems
	result := map[string]any{"check": v}
	if f.rebuild {
		r, err := a.rebuild(cmd, f, c, share)
		if err != nil {
			return err
		}
		found = append(found, r.Problems...)
		result["rebuild"] = r
	}
	if len(found) > 0 {
		return &problems{found}
	}
	if a.json {
		result["ok"] = true
		return a.printJSON(result)
	}
	_, err = fmt.Fprintln(a.out, "ok")
	return err
}

func (a *app) rebuild(cmd *cobra.Command, f *verifyFlags, c *checkpoint.Checkpoint, share float64) (*expo.Verification, error) {
	rec, err := expo.ReadRecord(c.Files())
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, fmt.Errorf("%s has no %s, which --rebuild needs", c.Name(), expo.RecordFile)
	}
	if f.sft == "" {
		f.sft = recordedModel(rec.SFT)
	}
	if f.aligned == "" {
		f.aligned = recordedModel(rec.Aligned)
	}
	p, err := openPair(f.sft, f.aligned)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	seed := f.seed
	if !cmd.Flags().Changed("seed") {
		seed = rand.Uint64()
	}
	r, err := expo.Rebuild(cmd.Context(), c, p.Pair, expo.RebuildOptions{Sample: share, Seed: seed, Jobs: f.jobs})
	if err != nil {
		return nil, err
	}
	sampled := ""
	if share < 1 {
		sampled = fmt.Sprintf(" (--seed %d)", seed)
	}
	a.say("%s computed again%s", count(r.Tensors, "tensor"), sampled)
	return r, nil
}

// parseShare reads 5%, or 0.05; nothing means all.
func parseShare(s string) (float64, error) {
	if s == "" {
		return 1, nil
	}
	text, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	x, err := strconv.ParseFloat(text, 64)
	if percent {
		x /= 100
	}
	if err != nil || !(x > 0 && x <= 1) {
		return 0, usagef("--sample %q: write a share above 0 and at most 100%%, such as 5%%", s)
	}
	return x, nil
}
