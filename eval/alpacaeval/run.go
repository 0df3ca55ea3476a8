package alpacaeval

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"expo/eval"
	"expo/eval/judge"
	"expo/lm/chat"
	"expo/lm/generate"
)

// A Worker is who answers requests of a run, and how a run goes on when one
// fails. The log that a stage is given keeps what was answered; what is in it
// is not asked again.
type Worker struct {
	Generator generate.Generator
	// Identity tells in the log whose answers are whose: it has to change with
	// the model's weights or the name that servers know it by. JSON has to be
	// able to express it.
	Identity any
	Jobs     int // requests at once, 16 if 0
	// Fatal tells which failures will befall every other request too. They end
	// the stage at once; others leave a sample without a result. So does a row
	// of failures without any success between.
	Fatal func(error) bool
	// Progress, if not nil, is told how many of a stage's samples are done.
	Progress func(done, total int64)
}

// inARow is how many failures one after the other end a stage.
const inARow = 10

// Failure is a sample without a result.
type Failure struct {
	Index       int // of the row
	Instruction string
	Err         error
}

// each calls f for 0 … n−1, several at once. What was begun is finished even
// if the stage ends early, unless ctx is done: it may have been paid for.
func (w *Worker) each(ctx context.Context, n int, f func(i int) error) ([]error, error) {
	jobs := w.Jobs
	if jobs <= 0 {
		jobs = 16
	}
	failed := make([]error, n)
	var mu sync.Mutex
	next, done, row := 0, 0, 0
	var stop error
	var wg sync.WaitGroup
	for range min(jobs, n) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				if stop == nil && ctx.Err() != nil {
					stop = context.Cause(ctx)
				}
				if stop != nil || i >= n {
					mu.Unlock()
					return
				}
				next++
				mu.Unlock()
				err := f(i)
				mu.Lock()
				done++
				switch {
				case err == nil:
					row = 0
				case stop != nil:
				case ctx.Err() != nil:
					stop = context.Cause(ctx)
				case errors.Is(err, errLog) || errors.Is(err, judge.ErrNoLogprobs) || w.Fatal != nil && w.Fatal(err):
					stop = err
				default:
					failed[i] = err
					if row++; row == inARow {
						stop = fmt.Errorf("alpacaeval: %d requests in a row failed, the last: %w", row, err)
					}
				}
				d := done
				mu.Unlock()
				if w.Progress != nil {
					w.Progress(int64(d), int64(n))
				}
			}
		})
	}
	wg.Wait()
	return failed, stop
}

// requestKey is what of a request decides the answer. New fields must be left
// out where they are zero, so that old logs stay good.
type requestKey struct {
	Messages          []chat.Message `json:"messages,omitempty"`
	Prompt            string         `json:"prompt,omitempty"`
	MaxTokens         int            `json:"max_tokens,omitempty"`
	Temperature       float64        `json:"temperature,omitempty"`
	TopP              float64        `json:"top_p,omitempty"`
	TopK              int            `json:"top_k,omitempty"`
	MinP              float64        `json:"min_p,omitempty"`
	PresencePenalty   float64        `json:"presence_penalty,omitempty"`
	FrequencyPenalty  float64        `json:"frequency_penalty,omitempty"`
	RepetitionPenalty float64        `json:"repetition_penalty,omitempty"`
	Seed              uint64         `json:"seed,omitempty"`
	Sample            int            `json:"sample,omitempty"`
	Stop              []string       `json:"stop,omitempty"`
	StopTokenIDs      []int          `json:"stop_token_ids,omitempty"`
	Truncate          bool           `json:"truncate,omitempty"`
	TopLogprobs       int            `json:"top_logprobs,omitempty"`
}

func keyOf(r *generate.Request) requestKey {
	return requestKey{r.Messages, r.Prompt, r.MaxTokens, r.Temperature, r.TopP, r.TopK, r.MinP, r.PresencePenalty, r.FrequencyPenalty,
		r.RepetitionPenalty, r.Seed, r.Sample, r.Stop, r.StopTokenIDs, r.Truncate, r.TopLogprobs}
}

// Answering is how a model answers instructions.
type Answering struct {
	Worker
	Model string // the name in the output
	// Request is how it is asked: tokens and sampling. Every instruction has
	// random numbers of its own.
	Request generate.Request
	// Raw gives the instruction as it stands, without a chat template.
	Raw bool
	// Strip takes white space off both ends of the answer; without it the
	// answer stays as the model wrote it. Length enters the length-controlled
	// rate, so it is part of the configuration.
	Strip bool
}

// loggedAnswer is an answer in the log.
type loggedAnswer struct {
	Kind             string  `json:"kind"` // "answer"
	Model            string  `json:"model"`
	Instruction      string  `json:"instruction"`
	Output           string  `json:"output"`
	FinishReason     string  `json:"finish_reason,omitempty"`
	PromptTokens     int     `json:"prompt_tokens,omitempty"`
	CompletionTokens int     `json:"completion_tokens,omitempty"`
	Seconds          float64 `json:"seconds,omitempty"`
}

func (a *Answering) request(i int, instruction string) generate.Request {
	r := a.Request
	r.Sample = i
	if a.Raw {
		r.Prompt = instruction
	} else {
		r.Messages = []chat.Message{{Role: "user", Content: instruction}}
	}
	return r
}

func (a *Answering) key(r *generate.Request) string {
	return eval.Key("answer", a.Identity, keyOf(r))
}

// Pending lists the requests that Run would make.
// Questions that have a generator are answered already.
func (a *Answering) Pending(log *eval.Log, questions []Output) []generate.Request {
	var out []generate.Request
	for i, q := range questions {
		if r := a.request(i, q.Instruction); q.Generator == "" && (log == nil || !log.Has(a.key(&r))) {
			out = append(out, r)
		}
	}
	return out
}

// Run has every question answered, in the order of the questions. Those that
// have a generator are answered already and stay as they are; those that could
// not be answered are left out of the outputs and listed.
func (a *Answering) Run(ctx context.Context, log *eval.Log, questions []Output) ([]Output, []Failure, error) {
	outputs := make([]*Output, len(questions))
	failed, err := a.each(ctx, len(questions), func(i int) error {
		q := questions[i]
		if q.Generator != "" {
			outputs[i] = &q
			return nil
		}
		r := a.request(i, q.Instruction)
		k := a.key(&r)
		var v loggedAnswer
		known, err := log.Get(k, &v)
		if err != nil {
			return errors.Join(err, errLog)
		}
		if !known {
			start := time.Now()
			resp, err := a.Generator.Generate(ctx, r)
			if err != nil {
				return err
			}
			v = loggedAnswer{"answer", a.Model, q.Instruction, resp.Text, string(resp.FinishReason), resp.Usage.PromptTokens, resp.Usage.CompletionTokens, time.Since(start).Seconds()}
			if err := log.Append(k, v); err != nil {
				return errors.Join(err, errLog)
			}
		}
		if a.Strip {
			v.Output = strings.TrimSpace(v.Output)
		}
		q.Output, q.Generator = v.Output, a.Model
		outputs[i] = &q
		return nil
	})
	var out []Output
	for _, o := range outputs {
		if o != nil {
			out = append(out, *o)
		}
	}
	return out, failures(failed, func(i int) string { return questions[i].Instruction }), err
}

// errLog is in the chain of errors of the log itself, which end a stage.
var errLog = errors.New("the log cannot be used")

func failures(failed []error, instruction func(i int) string) []Failure {
	var out []Failure
	for i, err := range failed {
		if err != nil {
			out = append(out, Failure{i, instruction(i), err})
		}
	}
	return out
}
