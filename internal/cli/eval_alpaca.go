package cli

import (
	"context"

	"github.com/spf13/cobra"
)

// alpacaFlags are the flags of expo eval alpaca.
type alpacaFlags struct {
	alpacaScoreFlags
	alpacaRunFlags
}

func (a *app) evalAlpaca() *cobra.Command {
	var f alpacaFlags
	cmd := &cobra.Command{
		Use: `alpaca MODEL -o DIR | alpaca --sft MODEL --aligned MODEL --alpha NUMBER -o DIR | alpaca --base-url URL -o DIR |
       alpaca --outputs FILE -o DIR | alpaca --annotations FILE [FILE]... | alpaca --weights FILE --baseline MODEL [MODEL]...`,
		Short: "AlpacaEval: win rate and length-controlled win rate",
		Long: `Measure how often a judge prefers a model's answers to a baseline's, and what that
would be at equal length (LC), as AlpacaEval 1 and 2.0 do.

The whole path: a model in this process, the view of a pair at some α, or servers
(--base-url, --model) answer the instructions; a judge (--judge-model, or --judge
MODEL in this process) compares each answer with the baseline's; the figures are
computed. DIR receives log.jsonl, which every answer and judgment is added to as it
arrives and from which the same command resumes, alpaca_eval's model_outputs.json,
annotations.json, leaderboard.csv and weights.csv, and result.json and
samples.jsonl. --outputs begins with the judge. A run in DIR with more instructions
(--limit) goes on from there; one with other settings is refused before anything is
asked, unless --force says otherwise.

--annotations computes the figures of alpaca_eval's annotations.json, of any number
of models. Rows are matched with the difficulty of their instruction; a set that
lacks instructions is refused unless --allow-partial says otherwise. LC needs
df_gamed.csv of the data set tatsu-lab/alpaca_eval, fetched once or given with
--gamed; its instructions are those of --questions, or are told by --difficulty.
The strength C of LC's fit is chosen by cross-validation, as alpaca_eval does, or
given with --lc-c; the rates at neighbouring C are part of the result.

--weights with --baseline computes LC of any model against any other from the
weights of their fits alone.
` + exitHelp,
		Example: `  expo eval alpaca out --judge-model gpt-4.1-2025-04-14 -o run
  expo eval alpaca --sft SFT --aligned DPO --alpha 0.3 --judge judge.gguf -o run
  expo eval alpaca --outputs model_outputs.json --judge-base-url http://localhost:8000/v1 -o run
  expo eval alpaca --annotations results/*/weighted_alpaca_eval_gpt4_turbo/annotations.json
  expo eval alpaca --annotations annotations.json --lc-c 2.7825594 --align position --json
  expo eval alpaca --weights weights.csv --difficulty instruction_difficulty.csv --baseline zephyr-7b-beta zephyr-7b-beta-ExPO`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runAlpaca(cmd.Context(), &f, args) },
	}
	f.alpacaScoreFlags.add(cmd)
	f.alpacaRunFlags.add(cmd)
	return cmd
}

func (a *app) runAlpaca(ctx context.Context, f *alpacaFlags, args []string) error {
	if err := f.alpacaScoreFlags.check(); err != nil {
		return err
	}
	if f.changed("limit") && f.limit < 1 {
		return usagef("--limit %d: use 1 or more, or leave it out for all instructions", f.limit)
	}
	switch {
	case len(f.annotations) > 0 && f.answering(nil):
		return usagef("--annotations scores what is there and a model answers anew: give one of them; --keep-annotations goes on with judgments")
	case len(f.annotations) > 0:
		return a.alpacaScore(ctx, f, append(f.annotations, args...))
	case f.weights != "" && f.output == "":
		return a.alpacaVersus(f, args)
	case f.alpacaRunFlags.given(args):
		return a.alpacaPath(ctx, f, args)
	}
	return usagef("needs a MODEL, --sft and --aligned, or --base-url or --model; or --outputs FILE, --annotations FILE, or --weights FILE with --baseline MODEL")
}
