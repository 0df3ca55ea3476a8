package judge

import "expo/lm/generate"

// PairwiseConfig is a published judge: alpaca_eval's evaluators_configs of the
// same name.
type PairwiseConfig struct {
	ID       string
	Model    string // the name that its endpoint knew it by
	Reading  Reading
	Template PairwisePrompt
	Request  generate.Request // tokens and sampling
}

// PairwisePrompt is a template that is fetched when it is needed.
type PairwisePrompt struct {
	Path   string // in alpaca_eval's repository
	SHA256 string
}

const configs = "src/alpaca_eval/evaluators_configs/"

// The templates of alpaca_eval's judges.
var (
	clfPrompt    = PairwisePrompt{configs + "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt", "784227e6dc2832fc08c43d2c8ea3a308e7523780187a1aaad2f85e30bac85f62"}
	clfCoTPrompt = PairwisePrompt{configs + "alpaca_eval_clf_cot_gpt4_turbo/alpaca_eval_clf_cot.txt", "02adeb58f5707c6aee8cf90df88b7459f5cd8679d95bf816e764db720519f3b0"}
	rankPrompt   = PairwisePrompt{configs + "alpaca_eval_gpt4/alpaca_eval.txt", "cf4bace43fa6ac71944b9ca2506587ad7c509478a219e98a3950abf9d5b42a98"}
)

// PairwiseConfigs lists the judges that alpaca_eval publishes results of, or
// has configured, and that reply in text. The first is AlpacaEval 2.0's.
func PairwiseConfigs() []PairwiseConfig {
	weighted := generate.Request{MaxTokens: 1, TopLogprobs: 5, Sampling: generate.Sampling{Temperature: 1, TopP: 1}}
	reasoned := weighted
	reasoned.MaxTokens = 300
	return []PairwiseConfig{
		{"weighted_alpaca_eval_gpt4_turbo", "gpt-4-1106-preview", FirstToken, clfPrompt, weighted},
		{"weighted_alpaca_eval_gpt4.1", "gpt-4.1-2025-04-14", FirstToken, clfPrompt, weighted},
		{"weighted_alpaca_eval_gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18", FirstToken, clfPrompt, weighted},
		{"weighted_alpaca_eval_gpt4_turbo_new", "gpt-4-turbo", FirstToken, clfPrompt, weighted},
		{"weighted_alpaca_eval_cot_gpt4_turbo", "gpt-4-1106-preview", LastToken, clfCoTPrompt, reasoned},
		{"alpaca_eval_gpt4", "gpt-4", Ranking, rankPrompt, generate.Request{MaxTokens: 100}},
	}
}
