package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"expo/align/reward"
	"expo/align/train"
	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/generate/local"
	"expo/lm/model"
)

type sppoFlags struct {
	trainFlags
	opt               train.SPPOOptions
	beta              float64
	prompts           string
	reward, rule      string
	temperature, topP float64
	maxTokens         int
	errors            io.Writer // of --reward-command
}

func (a *app) trainSPPO() *cobra.Command {
	var f sppoFlags
	cmd := &cobra.Command{
		Use:   "sppo --model MODEL --prompts FILE --reward MODEL -o DIR",
		Short: "Self-play preference optimization: sample, compare, learn, again",
		Long: `In each iteration, sample --samples answers to each prompt of its share from the
model as it is, score them with the reward or preference model (a sequence classifier,
or PairRM) or a program, and train on the best and the worst of each prompt towards their win
probabilities. --steps and --epochs are those of one iteration. --prompts has JSON
lines {"prompt"} or {"messages"}.
` + exitHelp,
		Args: noTrainArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runSPPO(cmd, &f) },
	}
	f.add(cmd, `{"prompt"} or {"messages"} (the same as --prompts)`, false)
	fl := cmd.Flags()
	fl.StringVar(&f.prompts, "prompts", "", "a JSONL `FILE` of {\"prompt\"} or {\"messages\"}")
	fl.StringVar(&f.reward, "reward", "", "the reward or preference `MODEL`")
	fl.StringVar(&f.rule, "reward-command", "", "in its place a `COMMAND` that scores: it reads JSON lines {\"prompt\" or \"messages\", \"response\"} and prints a number for each")
	fl.IntVar(&f.opt.Iterations, "iterations", 3, "how often to sample and learn")
	fl.IntVar(&f.opt.Samples, "samples", 5, "answers to each prompt")
	fl.Float64Var(&f.opt.Eta, "eta", 1000, "factor of the win probability")
	fl.Float64Var(&f.beta, "beta", 0, "1/eta, as the authors' program has it")
	fl.Float64Var(&f.temperature, "temperature", 0.7, "of sampling")
	fl.Float64Var(&f.topP, "top-p", 0.9, "of sampling: the fewest tokens with this much probability")
	fl.IntVar(&f.maxTokens, "max-tokens", 0, "tokens of an answer at most (default: what --max-length leaves)")
	return cmd
}

func (a *app) runSPPO(cmd *cobra.Command, f *sppoFlags) error {
	ctx := cmd.Context()
	f.errors = a.err
	if f.beta != 0 {
		if cmd.Flags().Changed("eta") || !(f.beta > 0) {
			return usagef("--beta is 1/eta, above 0, and in its place")
		}
		f.opt.Eta = 1 / f.beta
	}
	if f.prompts != "" {
		if f.data != "" {
			return usagef("--prompts and --data are the same file; give one")
		}
		f.data = f.prompts
	}
	if (f.reward == "") == (f.rule == "") || f.reward == "" && strings.TrimSpace(f.rule) == "" {
		return usagef("what scores answers is needed: --reward MODEL or --reward-command COMMAND")
	}
	return a.trained(ctx, &f.trainFlags, func(m *train.Model, data io.Reader) (*train.Report, error) {
		prompts, err := train.ReadPrompts(data)
		if err != nil {
			return nil, f.reading(err)
		}
		opt := f.opt
		opt.Options, opt.Sample, opt.Score = f.trainFlags.opt, f.sample, f.scoreByCommand
		if f.reward != "" {
			done, err := f.openJudge(ctx, &opt)
			if err != nil {
				return nil, err
			}
			defer done()
		}
		reports, err := train.SPPO(ctx, m, prompts, opt)
		if err != nil {
			return nil, err
		}
		total := *reports[len(reports)-1]
		total.Steps, total.Resumed, total.Rows, total.Skipped, total.Truncated, total.Tokens, total.Seconds = 0, 0, 0, 0, 0, 0, 0
		for _, r := range reports {
			total.Steps += r.Steps
			total.Resumed += r.Resumed
			total.Rows += r.Rows
			total.Skipped += r.Skipped
			total.Truncated += r.Truncated
			total.Tokens += r.Tokens
			total.Seconds += r.Seconds
		}
		return &total, nil
	})
}

// openJudge loads the model that scores.
func (f *sppoFlags) openJudge(ctx context.Context, opt *train.SPPOOptions) (done func(), err error) {
	c, _, err := openModel(f.reward)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	judge, err := reward.Open(ctx, c, reward.Options{Jobs: opt.Jobs, Truncate: true})
	if err != nil {
		return nil, err
	}
	_, err = chat.Load(c.Files())
	templated := err == nil && !opt.Raw
	opt.Score = func(ctx context.Context, prompts []train.Pair, answers [][]string) ([][]float64, error) {
		return scoreAnswers(ctx, judge, templated, prompts, answers)
	}
	return judge.Close, nil
}

// sample draws the answers of an iteration. The k-th answer to a prompt has the
// seed of --seed plus 50·k, as in the authors' program.
func (f *sppoFlags) sample(ctx context.Context, r train.SampleRequest) ([][]string, error) {
	c, err := r.Model.Checkpoint("the model in training")
	if err != nil {
		return nil, err
	}
	o := f.trainFlags.opt
	limit := local.Options{ContextLength: o.MaxLength}
	e, err := local.Open(ctx, c, model.LoadOptions{Jobs: o.Jobs}, limit)
	if err != nil {
		return nil, err
	}
	defer e.Model().Close()
	answers := make([][]string, len(r.Prompts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(32) // twice what is computed at once
	for i, p := range r.Prompts {
		answers[i] = make([]string, r.Samples)
		for k := range r.Samples {
			g.Go(func() error {
				q := generate.Request{Prompt: p.Prompt, Messages: p.Messages, MaxTokens: f.maxTokens}
				if p.Messages == nil && e.Template() != nil && !o.Raw {
					q.Prompt, q.Messages = "", []chat.Message{{Role: "user", Content: p.Prompt}}
				}
				q.Sampling = generate.Sampling{Temperature: f.temperature, TopP: f.topP, Seed: o.Seed + 50*uint64(k), Sample: (r.Iteration-1)<<32 + i}
				resp, err := e.Generate(ctx, q)
				if err != nil {
					return fmt.Errorf("prompt %d: %w", i+1, err)
				}
				answers[i][k] = resp.Text
				return nil
			})
		}
	}
	return answers, g.Wait()
}

// scoreAnswers gives each answer a reward. A model that compares does so for all
// ordered pairs of a prompt's answers.
func scoreAnswers(ctx context.Context, judge reward.Model, templated bool, prompts []train.Pair, answers [][]string) ([][]float64, error) {
	scores := make([][]float64, len(prompts))
	if c, ok := judge.(*reward.PairRM); ok {
		for i, p := range prompts {
			m, err := c.Matrix(ctx, p.Messages, p.Prompt, answers[i])
			if err != nil {
				return nil, fmt.Errorf("prompt %d: %w", i+1, err)
			}
			scores[i] = reward.Rewards(m)
		}
		return scores, nil
	}
	var items []reward.Item
	for i, p := range prompts {
		for _, text := range answers[i] {
			it := reward.Item{Prompt: p.Prompt, Messages: p.Messages, Response: text, Ended: true}
			if p.Messages == nil && templated {
				it.Prompt, it.Messages = "", []chat.Message{{Role: "user", Content: p.Prompt}}
			}
			items = append(items, it)
		}
	}
	flat, err := judge.Score(ctx, items)
	if err != nil {
		return nil, err
	}
	for i := range prompts {
		n := len(answers[i])
		scores[i], flat = flat[:n:n], flat[n:]
	}
	return scores, nil
}

// scoreByCommand lets a program score all answers, prompt by prompt. Its words are
// those between spaces; no shell reads them.
func (f *sppoFlags) scoreByCommand(ctx context.Context, prompts []train.Pair, answers [][]string) ([][]float64, error) {
	words := strings.Fields(f.rule)
	var in, out bytes.Buffer
	enc := json.NewEncoder(&in)
	enc.SetEscapeHTML(false)
	for i, p := range prompts {
		for _, text := range answers[i] {
			row := struct {
				Prompt   string         `json:"prompt,omitempty"`
				Messages []chat.Message `json:"messages,omitempty"`
				Response string         `json:"response"`
			}{p.Prompt, p.Messages, text}
			if err := enc.Encode(row); err != nil {
				return nil, err
			}
		}
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, f.errors
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("--reward-command: %w", err)
	}
	numbers := strings.Fields(out.String())
	scores := make([][]float64, len(prompts))
	for i := range prompts {
		for range answers[i] {
			if len(numbers) == 0 {
				return nil, fmt.Errorf("--reward-command: %s printed too few numbers, want one for each line", words[0])
			}
			v, err := strconv.ParseFloat(numbers[0], 64)
			if err != nil {
				return nil, fmt.Errorf("--reward-command: %s printed %.40q, want a number", words[0], numbers[0])
			}
			scores[i], numbers = append(scores[i], v), numbers[1:]
		}
	}
	if len(numbers) > 0 {
		return nil, fmt.Errorf("--reward-command: %s printed more numbers than there were lines", words[0])
	}
	return scores, nil
}
