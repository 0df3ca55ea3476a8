package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/generate/grammar"
)

// form compiles a schema.
func form(t *testing.T, schema string) *grammar.Grammar {
	t.Helper()
	g, err := grammar.Schema([]byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestBody checks what is sent, by dialect.
func TestBody(t *testing.T) {
	full := generate.Request{
		Messages: []chat.Message{{Role: "user", Content: "hi <b>"}}, MaxTokens: 9, Stop: []string{"\n\n"},
		Sampling: generate.Sampling{Temperature: 0.7, TopP: 0.9, TopK: 40, MinP: 0.05, PresencePenalty: 1, FrequencyPenalty: -1, RepetitionPenalty: 1.1, Seed: 3},
		Logprobs: true, TopLogprobs: 5, IgnoreEOS: true, TemplateVars: map[string]any{"thinking": false},
	}
	plain := generate.Request{Prompt: "once", NoSpecial: true}
	tests := []struct {
		name    string
		dialect Dialect
		change  func(*Options)
		request generate.Request
		want    string
	}{
		{"all, vLLM", VLLM, nil, full, `{"model":"m","messages":[{"role":"user","content":"hi <b>"}],"max_tokens":9,"temperature":0.7,"top_p":0.9,
			"presence_penalty":1,"frequency_penalty":-1,"seed":3,"stop":["\n\n"],"logprobs":true,"top_logprobs":5,
			"top_k":40,"min_p":0.05,"repetition_penalty":1.1,"ignore_eos":true,"chat_template_kwargs":{"thinking":false},"return_token_ids":true}`},
		{"all, llama.cpp", LlamaCPP, nil, full, `{"model":"m","messages":[{"role":"user","content":"hi <b>"}],"max_tokens":9,"temperature":0.7,"top_p":0.9,
			"presence_penalty":1,"frequency_penalty":-1,"seed":3,"stop":["\n\n"],"logprobs":true,"top_logprobs":5,
			"top_k":40,"min_p":0.05,"repeat_penalty":1.1,"ignore_eos":true,"chat_template_kwargs":{"thinking":false}}`},
		{"nothing, OpenAI", Standard, nil, plain, `{"model":"m","prompt":"once","temperature":0,"top_p":1,"add_special_tokens":false}`},
		{"nothing, SGLang", SGLang, nil, plain, `{"model":"m","prompt":"once","temperature":0,"top_p":1,"presence_penalty":0,"frequency_penalty":0,
			"top_k":-1,"min_p":0,"repetition_penalty":1,"add_special_tokens":false}`},
		{"nothing, llama.cpp", LlamaCPP, nil, plain, `{"model":"m","prompt":"once","temperature":0,"top_p":1,"presence_penalty":0,"frequency_penalty":0,
			"top_k":0,"min_p":0,"repeat_penalty":1,"add_special_tokens":false}`},
		{"an empty prompt", Ollama, nil, generate.Request{}, `{"model":"m","prompt":"","temperature":0,"top_p":1}`},
		{"ids", VLLM, nil, generate.Request{Tokens: []int{1, 2}, Logprobs: true, StopTokenIDs: []int{5}}, `{"model":"m","prompt":[1,2],"temperature":0,"top_p":1,
			"presence_penalty":0,"frequency_penalty":0,"logprobs":1,"top_k":-1,"min_p":0,"repetition_penalty":1,"stop_token_ids":[5],"return_token_ids":true}`},
		{"going on", VLLM, nil, generate.Request{Messages: []chat.Message{{Role: "assistant", Content: "I"}}, ContinueFinal: true}, `{"model":"m",
			"messages":[{"role":"assistant","content":"I"}],"temperature":0,"top_p":1,"presence_penalty":0,"frequency_penalty":0,"top_k":-1,"min_p":0,
			"repetition_penalty":1,"add_generation_prompt":false,"continue_final_message":true}`},
		{"a form", Standard, nil, generate.Request{Messages: []chat.Message{{Role: "user", Content: "x"}}, Grammar: form(t, `{"enum": ["a"]}`)}, `{"model":"m","messages":[{"role":"user","content":"x"}],
			"temperature":0,"top_p":1,"response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{"enum":["a"]},"strict":true}}}`},
		{"an object", Standard, nil, generate.Request{Messages: []chat.Message{{Role: "user", Content: "x"}}, Grammar: grammar.Object()}, `{"model":"m","messages":[{"role":"user","content":"x"}],
			"temperature":0,"top_p":1,"response_format":{"type":"json_object"}}`},
		{"left out and added", Standard, func(o *Options) {
			o.Omit = []string{"temperature", "top_p"}
			o.Extra = map[string]any{"reasoning_effort": "low", "model": "other"}
		}, generate.Request{Prompt: "a"}, `{"model":"other","prompt":"a","reasoning_effort":"low"}`},
		{"samples", Standard, nil, generate.Request{Prompt: "a", Sampling: generate.Sampling{Sample: 1}}, fmt.Sprintf(`{"model":"m","prompt":"a","temperature":0,"top_p":1,"seed":%d}`, seedOf(0, 1))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newFake(t)
			f := fleet(t, func(o *Options) {
				o.Dialect = tt.dialect
				if tt.change != nil {
					tt.change(o)
				}
			}, s)
			if _, err := f.Generate(context.Background(), tt.request); err != nil {
				t.Fatal(err)
			}
			var want map[string]any
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(s.bodies[0], want) {
				t.Errorf("body is\n%v, want\n%v", s.bodies[0], want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	s := newFake(t)
	choice, err := grammar.Choice([]string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		dialect Dialect
		request generate.Request
	}{
		"a choice":               {VLLM, generate.Request{Prompt: "a", Grammar: choice}},
		"a form of a completion": {Standard, generate.Request{Prompt: "a", Grammar: grammar.Object()}},
		"truncation":             {VLLM, generate.Request{Prompt: "a", Truncate: true}},
		"going on with OpenAI":   {Standard, generate.Request{Messages: ask("a").Messages, ContinueFinal: true}},
		"stop ids for llama.cpp": {LlamaCPP, generate.Request{Prompt: "a", StopTokenIDs: []int{1}}},
		"temperature":            {VLLM, generate.Request{Prompt: "a", Sampling: generate.Sampling{Temperature: 3}}},
	} {
		f := fleet(t, func(o *Options) { o.Dialect = tt.dialect }, s)
		if _, err := f.Generate(context.Background(), tt.request); !errors.Is(err, generate.ErrRequest) {
			t.Errorf("%s: got %v, want a bad request", name, err)
		}
	}
	if s.n != 0 {
		t.Errorf("%d requests were sent", s.n)
	}
}

func TestSeeds(t *testing.T) {
	seen := map[int64]string{}
	for seed := range uint64(50) {
		for sample := range 50 {
			got := seedOf(seed, sample)
			name := fmt.Sprint(seed, " ", sample)
			if got < 0 || got > math.MaxInt32 {
				t.Fatalf("seed of %s is %d, not of 31 bits", name, got)
			}
			if other := seen[got]; other != "" {
				t.Errorf("%s and %s have seed %d", name, other, got)
			}
			seen[got] = name
		}
	}
	if seedOf(7, 0) != 7 || seedOf(math.MaxUint64, 0) > math.MaxInt32 {
		t.Error("seeds are not sent as they are, or not cut")
	}
}

// TestGreeting checks that dialect and model are found out once.
func TestGreeting(t *testing.T) {
	for owner, extras := range map[string]bool{"vllm": true, "llamacpp": true, "me": true, "sglang": true, "expo": true, "library": false, "openai": false} {
		s := newFake(t)
		s.owner = owner
		f := fleet(t, func(o *Options) { o.Dialect, o.Model = Detect, "" }, s)
		for range 2 {
			if _, err := f.Generate(context.Background(), ask("x")); err != nil {
				t.Fatal(err)
			}
		}
		for _, b := range s.bodies {
			if _, got := b["top_k"]; got != extras || b["model"] != "m" {
				t.Errorf("%s was sent %v", owner, b)
			}
		}
		if got := f.ReportedModels(); !reflect.DeepEqual(got, []string{"m-2026"}) {
			t.Errorf("reported models are %v", got)
		}
		if names, err := f.Models(context.Background()); err != nil || !reflect.DeepEqual(names, []string{"m"}) {
			t.Errorf("models are %v, %v", names, err)
		}
	}
	s := newFake(t)
	handler := s.Config.Handler
	list := `{"data":[{"id":"a"},{"id":"b"}]}`
	status := 200
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.WriteHeader(status)
			io.WriteString(w, list)
			return
		}
		handler.ServeHTTP(w, r)
	})
	f := fleet(t, func(o *Options) { o.Dialect, o.Model = Detect, "" }, s)
	_, err := f.Generate(context.Background(), ask("x"))
	contains(t, err, "2 models: a, b; say which")
	status = 404 // a gateway without a list, and a model's name given
	f = fleet(t, func(o *Options) { o.Dialect = Detect }, s)
	if _, err := f.Generate(context.Background(), ask("x")); err != nil {
		t.Error(err)
	}
	f = fleet(t, func(o *Options) { o.Dialect, o.Model = Detect, "" }, s)
	_, err = f.Generate(context.Background(), ask("x"))
	contains(t, err, "404")
}

// TestMaxCompletionTokens checks that a model that wants the newer field gets
// it from the second attempt on.
func TestMaxCompletionTokens(t *testing.T) {
	s := newFake(t)
	handler := s.Config.Handler
	n := 0
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n++; n == 1 {
			w.WriteHeader(400)
			io.WriteString(w, `{"error":{"message":"Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.","param":"max_tokens","code":"unsupported_parameter"}}`)
			return
		}
		handler.ServeHTTP(w, r)
	})
	f := fleet(t, func(o *Options) { o.Backoff = time.Hour }, s)
	for range 2 {
		if _, err := f.Generate(context.Background(), ask("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range s.bodies {
		if b["max_completion_tokens"] != 16.0 || b["max_tokens"] != nil {
			t.Errorf("body is %v", b)
		}
	}
	if n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

// TestReplies checks how answers are read, of servers that differ.
func TestReplies(t *testing.T) {
	logs := generate.Request{Messages: ask("").Messages, Logprobs: true}
	tests := []struct {
		name    string
		request generate.Request
		reply   string
		want    generate.Response
		err     string
	}{
		{"chat", ask("x"), `{"choices":[{"message":{"content":"a"},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}}`,
			generate.Response{Text: "a", FinishReason: generate.Length, Usage: generate.Usage{PromptTokens: 3, CompletionTokens: 1, CachedTokens: 2}}, ""},
		{"no content", ask("x"), `{"choices":[{"message":{"content":null},"finish_reason":"content_filter"}]}`, generate.Response{FinishReason: "content_filter"}, ""},
		{"parts", ask("x"), `{"choices":[{"message":{"content":[{"type":"thinking","thinking":[]},{"type":"text","text":"a"},{"type":"text","text":"b"}]}}]}`, generate.Response{Text: "ab", FinishReason: generate.Stop}, ""},
		{"refusal", ask("x"), `{"choices":[{"message":{"content":null,"refusal":"no"},"finish_reason":"stop"}]}`, generate.Response{Text: "no", FinishReason: generate.Stop}, ""},
		{"completion", generate.Request{Prompt: "p"}, `{"choices":[{"text":" b","finish_reason":null,"token_ids":[4]}]}`, generate.Response{Text: " b", Tokens: []int{4}, FinishReason: generate.Stop, Prompt: "p"}, ""},
		{"logprobs of chat", logs, `{"choices":[{"message":{"content":"é"},"token_ids":[7],"logprobs":{"content":[{"token":"?","bytes":[195],"logprob":-0.5,"top_logprobs":[{"id":3,"token":"b","logprob":-1}]}]}}]}`,
			generate.Response{Text: "é", Tokens: []int{7}, FinishReason: generate.Stop, Logprobs: []generate.TokenLogprob{{ID: 7, Token: "\xc3", Logprob: -0.5, Top: []generate.TokenLogprob{{ID: 3, Token: "b", Logprob: -1}}}}}, ""},
		{"logprobs of completions", generate.Request{Prompt: "p", Logprobs: true}, `{"choices":[{"text":"ab","logprobs":{"tokens":["a","b"],"token_logprobs":[null,-2],"top_logprobs":[null,{"c":-3,"b":-2,"a":-2}]}}]}`,
			generate.Response{Text: "ab", FinishReason: generate.Stop, Prompt: "p", Logprobs: []generate.TokenLogprob{{ID: -1, Token: "a"}, {ID: -1, Token: "b", Logprob: -2, Top: []generate.TokenLogprob{
				{ID: -1, Token: "a", Logprob: -2}, {ID: -1, Token: "b", Logprob: -2}, {ID: -1, Token: "c", Logprob: -3}}}}}, ""},
		{"no logprobs", logs, `{"choices":[{"message":{"content":"a"}}]}`, generate.Response{Text: "a", FinishReason: generate.Stop}, ""},
		{"broken logprobs", logs, `{"choices":[{"message":{"content":"a"},"logprobs":{"tokens":["a"],"token_logprobs":[]}}]}`, generate.Response{}, "log-probabilities for 0 of 1 tokens"},
		{"error as a text", ask("x"), `{"error":"loading model"}`, generate.Response{}, "loading model"},
		{"status in the code", ask("x"), `{"error":{"message":"bad","code":400}}`, generate.Response{}, "400 Bad Request"},
		{"an array", ask("x"), `[1]`, generate.Response{}, "no JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newFake(t)
			s.answer = func(string, map[string]any) any { return json.RawMessage(tt.reply) }
			got, err := fleet(t, func(o *Options) { o.Attempts = 2 }, s).Generate(context.Background(), tt.request)
			if tt.err != "" {
				contains(t, err, tt.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got.Timings = generate.Timings{}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("response is\n%+v, want\n%+v", got, tt.want)
			}
		})
	}
}

func events(list ...string) string {
	var b strings.Builder
	b.WriteString(": hello\n\n")
	for _, s := range list {
		b.WriteString("event: x\r\ndata: " + s + "\r\n\r\n")
	}
	return b.String()
}

func TestStream(t *testing.T) {
	const a = `{"choices":[{"delta":{"role":"assistant","content":""}}]}`
	const b = `{"choices":[{"delta":{"content":"Hel"}}]}`
	const c = `{"choices":[{"delta":{"content":"lo"},"finish_reason":"length"}]}`
	const u = `{"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":2}}`
	tests := []struct {
		name string
		body string
		want []string // the last is the whole, unless there is an error
		err  string
		n    int // requests
	}{
		{"whole", events(a, b, c, u, "[DONE]"), []string{"Hel", "lo", "Hello"}, "", 1},
		{"without the end", events(a, b, c, u), []string{"Hel", "lo", "Hello"}, "", 1},
		{"cut", events(a, b), []string{"Hel"}, "broke off", 1},
		{"cut in an event", events(a, b) + "data: {\"cho", []string{"Hel"}, "broke off", 1},
		{"cut before anything", events(a), nil, "broke off", 3},
		{"an end too early", events(b, "[DONE]"), []string{"Hel"}, "in the middle", 1},
		{"an error within", events(b, `{"error":{"message":"out of memory"}}`), []string{"Hel"}, "out of memory", 1},
		{"an error at once", events(`{"error":{"message":"out of memory"}}`), nil, "out of memory", 3},
		{"no JSON", events("{"), nil, "no JSON", 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newFake(t)
			n := 0
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n++
				w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
				io.WriteString(w, tt.body)
			})
			var got []string
			var last error
			f := fleet(t, func(o *Options) { o.Attempts = 3 }, s)
			for d, err := range f.Stream(context.Background(), ask("x")) {
				if last = err; err != nil {
					continue
				}
				if d.Response != nil {
					d.Text = d.Response.Text
					if d.Response.FinishReason != generate.Length || d.Response.Usage.PromptTokens != 4 {
						t.Errorf("response is %+v", d.Response)
					}
				}
				got = append(got, d.Text)
			}
			if tt.err != "" {
				contains(t, last, tt.err)
			} else if last != nil {
				t.Error(last)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("pieces are %q, want %q", got, tt.want)
			}
			if n != tt.n {
				t.Errorf("%d requests, want %d", n, tt.n)
			}
		})
	}
	t.Run("no stream", func(t *testing.T) {
		s := newFake(t)
		for _, err := range fleet(t, func(o *Options) { o.Attempts = 1 }, s).Stream(context.Background(), ask("x")) {
			contains(t, err, "application/json", "not a stream")
		}
	})
	t.Run("stopped by the reader", func(t *testing.T) {
		s := newFake(t)
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, events(b, c))
		})
		f := fleet(t, nil, s)
		for d, err := range f.Stream(context.Background(), ask("x")) {
			if err != nil || d.Text != "Hel" {
				t.Errorf("got %q, %v", d.Text, err)
			}
			break
		}
	})
}

// FuzzReplies checks that no answer makes a client panic.
func FuzzReplies(f *testing.F) {
	f.Add([]byte(`{"choices":[{"message":{"content":"a"},"logprobs":{"content":[{"token":"a","bytes":[300]}]}}],"usage":{"prompt_tokens":-1}}`), false)
	f.Add([]byte(`{"error":{"message":1},"choices":[{"text":"a","logprobs":{"tokens":["a"],"token_logprobs":[null],"top_logprobs":[{"a":"x"}]}}]}`), false)
	f.Add([]byte(events(`{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}`)), true)
	f.Add([]byte("data\ndata:\ndata: {}\n\n"), true)
	q := ask("x")
	q.Logprobs = true
	f.Fuzz(func(t *testing.T, data []byte, stream bool) {
		fl, err := New(Options{
			BaseURLs: []string{"http://h"}, Model: "m", Dialect: Standard, Attempts: 1,
			Transport: transport(func(*http.Request) (*http.Response, error) {
				kind := "application/json"
				if stream {
					kind = "text/event-stream"
				}
				return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(string(data)))}, nil
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		if !stream {
			fl.Generate(context.Background(), q)
			fl.Score(context.Background(), []generate.Continuation{{Context: "a", Text: "b"}})
			return
		}
		whole := ""
		for d, err := range fl.Stream(context.Background(), q) {
			if err == nil && d.Response != nil && d.Response.Text != whole {
				t.Errorf("the whole %q is not its pieces %q", d.Response.Text, whole)
			}
			whole += d.Text
		}
	})
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }
