package cli

// paperSource is where the printed figures stand.
const paperSource = "the evaluation tables of the ExPO model cards, https://huggingface.co/chujiezheng"

// paperFigure is a model's printed figures: AlpacaEval 2.0's win rates in
// percent with one decimal, and MT-Bench's average with two.
type paperFigure struct{ winRate, lc, mtbench float64 }

// paperPair is a model of the tables, as it was and with ExPO.
type paperPair struct {
	model          string
	original, expo paperFigure
}

// paperFigures are the tables of the paper's models
// (https://arxiv.org/abs/2404.16792). They tell which of the runs in a
// directory is the one that was published, and stand in where there is none.
func paperFigures() []paperPair {
	return []paperPair{
		{"zephyr-7b-alpha", paperFigure{6.7, 10.0, 6.85}, paperFigure{10.6, 13.6, 6.87}},
		{"zephyr-7b-beta", paperFigure{10.2, 13.2, 7.02}, paperFigure{11.1, 14.0, 7.06}},
		{"Starling-LM-7B-alpha", paperFigure{15.0, 18.3, 7.82}, paperFigure{18.2, 19.5, 7.91}},
		{"Starling-LM-7B-beta", paperFigure{26.6, 25.8, 8.10}, paperFigure{29.6, 26.4, 8.18}},
		{"Snorkel-Mistral-PairRM-DPO", paperFigure{24.7, 24.0, 7.63}, paperFigure{28.8, 26.4, 7.69}},
		{"LLaMA3-iterative-DPO-final", paperFigure{29.2, 36.0, 8.08}, paperFigure{32.7, 37.8, 8.45}},
		{"internlm2-chat-1_8b", paperFigure{3.8, 4.0, 5.17}, paperFigure{5.2, 4.3, 5.26}},
		{"internlm2-chat-7b", paperFigure{20.5, 18.3, 7.72}, paperFigure{28.1, 22.7, 7.80}},
		{"internlm2-chat-20b", paperFigure{36.1, 24.9, 8.13}, paperFigure{46.2, 27.2, 8.26}},
		{"tulu-2-dpo-7b", paperFigure{8.5, 10.2, 6.35}, paperFigure{11.5, 11.7, 6.38}},
		{"tulu-2-dpo-13b", paperFigure{11.2, 15.5, 7.00}, paperFigure{15.6, 17.6, 7.26}},
		{"tulu-2-dpo-70b", paperFigure{15.4, 21.2, 7.79}, paperFigure{23.0, 25.7, 8.03}},
	}
}
