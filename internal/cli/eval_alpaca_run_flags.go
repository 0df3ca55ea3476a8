package cli

import (
	"github.com/spf13/cobra"

	"expo/lm/generate"
)

// alpacaRunFlags say how answers and judgments are made.
type alpacaRunFlags struct {
	engine    engineFlags
	fleet     fleetFlags
	spend     spendFlags
	request   generate.Request
	raw       bool
	strip     bool
	outputs   string
	reference string
	limit     int
	plan      bool // and do nothing
	answers   bool // and no judge

	judgeModel    string
	judgeFleet    fleetFlags
	judgeID       string
	judgeTemplate string
	judgeReading  string
	judgeSamples  int
	judgeTries    int
	judgeRequest  generate.Request
	swap          string
	compat        bool
	keep          string

	changed func(flag string) bool // whether it was given
}

func (f *alpacaRunFlags) add(cmd *cobra.Command) {
	f.engine.add(cmd)
	f.fleet.add(cmd, "", "the model")
	f.spend.add(cmd)
	fl := cmd.Flags()
	r := &f.request
	fl.IntVar(&r.MaxTokens, "max-tokens", 2048, "tokens of an answer at most")
	fl.Float64Var(&r.Temperature, "temperature", 0.7, "0 takes the likeliest token; this and the following are what published rows of ExPO were made with")
	fl.Float64Var(&r.TopP, "top-p", 0.9, "keep the fewest tokens with this much probability")
	fl.IntVar(&r.TopK, "top-k", 50, "keep the k likeliest tokens; 0 keeps all")
	fl.Float64Var(&r.PresencePenalty, "presence-penalty", 0.1, "subtract from the logits of tokens in the answer")
	fl.Float64Var(&r.FrequencyPenalty, "frequency-penalty", 0.1, "subtract for each time a token is in the answer")
	fl.Float64Var(&r.RepetitionPenalty, "repetition-penalty", 1, "divide the logits of tokens in prompt or answer")
	fl.Uint64Var(&r.Seed, "sampling-seed", 42, "of the answers' random numbers")
	fl.StringArrayVar(&r.Stop, "stop", nil, "end an answer before this `TEXT`; repeatable")
	fl.IntSliceVar(&r.StopTokenIDs, "stop-token-ids", nil, "end an answer at these tokens too, as 92542 for InternLM2")
	fl.BoolVar(&r.Truncate, "truncate", false, "drop the beginning of an instruction that is too long")
	fl.BoolVar(&f.raw, "raw", false, "use no chat template")
	fl.BoolVar(&f.strip, "strip", false, "take white space off both ends of answers, which their length depends on")
	fl.StringVar(&f.outputs, "outputs", "", "judge the answers in this `FILE`, alpaca_eval's model_outputs.json; a MODEL answers only what it lacks")
	fl.StringVar(&f.reference, "reference", "", "the baseline's answers, a `FILE` like that of --outputs (default: gpt4_1106_preview's, fetched)")
	fl.IntVar(&f.limit, "limit", 0, "the first `N` instructions only")
	fl.BoolVarP(&f.plan, "dry-run", "n", false, "say how many requests there would be, and what they may cost")
	fl.BoolVar(&f.answers, "answers-only", false, "stop before judging")

	fl.StringVar(&f.judgeModel, "judge", "", "the judge is this `MODEL`, in this process")
	f.judgeFleet.add(cmd, "judge-", "the judge")
	fl.StringVar(&f.judgeID, "judge-id", "", "the `NAME` under which judgments are filed; one of alpaca_eval's chooses its prompt and reading")
	fl.StringVar(&f.judgeTemplate, "judge-template", "", "the judge's prompt, a `FILE` in alpaca_eval's form (default: alpaca_eval's own, fetched)")
	fl.StringVar(&f.judgeReading, "judge-reading", "", "how the verdict is read: `first-token|last-token|ranking|votes`; votes for judges without log-probabilities")
	fl.IntVar(&f.judgeSamples, "judge-samples", 5, "replies for --judge-reading votes")
	fl.IntVar(&f.judgeTries, "judge-tries", 2, "how often a reply is asked for that cannot be read")
	j := &f.judgeRequest
	fl.IntVar(&j.MaxTokens, "judge-max-tokens", 0, "tokens of a reply at most (default: the judge's)")
	fl.Float64Var(&j.Temperature, "judge-temperature", 0, "of the judge (default: the judge's)")
	fl.IntVar(&j.TopLogprobs, "judge-top-logprobs", 5, "look for the verdict among this many tokens; up to 20")
	fl.Uint64Var(&j.Seed, "judge-seed", 0, "of the judge's random numbers")
	fl.StringVar(&f.swap, "swap", "one", "`one|both` orders of the outputs; both is another judge")
	fl.BoolVar(&f.compat, "judge-compat", false, "fill the prompt as alpaca_eval does, so that outputs can break it")
	fl.StringVar(&f.keep, "keep-annotations", "", "take over judgments from this annotations.json, a `FILE`")
	f.changed = func(flag string) bool { return cmd.Flags().Changed(flag) }
}

// given tells whether there is anything to run.
func (f *alpacaRunFlags) given(args []string) bool { return f.outputs != "" || f.answering(args) }

// answering tells whether a model is to answer.
func (f *alpacaRunFlags) answering(args []string) bool {
	return len(args) > 0 || f.engine.sft != "" || f.engine.aligned != "" || f.fleet.given()
}
