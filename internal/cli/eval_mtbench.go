package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"expo/eval/mtbench"
	"expo/lm/generate"
)

// mtbenchFlags are the flags of expo eval mtbench.
type mtbenchFlags struct {
	engine      engineFlags
	fleet       fleetFlags
	spend       spendFlags
	request     generate.Request
	temperature float64
	forced      bool // temperature was given
	system      string
	name        string
	limit       int
	limited     bool // limit was given
	plan        bool
	answersOnly bool

	questions, prompts, references string
	answers                        []string

	judge        string
	judgeFleet   fleetFlags
	judgeName    string
	judgeRequest generate.Request
	judgeTries   int
	mode         string
	baseline     string

	judgments []string
	strict    bool
	draws     int
	against   string

	output string
	force  bool
}

func (a *app) evalMTBench() *cobra.Command {
	var f mtbenchFlags
	cmd := &cobra.Command{
		Use: `mtbench MODEL -o DIR | mtbench --sft MODEL --aligned MODEL --alpha NUMBER -o DIR | mtbench --base-url URL -o DIR |
       mtbench --answers FILE... -o DIR | mtbench --judgments FILE [FILE]...`,
		Short: "MT-Bench: grades from 1 to 10 over two turns, or pairwise comparisons",
		Long: `Have MT-Bench's 80 questions of two turns answered and the answers judged, as
FastChat's llm_judge does: by turn and category, at the temperature of each category.

A model in this process, the view of a pair at some α, or servers (--base-url,
--model) answer; a judge (--judge-model, or --judge MODEL in this process) rates each
turn from 1 to 10, or compares two models in both orders (--mode pair). DIR receives
log.jsonl, which every answer and judgment is added to as it arrives and from which
the same command resumes, FastChat's model_answer/MODEL.jsonl and
model_judgment/JUDGE_single.jsonl and _pair.jsonl, result.json, samples.jsonl and
report.html. --answers judges answers that are there, files of FastChat named after
their models; --judgments only computes the figures of FastChat's judgments, also of
several models and files, compressed or not.

Questions, judge prompts and gpt-4's reference answers are fetched from FastChat,
checked, and kept; flags take files in their place. The references are used with
every judge. --max-cost bounds what all servers together may cost.

DIR may hold the answers of several models and the judgments of several judges:
another model, or another judge, is added, and result.json is of all of them. What
would replace answers or judgments that were made with other settings is refused
before anything is asked, unless --force says otherwise.
` + exitHelp,
		Example: `  expo eval mtbench out --judge-model gpt-4.1-2025-04-14 -o run
  expo eval mtbench --sft SFT --aligned DPO --alpha 0.3 --judge judge.gguf -o run
  expo eval mtbench --base-url http://a:8000/v1 --base-url http://b:8000/v1 --answers-only -o run
  expo eval mtbench --answers model_answer --mode pair --baseline zephyr-7b-beta --judge-model gpt-4.1 -o run
  expo eval mtbench --judgments model_judgment/gpt-4_single.jsonl --json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.forced, f.limited = cmd.Flags().Changed("temperature"), cmd.Flags().Changed("limit")
			return a.runMTBench(cmd.Context(), &f, args)
		},
	}
	f.engine.add(cmd)
	f.fleet.add(cmd, "", "the model")
	f.judgeFleet.add(cmd, "judge-", "the judge")
	f.spend.add(cmd)
	fl := cmd.Flags()
	r := &f.request
	fl.IntVar(&r.MaxTokens, "max-tokens", mtbench.DefaultMaxTokens, "tokens of an answer at most")
	fl.Float64Var(&f.temperature, "temperature", 0, "of all answers (default: the category's, 0.7, 0.1 or 0)")
	fl.Float64Var(&r.TopP, "top-p", 1, "keep the fewest tokens with this much probability")
	fl.IntVar(&r.TopK, "top-k", 0, "keep the k likeliest tokens; 0 keeps all")
	fl.Float64Var(&r.MinP, "min-p", 0, "drop tokens less probable than this part of the likeliest")
	fl.Float64Var(&r.PresencePenalty, "presence-penalty", 0, "subtract from the logits of tokens in the answer")
	fl.Float64Var(&r.FrequencyPenalty, "frequency-penalty", 0, "subtract for each time a token is in the answer")
	fl.Float64Var(&r.RepetitionPenalty, "repetition-penalty", 1, "divide the logits of tokens in prompt or answer")
	fl.Uint64Var(&r.Seed, "sampling-seed", 0, "of the answers' random numbers")
	fl.StringArrayVar(&r.Stop, "stop", nil, "end an answer before this `TEXT`; repeatable")
	fl.IntSliceVar(&r.StopTokenIDs, "stop-token-ids", nil, "end an answer at these tokens too, as 92542 for InternLM2")
	fl.StringVar(&f.system, "system", "", "a system message before each question")
	fl.StringVar(&f.name, "name", "", "call the model this in files and results")
	fl.IntVar(&f.limit, "limit", 0, "the first `N` questions only")
	fl.BoolVarP(&f.plan, "dry-run", "n", false, "say how many requests there would be, and what they may cost")
	fl.BoolVar(&f.answersOnly, "answers-only", false, "stop before judging")
	fl.StringVar(&f.questions, "questions", "", "question.jsonl, a `FILE`")
	fl.StringVar(&f.prompts, "judge-prompts", "", "judge_prompts.jsonl, a `FILE`")
	fl.StringVar(&f.references, "reference-answers", "", "reference_answer/gpt-4.jsonl, a `FILE`")
	fl.StringArrayVar(&f.answers, "answers", nil, "judge the answers in this `FILE`, or in all of a directory; repeatable")

	fl.StringVar(&f.judge, "judge", "", "the judge is this `MODEL`, in this process")
	fl.StringVar(&f.judgeName, "judge-name", "", "call the judge this in files and results")
	j := &f.judgeRequest
	fl.IntVar(&j.MaxTokens, "judge-max-tokens", mtbench.JudgeMaxTokens, "tokens of a judgment at most")
	fl.Float64Var(&j.Temperature, "judge-temperature", 0, "of the judge; 0 takes the likeliest token")
	fl.IntVar(&f.judgeTries, "judge-tries", 2, "how often a judgment is asked for that has no rating or verdict")
	fl.StringVar(&f.mode, "mode", "single", "`single|pair|both`: rate each answer, compare models, or both")
	fl.StringVar(&f.baseline, "baseline", "", "compare only with the model of this `NAME` (default for --mode pair: all pairs)")

	fl.StringArrayVar(&f.judgments, "judgments", nil, "score these judgments; repeatable, and further `FILE`s may follow as arguments")
	fl.BoolVar(&f.strict, "strict-ratings", false, "leave ratings out that are not from 1 to 10")
	fl.IntVar(&f.draws, "bootstrap", 2000, "draws for the intervals; 0 leaves them out")
	fl.StringVarP(&f.output, "output", "o", "", "write everything to this `DIR`")
	fl.BoolVar(&f.force, "force", false, "replace the results of another run in -o")
	return cmd
}

func (a *app) runMTBench(ctx context.Context, f *mtbenchFlags, args []string) error {
	if f.draws <= 0 {
		f.draws = -1
	}
	if f.limited && f.limit < 1 {
		return usagef("--limit %d: use 1 or more, or leave it out for all questions", f.limit)
	}
	if !slices.Contains([]string{"single", "pair", "both"}, f.mode) {
		return usagef("--mode %s: use single, pair or both", f.mode)
	}
	answering := f.engine.sft != "" || f.engine.aligned != "" || f.fleet.given()
	switch {
	case len(f.judgments) > 0 && (answering || len(f.answers) > 0):
		return usagef("--judgments scores what is there, and a model or --answers is judged anew: give one of them")
	case len(f.judgments) > 0 && f.limited:
		return usagef("--limit is for answers and judgments that are made; --judgments scores all that is there")
	case len(f.judgments) > 0:
		return a.mtbenchScore(ctx, f, append(f.judgments, args...))
	case len(args) > 0 || answering || len(f.answers) > 0:
		return a.mtbenchPath(ctx, f, args)
	}
	return usagef("needs a MODEL, --sft and --aligned, or --base-url or --model; or --answers FILE, or --judgments FILE")
}

// mtbenchScore computes the figures of judgments that are there.
func (a *app) mtbenchScore(ctx context.Context, f *mtbenchFlags, files []string) error {
	var single []mtbench.Judgment
	var pairs []mtbench.PairJudgment
	for _, path := range files {
		s, p, err := readJudgments(path)
		if err != nil {
			return err
		}
		single, pairs = append(single, s...), append(pairs, p...)
	}
	r := &mtbenchResult{f: f, config: map[string]string{}}
	if f.questions != "" {
		var err error
		if r.questions, err = readWith(f.questions, mtbench.ReadQuestions); err != nil {
			return err
		}
	}
	return a.mtbenchFinish(r, single, pairs)
}

func readJudgments(path string) (single []mtbench.Judgment, pairs []mtbench.PairJudgment, err error) {
	_, err = readWith(path, func(in io.Reader) (struct{}, error) {
		var err error
		single, pairs, err = mtbench.ReadJudgments(in)
		return struct{}{}, err
	})
	if err == nil && len(single)+len(pairs) == 0 {
		err = fmt.Errorf("%s: no judgments", path)
	}
	return single, pairs, err
}

// readAnswerFiles reads files of answers, or directories of them; a model is
// named after its file.
func readAnswerFiles(paths []string) ([]mtbench.Answers, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		found, err := filepath.Glob(filepath.Join(path, "*.jsonl"))
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("%s: no .jsonl files with answers", path)
		}
		files = append(files, found...)
	}
	var out []mtbench.Answers
	for _, path := range files {
		as, err := readWith(path, mtbench.ReadAnswers)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".gz"), ".jsonl")
		if slices.ContainsFunc(out, func(a mtbench.Answers) bool { return a.Model == name }) {
			return nil, usagef("two files of answers are named %s, after the same model", name)
		}
		out = append(out, mtbench.Answers{Model: name, Answers: as})
	}
	return out, nil
}
