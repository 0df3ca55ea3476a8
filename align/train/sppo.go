package train

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"expo/lm/chat"
)

// SPPOOptions say how to train by self-play. Options.Steps and Epochs are those
// of one iteration.
type SPPOOptions struct {
	Options
	// Eta is η (0: 1000), which multiplies the win probability; the authors'
	// β is its inverse.
	Eta float64
	// Samples is K, the number of answers to each prompt (0: 5).
	Samples int
	// Iterations is how often answers are sampled and learned from (0: 3).
	Iterations int

	// Sample gives Samples answers of the model to each prompt. Answers must
	// depend on the request alone.
	Sample func(ctx context.Context, r SampleRequest) ([][]string, error)
	// Score says how good each answer to a prompt is, on a scale on which
	// σ(s_i − s_j) is the probability that i is better than j: rewards of a
	// Bradley–Terry model, or for a model that compares the mean over all j of the
	// logit of i against j less that of j against i. Prompts have no responses.
	Score func(ctx context.Context, prompts []Pair, answers [][]string) ([][]float64, error)
}

// A SampleRequest is what one iteration of SPPO asks for.
type SampleRequest struct {
	Iteration int // from 1
	Model     *Model
	Prompts   []Pair // without responses
	Samples   int
}

// SPPO trains m by "Self-Play Preference Optimization"
// (https://arxiv.org/abs/2405.00675). Prompts are cut into as many parts as there
// are iterations. Each iteration samples answers to the prompts of its part from
// the model as it is, scores them, and takes the best and the worst of each
// prompt; with P̂(y_i ≻ π) = mean over all j, i included, of σ(s_i − s_j), the loss
// is the mean over the pairs of a step of
//
//	½[(Δ_w − η(P̂_w − ½))² + (Δ_l − η(P̂_l − ½))²]
//
// where Δ is the change of a whole response's log-probability since the iteration
// began. This is the loss "sppo" of https://github.com/uclaml/SPPO, with 1/β = η.
// The optimizer (AdamW, where the authors have RMSprop) and the learning rate start
// anew in each iteration. Prompts whose answers are all equally good are left out.
//
// The reports are those of the iterations. With Options.Work each has a folder
// there, with its answers in samples.jsonl.
func SPPO(ctx context.Context, m *Model, prompts []Pair, opt SPPOOptions) ([]*Report, error) {
	if err := m.languageModel("SPPO"); err != nil {
		return nil, err
	}
	o, err := opt.Options.defaults(5e-7, m.cfg)
	if err != nil {
		return nil, err
	}
	if opt.Eta == 0 {
		opt.Eta = 1000
	}
	if opt.Samples == 0 {
		opt.Samples = 5
	}
	if opt.Iterations == 0 {
		opt.Iterations = 3
	}
	switch {
	case opt.Sample == nil || opt.Score == nil:
		return nil, errors.New("train: SPPO needs to be told how to sample and how to score")
	case !(opt.Eta > 0) || math.IsInf(opt.Eta, 0):
		return nil, fmt.Errorf("train: eta is %v, want more than 0", opt.Eta)
	case opt.Samples < 2:
		return nil, fmt.Errorf("train: %d samples of each prompt cannot be compared, want 2 or more", opt.Samples)
	case opt.Iterations < 1 || opt.Iterations > len(prompts):
		return nil, fmt.Errorf("train: %d iterations need as many prompts, there are %d", opt.Iterations, len(prompts))
	}
	var reports []*Report
	for i := range opt.Iterations {
		part := prompts[i*len(prompts)/opt.Iterations : (i+1)*len(prompts)/opt.Iterations]
		each := o
		each.Seed += uint64(i)
		if o.Work != "" {
			each.Work = filepath.Join(o.Work, fmt.Sprint(iterationPrefix, i+1))
		}
		r, err := m.iterate(ctx, i+1, part, &opt, each)
		if err != nil {
			return reports, fmt.Errorf("iteration %d: %w", i+1, err)
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// iterate is one iteration.
func (m *Model) iterate(ctx context.Context, iteration int, prompts []Pair, opt *SPPOOptions, o Options) (*Report, error) {
	answers, scores, err := m.played(ctx, iteration, prompts, opt, &o)
	if err != nil {
		return nil, err
	}
	var mean float64
	for _, list := range scores {
		for _, v := range list {
			mean += v / float64(len(scores)*len(list))
		}
	}
	if o.Note != nil {
		o.Note(fmt.Sprintf("iteration %d: the answers have a mean score of %.4g", iteration, mean))
	}
	var data []Pair
	var wins [][2]float64
	for i, p := range prompts {
		w, l, pw, pl := extremes(scores[i])
		if scores[i][w] == scores[i][l] || answers[i][w] == answers[i][l] {
			continue
		}
		p.Chosen, p.Rejected = answers[i][w], answers[i][l]
		data, wins = append(data, p), append(wins, [2]float64{pw, pl})
	}
	if len(data) == 0 {
		return nil, errors.New("train: the answers to every prompt are all equally good; sample more, or at a higher temperature")
	}
	enc, err := m.encodePairs(ctx, data, &o, false)
	if err != nil {
		return nil, err
	}
	loss := func(i int, dw, dl float64) (float64, float64, float64) {
		win := wins[enc.rows[i]]
		a, b := dw-opt.Eta*(win[0]-0.5), dl-opt.Eta*(win[1]-0.5)
		return (a*a + b*b) / 2, a, b
	}
	t := enc.against("sppo", 1/opt.Eta, o.Note, loss)
	t.iteration = iteration
	t.digest = func(d *digest) {
		d.float(opt.Eta)
		enc.digest(d)
		for _, w := range wins {
			d.float(w[0])
			d.float(w[1])
		}
	}
	report, err := m.run(ctx, t, o)
	if report != nil {
		report.Skipped, report.Truncated, report.Score = enc.skipped+len(prompts)-len(data), enc.truncated, mean
	}
	return report, err
}

// extremes are the best and the worst of some answers, the first among equals,
// and their win probabilities against all of them, themselves included.
func extremes(scores []float64) (best, worst int, win, lose float64) {
	for i, s := range scores {
		if s > scores[best] {
			best = i
		}
		if s < scores[worst] {
			worst = i
		}
	}
	for _, s := range scores {
		win += sigmoid(scores[best] - s)
		lose += sigmoid(scores[worst] - s)
	}
	n := float64(len(scores))
	return best, worst, win / n, lose / n
}

// playedRow is a line of samples.jsonl; the first has only a key and what it is of.
type playedRow struct {
	Key      string         `json:"key,omitempty"`
	Run      identity       `json:"run,omitempty"` // what the key sums up
	Prompt   string         `json:"prompt,omitempty"`
	Messages []chat.Message `json:"messages,omitempty"`
	Answers  []string       `json:"answers,omitempty"`
	Scores   []float64      `json:"scores,omitempty"`
}

// played samples and scores, unless an interrupted run has done so.
func (m *Model) played(ctx context.Context, iteration int, prompts []Pair, opt *SPPOOptions, o *Options) (answers [][]string, scores [][]float64, err error) {
	path, key := "", ""
	var run identity
	if o.Work != "" {
		path = filepath.Join(o.Work, "samples.jsonl")
		key, run = m.playKey(iteration, prompts, opt.Samples, o.Seed)
		if answers, scores, err = readPlayed(path, key, run, len(prompts), opt.Samples); err != nil || answers != nil {
			return answers, scores, err
		}
	}
	if o.Note != nil {
		o.Note(fmt.Sprintf("iteration %d: %d answers to each of %d prompts", iteration, opt.Samples, len(prompts)))
	}
	answers, err = opt.Sample(ctx, SampleRequest{Iteration: iteration, Model: m, Prompts: prompts, Samples: opt.Samples})
	if err != nil {
		return nil, nil, err
	}
	if err := countAnswers(answers, len(prompts), opt.Samples); err != nil {
		return nil, nil, err
	}
	if scores, err = opt.Score(ctx, prompts, answers); err != nil {
		return nil, nil, err
	}
	if err := countAnswers(scores, len(prompts), opt.Samples); err != nil {
		return nil, nil, err
	}
	for i, list := range scores {
		for _, s := range list {
			if math.IsNaN(s) || math.IsInf(s, 0) {
				return nil, nil, fmt.Errorf("train: an answer to prompt %d has score %v", i+1, s)
			}
		}
	}
	if path == "" {
		return answers, scores, nil
	}
	if err := os.MkdirAll(o.Work, 0o777); err != nil {
		return nil, nil, fmt.Errorf("train: %w", err)
	}
	err = writeFile(path+".tmp", func(w *bufio.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		err := enc.Encode(playedRow{Key: key, Run: run})
		for i, p := range prompts {
			if err == nil {
				err = enc.Encode(playedRow{Prompt: p.Prompt, Messages: p.Messages, Answers: answers[i], Scores: scores[i]})
			}
		}
		return err
	})
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("train: %w", err)
	}
	return answers, scores, nil
}

func countAnswers[T any](rows [][]T, prompts, samples int) error {
	if len(rows) != prompts {
		return fmt.Errorf("train: %d prompts were answered, want %d", len(rows), prompts)
	}
	for i, r := range rows {
		if len(r) != samples {
			return fmt.Errorf("train: prompt %d has %d answers or scores, want %d", i+1, len(r), samples)
		}
	}
	return nil
}

// playKey identifies the answers of an iteration.
func (m *Model) playKey(iteration int, prompts []Pair, samples int, seed uint64) (string, identity) {
	d := &digest{h: sha256.New()}
	for _, p := range prompts {
		d.text(p.Prompt)
		b, _ := json.Marshal(p.Messages)
		d.text(string(b))
	}
	run := identity{"data": hex.EncodeToString(d.h.Sum(nil)), "model": m.weightsDigest(), "samples": fmt.Sprint(samples)}
	d.number(uint64(iteration))
	d.number(uint64(samples))
	d.number(seed)
	d.text(run["model"])
	run["seed"] = fmt.Sprint(seed - uint64(iteration-1)) // of the whole run
	return hex.EncodeToString(d.h.Sum(nil)), run
}

// readPlayed reads samples.jsonl; it is no error if there is none.
func readPlayed(path, key string, run identity, prompts, samples int) (answers [][]string, scores [][]float64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("train: %w", err)
	}
	defer f.Close()
	rows, err := readLines(f, func(b []byte) (r playedRow, err error) {
		err = json.Unmarshal(b, &r)
		return r, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if rows[0].Key != key {
		return nil, nil, otherRun(path, rows[0].Run, run)
	}
	for _, r := range rows[1:] {
		answers, scores = append(answers, r.Answers), append(scores, r.Scores)
	}
	if err := errors.Join(countAnswers(answers, prompts, samples), countAnswers(scores, prompts, samples)); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return answers, scores, nil
}
