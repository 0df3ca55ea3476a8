package cli

import (
	"context"
	"errors"
	"math"

	"github.com/spf13/cobra"

	"expo/align/reward"
	"expo/lm/chat"
)

// rewardFlags say what scores answers.
type rewardFlags struct {
	model      string
	url        string
	name       string
	apiKeyFile string
	label      string
	sigmoid    bool
	template   string
}

func (f *rewardFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.model, "reward", "", "the reward `MODEL`: a sequence classifier, or PairRM, which compares with the aligned model's answer")
	fl.StringVar(&f.url, "reward-url", "", "score at this `URL` of a server of a reward model (vLLM)")
	fl.StringVar(&f.name, "reward-model", "", "with --reward-url: the `NAME` that the server knows the model by")
	fl.StringVar(&f.apiKeyFile, "reward-api-key-file", "", "with --reward-url: the key is in this `FILE`")
	fl.StringVar(&f.label, "reward-label", "", "the `OUTPUT` that is the reward, of a classifier with several")
	fl.BoolVar(&f.sigmoid, "reward-sigmoid", false, "with --reward-url: the server's scores went through a sigmoid")
	fl.StringVar(&f.template, "reward-chat-template", "", "a `FILE`, or a name as with --chat-template, in place of the reward model's own")
}

func (f *rewardFlags) given() bool { return f.model != "" || f.url != "" }

// A searchJudge scores answers.
type searchJudge struct {
	reward.Scorer
	identity any  // what rewards are kept under
	compares bool // answers need the aligned model's beside them
	batch    int
	close    func()
}

func (f *rewardFlags) open(ctx context.Context, a *app, jobs int) (*searchJudge, error) {
	var tmpl *chat.Template
	if f.template != "" {
		var err error
		if tmpl, err = chatTemplate(f.template, nil); err != nil {
			return nil, err
		}
	}
	if f.url != "" {
		fleet := fleetFlags{prefix: "reward-", apiKeyFile: f.apiKeyFile}
		key, err := fleet.key(a, []string{f.url})
		if err != nil {
			return nil, err
		}
		r, err := reward.NewRemote(reward.RemoteOptions{URL: f.url, Model: f.name, APIKey: key, Template: tmpl, Label: f.label, Sigmoid: f.sigmoid, Concurrency: jobs})
		if err != nil {
			return nil, usageError{err}
		}
		name := f.name
		if name == "" {
			name = f.url
		}
		return &searchJudge{Scorer: r, identity: []any{"served", name, f.label, f.template}, batch: 64, close: func() {}}, nil
	}
	c, _, err := openModel(f.model)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	sum, err := fingerprint(c)
	if err != nil {
		return nil, err
	}
	m, err := reward.Open(ctx, c, reward.Options{Jobs: jobs, Truncate: true, Label: f.label, Template: tmpl})
	if err != nil {
		return nil, err
	}
	_, compares := m.(*reward.PairRM)
	return &searchJudge{Scorer: m, identity: []any{sum, f.label, f.template}, compares: compares, batch: 32, close: m.Close}, nil
}

// score gives rewards, NaN for items that have none, and why the first of those
// has none. The error is one that concerns them all.
func (j *searchJudge) score(ctx context.Context, items []reward.Item) (scores []float64, why, err error) {
	scores, err = j.Score(ctx, items)
	var partial *reward.PartialError
	if !errors.As(err, &partial) {
		return scores, nil, err
	}
	for _, e := range partial.Errors {
		if e != nil {
			return scores, e, nil
		}
	}
	return scores, nil, nil
}

// unknown is many NaN.
func unknown(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = math.NaN()
	}
	return out
}
