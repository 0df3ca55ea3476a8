package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/generate/grammar"
)

type generateFlags struct {
	engineFlags
	system      string
	prompts     string
	output      string
	raw         bool
	schema      string
	force       bool
	printPrompt bool
	models      []string // of the command line
	request     generate.Request
}

func (a *app) generate() *cobra.Command {
	var f generateFlags
	cmd := &cobra.Command{
		Use:   "generate MODEL [PROMPT] | generate --sft MODEL --aligned MODEL --alpha NUMBER [PROMPT]",
		Short: "Let a model answer: a checkpoint, a GGUF file, or a pair and an α",
		Long: `Answer a prompt, as the model's chat template puts it (--raw: as it stands). The
model is a directory, a Hub reference in the local cache, a .gguf file, or the view
of a pair at some α, for which nothing is written. Without a prompt, standard input
is the prompt, or a conversation where it is a terminal.

--prompts FILE.jsonl answers many rows together, {"prompt"} (a text, or a list of
token ids that are taken as they are) or {"messages"}; other fields of a row are
copied to the output. Rows that an earlier run of the same model and settings finished
in the file given with -o are not computed again ("run" in a row tells runs apart). A
row that cannot be answered, such as a prompt that is too long, gets an "error" in place
of an answer, the exit status is 4, and the same command tries it again.

--json-schema FILE lets the model write nothing but a document of that form: objects
(properties in the schema's order), arrays, strings, numbers, enum, const, anyOf, $ref.
` + exitHelp,
		Example: `  expo generate out "Why is the sky blue?"
  expo generate --sft SFT --aligned DPO --alpha 0.3 "Why is the sky blue?"
  expo generate model.gguf --prompts in.jsonl -o out.jsonl --max-tokens 256`,
		RunE: func(cmd *cobra.Command, args []string) error {
			given := cmd.Flags().Changed
			switch r := &f.request; {
			case f.raw && (f.system != "" || f.chatTemplate != ""):
				return usagef("--raw uses no chat template: leave --system and --chat-template out")
			case given("max-tokens") && r.MaxTokens < 1:
				return usagef("--max-tokens %d: want at least 1; without it the context is the limit", r.MaxTokens)
			case f.prompts == "" && (f.output != "" || f.force):
				return usagef("-o and --force are for the rows of --prompts FILE; an answer goes to standard output")
			case f.prompts == "" && !a.json && (r.Logprobs || r.TopLogprobs > 0):
				return usagef("log-probabilities are part of --json, or of the rows of --prompts FILE")
			}
			return a.runGenerate(cmd.Context(), &f, args)
		},
	}
	f.engineFlags.add(cmd)
	fl := cmd.Flags()
	r := &f.request
	fl.StringVar(&f.system, "system", "", "a system message")
	fl.StringVar(&f.prompts, "prompts", "", "answer the rows of this JSONL `FILE`")
	fl.StringVarP(&f.output, "output", "o", "", "with --prompts: append the answers to this `FILE`, going on where it ends")
	fl.BoolVar(&f.force, "force", false, "with -o: start over, whatever the file holds")
	fl.StringVar(&f.schema, "json-schema", "", "let each answer be a JSON document that this JSON schema `FILE` allows")
	fl.BoolVar(&f.raw, "raw", false, "use no chat template")
	fl.BoolVar(&f.printPrompt, "print-prompt", false, "print what the template made, and stop")
	fl.IntVar(&r.MaxTokens, "max-tokens", 0, "tokens of the answer at most (default: what the context leaves)")
	fl.Float64Var(&r.Temperature, "temperature", 0, "0 takes the likeliest token")
	fl.Float64Var(&r.TopP, "top-p", 1, "keep the fewest tokens with this much probability")
	fl.IntVar(&r.TopK, "top-k", 0, "keep the k likeliest tokens; 0 keeps all")
	fl.Float64Var(&r.MinP, "min-p", 0, "drop tokens less probable than this part of the likeliest")
	fl.Float64Var(&r.PresencePenalty, "presence-penalty", 0, "subtract from the logits of tokens in the answer")
	fl.Float64Var(&r.FrequencyPenalty, "frequency-penalty", 0, "subtract for each time a token is in the answer")
	fl.Float64Var(&r.RepetitionPenalty, "repetition-penalty", 1, "divide the logits of tokens in prompt or answer")
	fl.StringArrayVar(&r.Stop, "stop", nil, "end the answer before this `TEXT`; repeatable")
	fl.BoolVar(&r.IgnoreEOS, "ignore-eos", false, "go on past the model's end tokens, for measuring")
	fl.BoolVar(&r.Truncate, "truncate", false, "drop the beginning of a prompt that is too long")
	fl.IntVar(&r.TopLogprobs, "top-logprobs", 0, "with --json: log-probabilities of the best n tokens too")
	fl.BoolVar(&r.Logprobs, "logprobs", false, "with --json: log-probabilities of the answer's tokens")
	return cmd
}

func (a *app) runGenerate(ctx context.Context, f *generateFlags, args []string) error {
	if f.schema != "" {
		b, err := os.ReadFile(f.schema)
		if err != nil {
			return err
		}
		if f.request.Grammar, err = grammar.Schema(b); err != nil {
			return fmt.Errorf("%s: %w", f.schema, err)
		}
	}
	f.request.Seed = f.seed
	f.request.Logprobs = f.request.Logprobs || f.request.TopLogprobs > 0
	e, rest, err := f.open(ctx, args)
	if err != nil {
		return err
	}
	defer e.close()
	f.models = args[:len(args)-len(rest)]
	switch {
	case f.prompts != "" && len(rest) > 0:
		return usagef("--prompts and a prompt contradict each other")
	case f.prompts != "":
		return a.generateRows(ctx, f, e)
	case len(rest) > 0:
		return a.answer(ctx, f, e, strings.Join(rest, " "))
	}
	if in, ok := a.in.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return a.converse(ctx, f, e)
	}
	b, err := io.ReadAll(a.in)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return usagef("no prompt: give one as an argument, on standard input, or with --prompts FILE")
	}
	return a.answer(ctx, f, e, strings.TrimSuffix(string(b), "\n"))
}

// ask makes the request for one prompt.
func (f *generateFlags) ask(e *loaded, prompt string) generate.Request {
	r := f.request
	if f.raw || e.Template() == nil {
		r.Prompt = prompt
		return r
	}
	r.Messages = f.withSystem([]chat.Message{{Role: "user", Content: prompt}})
	return r
}

// withSystem puts the system message that the flags give before others that do
// not begin with one.
func (f *generateFlags) withSystem(ms []chat.Message) []chat.Message {
	if f.system == "" || len(ms) > 0 && ms[0].Role == "system" {
		return ms
	}
	return append([]chat.Message{{Role: "system", Content: f.system}}, ms...)
}

func (a *app) answer(ctx context.Context, f *generateFlags, e *loaded, prompt string) error {
	r := f.ask(e, prompt)
	if f.printPrompt {
		_, text, err := e.Prompt(ctx, r)
		if err != nil {
			return err
		}
		return a.printText(text)
	}
	if a.json {
		resp, err := e.Generate(ctx, r)
		if err != nil {
			return err
		}
		return a.printJSON(answerOf(resp, e.seconds))
	}
	_, err := a.stream(ctx, e, r)
	return err
}

// stream prints an answer as it comes.
func (a *app) stream(ctx context.Context, e *loaded, r generate.Request) (string, error) {
	var text strings.Builder
	for d, err := range e.Stream(ctx, r) {
		if err != nil {
			return "", err
		}
		text.WriteString(d.Text)
		if _, err := io.WriteString(a.out, d.Text); err != nil {
			return "", err
		}
	}
	_, err := fmt.Fprintln(a.out)
	return text.String(), err
}

// converse is a conversation on a terminal; each line is a turn.
func (a *app) converse(ctx context.Context, f *generateFlags, e *loaded) error {
	a.say("an empty line or ^D ends the conversation")
	r := f.ask(e, "")
	messages := r.Messages[:max(len(r.Messages)-1, 0)]
	for in := bufio.NewScanner(a.in); ; {
		fmt.Fprint(a.err, "> ")
		if !in.Scan() || strings.TrimSpace(in.Text()) == "" {
			return in.Err()
		}
		turn := f.ask(e, in.Text())
		if turn.Messages != nil {
			messages = append(messages, chat.Message{Role: "user", Content: in.Text()})
			turn.Messages = messages
		}
		text, err := a.stream(ctx, e, turn)
		if err != nil {
			return err
		}
		messages = append(messages, chat.Message{Role: "assistant", Content: text})
	}
}

// answerJSON is an answer as --json prints it.
type answerJSON struct {
	Text         string                `json:"text"`
	TokenIDs     []int                 `json:"token_ids"`
	FinishReason generate.FinishReason `json:"finish_reason"`
	Usage        map[string]int        `json:"usage"`
	Logprobs     []logprobJSON         `json:"logprobs,omitempty"`
	Timings      map[string]float64    `json:"timings"`
}

type logprobJSON struct {
	ID          int           `json:"id"`
	Token       string        `json:"token"`
	Logprob     float64       `json:"logprob"`
	TopLogprobs []logprobJSON `json:"top_logprobs,omitempty"`
}

func answerOf(r generate.Response, loadSeconds float64) answerJSON {
	return answerJSON{
		Text: r.Text, TokenIDs: notNil(r.Tokens), FinishReason: r.FinishReason, Logprobs: logprobs(r.Logprobs),
		Usage: map[string]int{"prompt_tokens": r.Usage.PromptTokens, "completion_tokens": r.Usage.CompletionTokens, "cached_tokens": r.Usage.CachedTokens},
		Timings: map[string]float64{"load_seconds": loadSeconds, "prompt_tokens": float64(r.Usage.PromptTokens), "prompt_seconds": r.Timings.PromptSeconds,
			"completion_tokens": float64(r.Usage.CompletionTokens), "completion_seconds": r.Timings.CompletionSeconds},
	}
}

func logprobs(list []generate.TokenLogprob) []logprobJSON {
	var out []logprobJSON
	for _, l := range list {
		out = append(out, logprobJSON{l.ID, l.Token, l.Logprob, logprobs(l.Top)})
	}
	return out
}
