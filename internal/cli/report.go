package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"expo/eval"
)

type reportFlags struct {
	format, output string
	pairs          []string
	judge          string
	pairedOnly     bool
	gamed          string
	draws          int
	paper          string
	force          bool

	baseOf map[string]string // of --pair: a model's ExPO to the model
}

// reportFormats are the values of --format and the ends of file names that
// choose them.
var reportFormats = map[string]string{".txt": "text", ".md": "md", ".json": "json", ".tex": "latex", ".html": "html", ".htm": "html"}

func (a *app) reportCommand() *cobra.Command {
	f := reportFlags{}
	cmd := &cobra.Command{
		Use:   "report RESULT...",
		Short: "Compare results: models as they are and with ExPO, with intervals and paired tests",
		Long: `Put results into one table for each suite: rows are models, columns the original, the
model with ExPO, and the difference.

A RESULT is result.json of expo eval, or its directory; alpaca_eval's leaderboard.csv
or annotations.json; FastChat's model_judgment/JUDGE_single.jsonl or JUDGE_pair.jsonl;
or results.json of lm-eval. Compressed files (.gz) are read as they are.

NAME and NAME-ExPO (-expo, _ExPO, _expo) belong together; --pair says so of others.
Figures of different judges, or against different baselines, never share a table.

Every figure has its n and a 95 % interval; [–] says that its source gives none. A
difference is tested over the instructions or questions that both models have samples
for (samples.jsonl beside result.json, or judgments); where a source holds none, the
table says so. The difference of two length-controlled win rates is tested by fitting
both again to drawn instructions, which needs --gamed FILE.

--paper DIR looks through published raw data (annotations, leaderboards, weights,
judgments) for the models of the ExPO paper and makes its tables again: what raw data
are there for is computed, the rest is quoted, and marked so, with its source.
` + exitHelp,
		Example: `  expo report runs/zephyr runs/zephyr-expo
  expo report leaderboard.csv --format latex -o table.tex
  expo report judge_single.jsonl runs/mt --pair zephyr=zephyr_a2.5 -o report.html
  expo report --paper LLM-Extrapolation/ --json`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runReport(cmd.Context(), &f, args) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.format, "format", "", "`text|md|json|latex|html` (default: by the name of -o, or md)")
	fl.StringVarP(&f.output, "output", "o", "", "write to this `FILE`, and print its name")
	fl.StringArrayVar(&f.pairs, "pair", nil, "`MODEL=EXPO`: the second is the first with ExPO; repeatable")
	fl.StringVar(&f.judge, "judge", "", "the `NAME` of the judge where a file does not say it, as leaderboards do not")
	fl.BoolVar(&f.pairedOnly, "paired-only", false, "leave out models that have no ExPO, or no original, beside them")
	fl.StringVar(&f.gamed, "gamed", "", "df_gamed.csv, a `FILE`, to test differences of length-controlled win rates")
	fl.IntVar(&f.draws, "bootstrap", 1000, "draws for that test; 0 leaves it out")
	fl.StringVar(&f.paper, "paper", "", "make the paper's tables again from the raw data in this `DIR`")
	fl.BoolVar(&f.force, "force", false, "replace the file of -o")
	return cmd
}

// check settles the format and the pairs.
func (f *reportFlags) check(json bool) error {
	if f.format == "" {
		end := filepath.Ext(f.output)
		f.format = reportFormats[strings.ToLower(end)]
		if f.format == "" {
			if end != "" {
				return usagef("-o %s: no format is known by %s; end the name in %s, or choose with --format", f.output, end, strings.Join(slices.Sorted(maps.Keys(reportFormats)), ", "))
			}
			f.format = "md"
		}
		if json && f.output == "" {
			f.format = "json"
		}
	}
	if f.format == "markdown" {
		f.format = "md"
	}
	if !slices.Contains([]string{"text", "md", "json", "latex", "html"}, f.format) {
		return usagef("--format %s: use text, md, json, latex or html", f.format)
	}
	f.baseOf = map[string]string{}
	for _, p := range f.pairs {
		base, with, ok := strings.Cut(p, "=")
		if !ok || base == "" || with == "" || base == with {
			return usagef("--pair %s: use MODEL=EXPO, two names of models", p)
		}
		if old, ok := f.baseOf[with]; ok && old != base {
			return usagef("--pair: %s cannot be the ExPO of both %s and %s", with, old, base)
		}
		f.baseOf[with] = base
	}
	if f.draws < 0 {
		return usagef("--bootstrap %d: use 0 or more", f.draws)
	}
	if f.output != "" && !f.force {
		if _, err := os.Lstat(f.output); err == nil {
			return fmt.Errorf("%s exists; --force replaces it", f.output)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (a *app) runReport(ctx context.Context, f *reportFlags, args []string) error {
	switch {
	case f.paper == "" && len(args) == 0:
		return usagef("nothing to report on; name a result.json or its directory, a leaderboard, or judgments")
	case f.paper != "" && len(args) > 0:
		return usagef("--paper takes all from its directory; leave out %q", args)
	}
	if err := f.check(a.json); err != nil {
		return err
	}
	var doc *comparedResults
	var err error
	if f.paper != "" {
		doc, err = paperResults(ctx, f)
	} else {
		doc, err = compareResults(ctx, f, args)
	}
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := doc.write(&b, f.format); err != nil {
		return err
	}
	if f.format != "json" && f.format != "html" || f.output != "" {
		for _, w := range doc.warnings {
			a.warn("%s", w)
		}
	}
	if f.output != "" {
		if err := os.MkdirAll(filepath.Dir(f.output), 0o777); err != nil {
			return err
		}
		if err := eval.WriteFile(f.output, func(w io.Writer) error { _, err := w.Write(b.Bytes()); return err }); err != nil {
			return err
		}
		if a.json {
			return a.printJSON(doc.document())
		}
		_, err := fmt.Fprintln(a.out, f.output)
		return err
	}
	if a.json && f.format != "json" {
		return usagef("--json prints JSON; --format %s needs -o FILE beside it", f.format)
	}
	_, err = a.out.Write(b.Bytes())
	return err
}

// compareResults reads files and compares what is in them.
func compareResults(ctx context.Context, f *reportFlags, args []string) (*comparedResults, error) {
	var all []*measured
	var failed []error
	seen := map[string]bool{}
	for _, path := range args {
		path, err := resultFile(path)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		real, err := realPath(path)
		if err == nil && seen[real] {
			continue
		}
		seen[real] = true
		found, err := readMeasured(path, f)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		all = append(all, found...)
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	test := &lcTest{draws: f.draws}
	if f.gamed != "" {
		if err := test.read(f.gamed); err != nil {
			return nil, err
		}
	}
	return compareMeasured(ctx, f, all, test)
}
