package cli

import (
	"io"

	"github.com/spf13/cobra"

	"expo/align/train"
)

func (a *app) trainSFT() *cobra.Command {
	var f trainFlags
	cmd := &cobra.Command{
		Use:   "sft --model MODEL|--config DIR --data FILE -o DIR",
		Short: "Supervised fine-tuning on prompts and responses",
		Long: `Train a model to give the responses of --data: JSON lines {"prompt", "response"} or
{"messages"} that end with the assistant's. The loss is the mean of −log π over the
response's tokens and the end token; the prompt is read, not learned.
` + exitHelp,
		Args: noTrainArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.trained(cmd.Context(), &f, func(m *train.Model, data io.Reader) (*train.Report, error) {
				rows, err := train.ReadExamples(data)
				if err != nil {
					return nil, f.reading(err)
				}
				return train.SFT(cmd.Context(), m, rows, f.opt)
			})
		},
	}
	f.add(cmd, `{"prompt", "response"} or {"messages"}`, true)
	return cmd
}

func (a *app) trainDPO() *cobra.Command {
	var f trainFlags
	var opt train.DPOOptions
	cmd := &cobra.Command{
		Use:   "dpo --model MODEL --data FILE -o DIR",
		Short: "Direct preference optimization on pairs of responses",
		Long: `Train a model to prefer chosen over rejected responses, with the model it starts from
as the reference. --data has JSON lines {"prompt", "chosen", "rejected"}.
` + exitHelp,
		Args: noTrainArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.trained(cmd.Context(), &f, func(m *train.Model, data io.Reader) (*train.Report, error) {
				rows, err := train.ReadPairs(data)
				if err != nil {
					return nil, f.reading(err)
				}
				opt.Options = f.opt
				return train.DPO(cmd.Context(), m, rows, opt)
			})
		},
	}
	f.add(cmd, `{"prompt", "chosen", "rejected"}`, false)
	fl := cmd.Flags()
	fl.Float64Var(&opt.Beta, "beta", 0.1, "how much leaving the reference costs")
	fl.StringVar(&opt.Loss, "loss", "sigmoid", "`sigmoid|hinge|ipo`")
	fl.Float64Var(&opt.LabelSmoothing, "label-smoothing", 0, "share of preferences presumed to be wrong (sigmoid)")
	return cmd
}

func (a *app) trainReward() *cobra.Command {
	var f trainFlags
	var opt train.RewardOptions
	cmd := &cobra.Command{
		Use:   "reward --model MODEL --data FILE -o DIR",
		Short: "A reward model from pairs of responses",
		Long: `Turn a language model into a sequence classifier with one label that gives chosen
responses more than rejected ones, by the Bradley–Terry loss. --data has JSON lines
{"prompt", "chosen", "rejected"}.
` + exitHelp,
		Args: noTrainArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.trained(cmd.Context(), &f, func(m *train.Model, data io.Reader) (*train.Report, error) {
				rows, err := train.ReadPairs(data)
				if err != nil {
					return nil, f.reading(err)
				}
				opt.Options = f.opt
				return train.Reward(cmd.Context(), m, rows, opt)
			})
		},
	}
	f.add(cmd, `{"prompt", "chosen", "rejected"}`, false)
	cmd.Flags().Float64Var(&opt.Center, "center", 0, "weight of (r_chosen + r_rejected)², which draws rewards to a mean of 0")
	return cmd
}

// noTrainArgs refuses arguments.
func noTrainArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, got %q; the model is given with --model", cmd.CommandPath(), args)
	}
	return nil
}
