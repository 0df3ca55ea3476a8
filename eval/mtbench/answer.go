package mtbench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"expo/eval"
	"expo/lm/chat"
	"expo/lm/generate"
)

// DefaultMaxTokens is the length of an answer that FastChat allows.
const DefaultMaxTokens = 1024

// Answerer has questions answered by a model.
type Answerer struct {
	Model     string // its name, for files
	Generator generate.Generator
	// Identity is what the answers depend on besides the request: the
	// checkpoint, the server's name for the model. It is part of the keys in
	// the log, so it must be something that JSON can express.
	Identity any
	// Request is how the model is asked: MaxTokens (DefaultMaxTokens if 0) and
	// what there is of sampling besides the temperature, which is the
	// question's, or the category's, unless Temperature is set.
	Request     generate.Request
	Temperature *float64
	System      string // a system message, none if empty
	Jobs        int    // questions at once; 16 if 0
	// Progress, if not nil, is called with the number of turns that are
	// answered, from many goroutines.
	Progress func(done, total int)
}

// Failure is a turn without a result.
type Failure struct {
	Model    string
	Question int
	Turn     int
	Err      error
}

func (f Failure) Error() string {
	return fmt.Sprintf("%s, question %d, turn %d: %v", f.Model, f.Question, f.Turn, f.Err)
}

func (f Failure) Unwrap() error { return f.Err }

// Answers is what a model answered.
type Answers struct {
	Model     string
	Answers   []Answer // in the order of the questions, complete ones only
	Open      []Failure
	Truncated int // turns that ended at MaxTokens
	Asked     int // turns that were not in the log
	Tokens    int // of all answers
}

// logged is an answer or a reply in the log.
type logged struct {
	Text             string                `json:"text"`
	FinishReason     generate.FinishReason `json:"finish_reason"`
	PromptTokens     int                   `json:"prompt_tokens"`
	CompletionTokens int                   `json:"completion_tokens"`
	Tstamp           float64               `json:"tstamp"`
}

func now() float64 { return float64(time.Now().UnixMicro()) / 1e6 }

// wanted is all of a request that its answer depends on.
type wanted struct {
	Messages     []chat.Message    `json:"messages"`
	TemplateVars map[string]any    `json:"template_vars,omitempty"`
	MaxTokens    int               `json:"max_tokens"`
	Sampling     generate.Sampling `json:"sampling"`
	Stop         []string          `json:"stop,omitempty"`
	StopTokenIDs []int             `json:"stop_token_ids,omitempty"`
}

func want(r generate.Request) wanted {
	return wanted{r.Messages, r.TemplateVars, r.MaxTokens, r.Sampling, r.Stop, r.StopTokenIDs}
}

// Answer answers the questions, as far as the log has no answers yet. A turn
// whose request is at fault stays open; any other error ends the run, and what
// had been answered is in the log.
func (a *Answerer) Answer(ctx context.Context, log *eval.Log, questions []Question) (*Answers, error) {
	if err := a.check(questions); err != nil {
		return nil, err
	}
	out := &Answers{Model: a.Model}
	total := 0
	for _, q := range questions {
		total += len(q.Turns)
	}
	type outcome struct {
		answer Answer
		fail   *Failure
	}
	results := make([]outcome, len(questions))
	var mu sync.Mutex
	done := 0
	var flight singleflight.Group
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs(a.Jobs))
	for i, q := range questions {
		g.Go(func() error {
			var turns []string
			var stamp float64
			for turn := range q.Turns {
				r := a.request(q, turns)
				key := eval.Key("mtbench answer", a.Identity, want(r))
				v, err, _ := flight.Do(key, func() (any, error) {
					l, fresh, err := askOnce(ctx, log, key, a.Generator, r)
					if err == nil && fresh {
						mu.Lock()
						out.Asked++
						mu.Unlock()
					}
					return l, err
				})
				if errors.Is(err, generate.ErrRequest) && ctx.Err() == nil {
					results[i].fail = &Failure{a.Model, q.ID, turn + 1, err}
					return nil
				}
				if err != nil {
					return fmt.Errorf("mtbench: question %d, turn %d: %w", q.ID, turn+1, err)
				}
				l := v.(logged)
				turns = append(turns, strings.TrimSpace(l.Text))
				stamp = max(stamp, l.Tstamp)
				mu.Lock()
				done++
				n := done
				if l.FinishReason == generate.Length {
					out.Truncated++
				}
				out.Tokens += l.CompletionTokens
				mu.Unlock()
				if a.Progress != nil {
					a.Progress(n, total)
				}
			}
			results[i].answer = Answer{
				QuestionID: q.ID, ModelID: a.Model, Choices: []Choice{{Index: 0, Turns: turns}}, Tstamp: stamp,
				AnswerID: answerID(append([]string{a.Model, strconv.Itoa(q.ID)}, turns...)...),
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, r := range results {
		if r.fail != nil {
			out.Open = append(out.Open, *r.fail)
		} else {
			out.Answers = append(out.Answers, r.answer)
		}
	}
	return out, nil
}

// askOnce gives the answer that the log has, or asks and puts it there.
func askOnce(ctx context.Context, log *eval.Log, key string, g generate.Generator, r generate.Request) (l logged, fresh bool, err error) {
	if known, err := log.Get(key, &l); known || err != nil {
		return l, false, err
	}
	if ctx.Err() != nil { // another one has failed
		return l, false, context.Cause(ctx)
	}
	resp, err := g.Generate(ctx, r)
	if err != nil {
		return l, false, err
	}
	l = logged{resp.Text, resp.FinishReason, resp.Usage.PromptTokens, resp.Usage.CompletionTokens, now()}
	return l, true, log.Append(key, l)
}

func jobs(n int) int {
	if n <= 0 {
		return 16
	}
	return n
}

// check refuses what FastChat refuses as well: two temperatures at once.
func (a *Answerer) check(questions []Question) error {
	if a.Temperature == nil {
		return nil
	}
	i := slices.IndexFunc(questions, func(q Question) bool { return q.RequiredTemperature != nil })
	if i >= 0 {
		return fmt.Errorf("mtbench: question %d requires temperature %v; no other can be forced", questions[i].ID, *questions[i].RequiredTemperature)
	}
	return nil
}

// request asks for the answer to the turn after those that are answered.
func (a *Answerer) request(q Question, answered []string) generate.Request {
	r := a.Request
	if r.MaxTokens == 0 {
		r.MaxTokens = DefaultMaxTokens
	}
	switch {
	case a.Temperature != nil:
		r.Temperature = *a.Temperature
	case q.RequiredTemperature != nil:
		r.Temperature = *q.RequiredTemperature
	default:
		r.Temperature = temperature(q.Category)
	}
	r.Messages = nil
	if a.System != "" {
		r.Messages = append(r.Messages, chat.Message{Role: "system", Content: a.System})
	}
	for i, text := range answered {
		r.Messages = append(r.Messages, chat.Message{Role: "user", Content: q.Turns[i]}, chat.Message{Role: "assistant", Content: text})
	}
	r.Messages = append(r.Messages, chat.Message{Role: "user", Content: q.Turns[len(answered)]})
	return r
}

// Plan is the requests that Answer would make: those that the log, which may
// be nil, has no answer to. The answers are those of the log, and texts as long
// as an answer may be in place of the others.
func (a *Answerer) Plan(log *eval.Log, questions []Question) ([]generate.Request, *Answers, error) {
	var out []generate.Request
	answers := &Answers{Model: a.Model}
	for _, q := range questions {
		var turns []string
		for range q.Turns {
			r := a.request(q, turns)
			var l logged
			known, err := find(log, eval.Key("mtbench answer", a.Identity, want(r)), &l)
			if err != nil {
				return nil, nil, err
			}
			if !known {
				out = append(out, r)
				// Four bytes a token. The text differs from turn to turn and from
				// model to model, as answers would.
				l.Text = strings.Repeat("word", max(r.MaxTokens-10, 0)) + fmt.Sprintf("%s %d", a.Model, len(turns))
			}
			turns = append(turns, strings.TrimSpace(l.Text))
		}
		answers.Answers = append(answers.Answers, Answer{QuestionID: q.ID, Choices: []Choice{{Turns: turns}}})
	}
	return out, answers, nil
}

func find(log *eval.Log, key string, l *logged) (bool, error) {
	if log == nil {
		return false, nil
	}
	return log.Get(key, l)
}
