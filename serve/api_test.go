package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"expo/lm/chat"
	"expo/lm/generate"
)

// testServer serves a tiny pair.
func testServer(t testing.TB, change func(*Options)) (*Server, string) {
	t.Helper()
	opt := Options{Pair: tinyPair(t, true), LocalHost: true}
	if change != nil {
		change(&opt)
	}
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { h.Close(); s.Close() })
	return s, h.URL
}

// post sends a body and decodes the answer.
func post(t testing.TB, url, body string) (int, map[string]any) {
	t.Helper()
	r, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatalf("%s: %v: %s", body, err, b)
	}
	return r.StatusCode, doc
}

// events gives the documents of a stream, which must end as it should.
func events(t testing.TB, url, body string) []map[string]any {
	t.Helper()
	r, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if ct := r.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/event-stream") {
		b, _ := io.ReadAll(r.Body)
		t.Fatalf("content type %q: %s", ct, b)
	}
	var out []map[string]any
	in := bufio.NewScanner(r.Body)
	in.Buffer(nil, 1<<20)
	done := false
	for in.Scan() {
		line := in.Text()
		if line == "" {
			continue
		}
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok || done {
			t.Fatalf("line %q", line)
		}
		if data == "[DONE]" {
			done = true
			continue
		}
		var doc map[string]any
		if err := json.Unmarshal([]byte(data), &doc); err != nil {
			t.Fatal(err)
		}
		out = append(out, doc)
	}
	if !done {
		t.Error("the stream does not end with [DONE]")
	}
	return out
}

// at walks into a document.
func at(doc any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := doc.(map[string]any)
			doc = m[p]
		case int:
			l, _ := doc.([]any)
			if p >= len(l) {
				return nil
			}
			doc = l[p]
		}
	}
	return doc
}

func TestChat(t *testing.T) {
	s, url := testServer(t, nil)
	ask := `"messages":[{"role":"user","content":"hello"}],"max_tokens":12,"seed":3,"ignore_eos":true`
	status, doc := post(t, url+"/v1/chat/completions", `{"model":"aligned",`+ask+`,"n":2,"logprobs":true,"top_logprobs":2,"return_token_ids":true}`)
	if status != 200 || doc["object"] != "chat.completion" || doc["model"] != "aligned" {
		t.Fatalf("%d %v", status, doc)
	}
	// The answers are the engine's own.
	ids, _, err := s.pair.Aligned.Prompt(context.Background(), generate.Request{Messages: mustMessages(t, "hello")})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		want, err := s.pair.Aligned.Generate(context.Background(), generate.Request{Tokens: ids, MaxTokens: 12, IgnoreEOS: true,
			Sampling: generate.Sampling{Temperature: 1, TopP: 1, Seed: 3, Sample: i}, Logprobs: true, TopLogprobs: 2})
		if err != nil {
			t.Fatal(err)
		}
		c := at(doc, "choices", i)
		if got := at(c, "message", "content"); got != want.Text {
			t.Errorf("answer %d: %q, want %q", i, got, want.Text)
		}
		if at(c, "finish_reason") != "length" || at(c, "message", "role") != "assistant" || at(c, "index") != float64(i) {
			t.Errorf("answer %d: %v", i, c)
		}
		for k, l := range want.Logprobs {
			got := at(c, "logprobs", "content", k)
			if at(got, "logprob") != l.Logprob || at(got, "top_logprobs", 0, "logprob") != l.Top[0].Logprob || len(at(got, "top_logprobs").([]any)) != 2 {
				t.Errorf("answer %d, token %d: %v, want %+v", i, k, got, l)
			}
			if at(c, "token_ids", k) != float64(want.Tokens[k]) {
				t.Errorf("answer %d: token ids %v, want %v", i, at(c, "token_ids"), want.Tokens)
			}
		}
	}
	if got := at(doc, "usage"); at(got, "prompt_tokens") != float64(len(ids)) || at(got, "completion_tokens") != 24.0 || at(got, "total_tokens") != float64(len(ids)+24) {
		t.Errorf("usage %v", got)
	}
	if len(at(doc, "prompt_token_ids").([]any)) != len(ids) {
		t.Errorf("prompt_token_ids %v", doc["prompt_token_ids"])
	}

	// A stream says the same, piece by piece.
	texts, roles, reasons := map[float64]string{}, 0, 0
	es := events(t, url+"/v1/chat/completions", `{"model":"aligned",`+ask+`,"n":2,"stream":true,"stream_options":{"include_usage":true}}`)
	for _, e := range es {
		if e["object"] != "chat.completion.chunk" || e["id"] != es[0]["id"] {
			t.Errorf("event %v", e)
		}
		for _, c := range e["choices"].([]any) {
			if text, ok := at(c, "delta", "content").(string); ok {
				texts[at(c, "index").(float64)] += text
			}
			if at(c, "delta", "role") == "assistant" {
				roles++
			}
			if at(c, "finish_reason") == "length" {
				reasons++
			}
		}
	}
	for i := range 2 {
		if want := at(doc, "choices", i, "message", "content"); texts[float64(i)] != want {
			t.Errorf("streamed %q, want %q", texts[float64(i)], want)
		}
	}
	if roles != 2 || reasons != 2 {
		t.Errorf("%d roles, %d reasons, want 2 each", roles, reasons)
	}
	last := es[len(es)-1]
	if len(last["choices"].([]any)) != 0 || at(last, "usage", "completion_tokens") != 24.0 {
		t.Errorf("last event %v", last)
	}
}

func mustMessages(t *testing.T, text string) (ms []chat.Message) {
	t.Helper()
	if err := json.Unmarshal([]byte(fmt.Sprintf(`[{"role":"user","content":%q}]`, text)), &ms); err != nil {
		t.Fatal(err)
	}
	return ms
}

func TestAlpha(t *testing.T) {
	_, url := testServer(t, nil)
	text := func(model string) string {
		status, doc := post(t, url+"/v1/completions", fmt.Sprintf(`{"model":%q,"prompt":"once","max_tokens":24,"temperature":0,"ignore_eos":true}`, model))
		if status != 200 {
			t.Fatalf("%s: %d %v", model, status, doc)
		}
		if doc["model"] != model {
			t.Errorf("model %v, want %s", doc["model"], model)
		}
		return at(doc, "choices", 0, "text").(string)
	}
	sft, aligned := text("sft"), text("aligned")
	if sft == aligned {
		t.Fatal("the two ends answer alike, so this tells nothing")
	}
	for name, want := range map[string]string{"expo@-1": sft, "expo@0": aligned, "expo@-0": aligned, "expo": text("expo@0.5")} {
		if got := text(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if text("expo@7") == aligned {
		t.Error("α changes nothing")
	}
}

func TestEcho(t *testing.T) {
	s, url := testServer(t, nil)
	ask := `{"model":"sft","prompt":[[0,40,41,42],[0,50]],"echo":true,"logprobs":1,"max_tokens":1,"temperature":0}`
	status, doc := post(t, url+"/v1/completions", ask)
	if status != 200 {
		t.Fatalf("%d %v", status, doc)
	}
	for i, ids := range [][]int{{0, 40, 41, 42}, {0, 50}} {
		lp := at(doc, "choices", i, "logprobs")
		if got := len(at(lp, "tokens").([]any)); got != len(ids)+1 {
			t.Fatalf("%d tokens, want the prompt and one", got)
		}
		if at(lp, "token_logprobs", 0) != nil || at(lp, "top_logprobs", 0) != nil {
			t.Errorf("the first token has a probability: %v", lp)
		}
		offset := 0.0
		all := make([][]float32, len(ids))
		if err := s.pair.SFT.Logits(context.Background(), ids, func(k int, logits []float32) { all[k] = slices.Clone(logits) }); err != nil {
			t.Fatal(err)
		}
		for k, logits := range all {
			best := generate.Top(logits, 1)[0]
			id := best // greedy, beyond the prompt
			if k+1 < len(ids) {
				id = ids[k+1]
			}
			all := generate.LogSumExp(logits)
			if got, want := at(lp, "token_logprobs", k+1), float64(logits[id])-all; got != want {
				t.Errorf("prompt %d, token %d: %v, want %v", i, k+1, got, want)
			}
			// As harnesses tell a greedy token: nothing is better.
			most := math.Inf(-1)
			for _, v := range at(lp, "top_logprobs", k+1).(map[string]any) {
				most = max(most, v.(float64))
			}
			if want := float64(logits[best]) - all; most != want {
				t.Errorf("prompt %d, token %d: the best is %v, want %v", i, k+1, most, want)
			}
			if got := at(lp, "text_offset", k).(float64); got != offset {
				t.Errorf("offset %v, want %v", got, offset)
			}
			offset += float64(len(at(lp, "tokens", k).(string)))
		}
		text := at(doc, "choices", i, "text").(string)
		tokens := ""
		for _, tok := range at(lp, "tokens").([]any) {
			tokens += tok.(string)
		}
		if text != tokens {
			t.Errorf("text %q, tokens %q", text, tokens)
		}
		if at(doc, "choices", i, "finish_reason") != "length" {
			t.Errorf("choice %v", at(doc, "choices", i))
		}
	}
	if got := at(doc, "usage", "prompt_tokens"); got != 6.0 {
		t.Errorf("%v prompt tokens, want 6", got)
	}
	// No token at all, several tokens, and without log-probabilities.
	if _, doc := post(t, url+"/v1/completions", `{"model":"sft","prompt":"ab","echo":true,"logprobs":0,"max_tokens":0}`); at(doc, "choices", 0, "text") != "ab" || at(doc, "usage", "completion_tokens") != 0.0 {
		t.Errorf("max_tokens 0: %v", doc)
	}
	for _, lp := range []string{"", `,"logprobs":2`} {
		_, doc := post(t, url+"/v1/completions", `{"model":"sft","prompt":"ab","echo":true,"max_tokens":4,"temperature":0,"ignore_eos":true`+lp+`}`)
		_, bare := post(t, url+"/v1/completions", `{"model":"sft","prompt":"ab","max_tokens":4,"temperature":0,"ignore_eos":true`+lp+`}`)
		if got, want := at(doc, "choices", 0, "text"), "ab"+at(bare, "choices", 0, "text").(string); got != want {
			t.Errorf("echoed %q, want %q", got, want)
		}
		var text string
		for _, e := range events(t, url+"/v1/completions", `{"model":"sft","prompt":"ab","echo":true,"stream":true,"max_tokens":4,"temperature":0,"ignore_eos":true`+lp+`}`) {
			text += at(e, "choices", 0, "text").(string)
		}
		if want := at(doc, "choices", 0, "text"); text != want {
			t.Errorf("streamed %q, want %q", text, want)
		}
	}
}

func TestCompletionsForms(t *testing.T) {
	_, url := testServer(t, nil)
	const rest = `,"model":"sft","max_tokens":6,"temperature":0,"ignore_eos":true}`
	_, byText := post(t, url+"/v1/completions", `{"prompt":"hi"`+rest)
	ids := fmt.Sprint(at(byText, "usage", "prompt_tokens"))
	if ids != "3" {
		t.Errorf("%s prompt tokens, want BOS and two", ids)
	}
	want := at(byText, "choices", 0, "text")
	_, doc := post(t, url+"/v1/completions", `{"prompt":["hi","ho"],"n":2`+rest)
	if at(doc, "choices", 0, "text") != want || at(doc, "choices", 1, "text") != want || len(doc["choices"].([]any)) != 4 {
		t.Errorf("two prompts: %v", doc)
	}
	_, doc = post(t, url+"/v1/completions", `{"prompt":"hi","return_token_ids":true`+rest)
	prompt, _ := json.Marshal(at(doc, "choices", 0, "prompt_token_ids"))
	_, doc = post(t, url+"/v1/completions", `{"prompt":`+string(prompt)+rest)
	if at(doc, "choices", 0, "text") != want {
		t.Errorf("as token ids: %v, want %v", at(doc, "choices", 0, "text"), want)
	}
	// Stop strings are not part of the answer.
	stop := want.(string)[2:4]
	_, doc = post(t, url+"/v1/completions", fmt.Sprintf(`{"prompt":"hi","stop":[%q]`, stop)+rest)
	if got := at(doc, "choices", 0, "text"); got != want.(string)[:2] || at(doc, "choices", 0, "finish_reason") != "stop" {
		t.Errorf("stopped: %v", doc)
	}
	// Seeds repeat; without one answers differ.
	sample := func(extra string) any {
		_, doc := post(t, url+"/v1/completions", `{"prompt":"hi","model":"sft","max_tokens":20,"ignore_eos":true`+extra+`}`)
		return at(doc, "choices", 0, "text")
	}
	if a, b := sample(`,"seed":5`), sample(`,"seed":5`); a != b {
		t.Errorf("one seed, two answers: %q, %q", a, b)
	}
	if sample("") == sample("") {
		t.Error("two answers without a seed are the same")
	}
	_, doc = post(t, url+"/v1/completions", `{"prompt":"0123456789","truncate_prompt_tokens":4`+rest)
	if at(doc, "usage", "prompt_tokens") != 4.0 {
		t.Errorf("truncated: %v", doc["usage"])
	}
}

func TestErrors(t *testing.T) {
	_, url := testServer(t, func(o *Options) { o.Limits = Limits{Body: 10000, Context: 100, Queue: 100} })
	chats, text := "/v1/chat/completions", "/v1/completions"
	ok := `"messages":[{"role":"user","content":"x"}],"max_tokens":1`
	for _, c := range []struct {
		path, body string
		status     int
		param      any
	}{
		{chats, `{`, 400, nil},
		{chats, `[]`, 400, nil},
		{chats, `{}`, 400, "messages"},
		{chats, `{"messages":[]}`, 400, "messages"},
		{chats, `{"messages":"hi"}`, 400, "messages"},
		{chats, `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, nil},
		{chats, `{` + ok + `,"prompt":"x"}`, 400, "prompt"},
		{chats, `{"model":"gpt-4",` + ok + `}`, 404, "model"},
		{chats, `{"model":"expo@x",` + ok + `}`, 404, "model"},
		{chats, `{"model":"expo@NaN",` + ok + `}`, 404, "model"},
		{chats, `{"model":"expo@1e300",` + ok + `}`, 404, "model"},
		{chats, `{"model":"../../etc/passwd",` + ok + `}`, 404, "model"},
		{chats, `{` + ok + `,"temperature":-1}`, 400, nil},
		{chats, `{` + ok + `,"temperature":"hot"}`, 400, "temperature"},
		{chats, `{` + ok + `,"top_p":0}`, 400, "top_p"},
		{chats, `{` + ok + `,"n":0}`, 400, "n"},
		{chats, `{` + ok + `,"n":1000}`, 400, "n"},
		{text, `{"prompt":["x","y"],"n":70}`, 400, "n"},
		{chats, `{` + ok + `,"stop":7}`, 400, "stop"},
		{chats, `{` + ok + `,"stop":""}`, 400, nil},
		{chats, `{` + ok + `,"top_logprobs":2}`, 400, "top_logprobs"},
		{chats, `{` + ok + `,"logprobs":true,"top_logprobs":21}`, 400, "top_logprobs"},
		{chats, `{` + ok + `,"logit_bias":{"5":1}}`, 400, "logit_bias"},
		{chats, `{` + ok + `,"response_format":{"type":"json_object"}}`, 200, nil},
		{chats, `{` + ok + `,"response_format":{"type":"xml"}}`, 400, "response_format"},
		{chats, `{` + ok + `,"response_format":"json"}`, 400, "response_format"},
		{chats, `{` + ok + `,"response_format":{"type":"json_schema"}}`, 400, "response_format"},
		{chats, `{` + ok + `,"response_format":{"type":"json_schema","json_schema":{"name":"x"}}}`, 400, "response_format"},
		{chats, `{` + ok + `,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"string","pattern":"a"}}}}`, 400, "response_format"},
		{chats, `{` + ok + `,"response_format":{"type":"json_object","json_schema":{"name":"x","schema":{}}}}`, 400, "response_format"},
		{chats, `{` + ok + `,"response_format":{"type":"text","strict":true}}`, 400, "response_format"},
		{chats, `{` + ok + `,"structured_outputs":{"regex":"a"}}`, 400, "structured_outputs"},
		{chats, `{` + ok + `,"structured_outputs":{"json":{},"choice":["a"]}}`, 400, "structured_outputs"},
		{chats, `{` + ok + `,"structured_outputs":{"choice":[]}}`, 400, "structured_outputs"},
		{chats, `{` + ok + `,"structured_outputs":{},"guided_json":null}`, 200, nil},
		{chats, `{` + ok + `,"guided_json":"{"}`, 400, "guided_json"},
		{chats, `{` + ok + `,"guided_json":{},"guided_choice":["a"]}`, 400, "guided_choice"},
		{chats, `{` + ok + `,"guided_regex":"a"}`, 400, "guided_regex"},
		{chats, `{` + ok + `,"guided_choice":["é"]}`, 400, nil}, // the tiny model speaks ASCII
		{chats, `{` + ok + `,"chat_template":"{{ 1 }}"}`, 400, "chat_template"},
		{chats, `{` + ok + `,"logit_bias":{},"response_format":{"type": "text"},"tool_choice":"none","user":"me","unknown":1}`, 200, nil},
		{chats, `{"messages":[{"role":"user","content":"` + strings.Repeat("x", 200) + `"}]}`, 400, "messages"},
		{chats, `{"messages":[{"role":"user","content":"` + strings.Repeat("x", 20000) + `"}]}`, 413, nil},
		{text, `{"prompt":"` + strings.Repeat("x", 200) + `"}`, 400, "prompt"},
		{text, `{}`, 400, "prompt"},
		{text, `{"prompt":[]}`, 400, "prompt"},
		{text, `{"prompt":[["x"]]}`, 400, "prompt"},
		{text, `{"prompt":[[1],[]]}`, 400, "prompt"},
		{text, `{"prompt":[99999]}`, 400, "prompt"},
		{text, `{"prompt":[-1]}`, 400, "prompt"},
		{text, `{"prompt":"x","messages":[{"role":"user","content":"x"}]}`, 400, "messages"},
		{text, `{"prompt":"x","max_tokens":0}`, 400, "max_tokens"},
		{text, `{"prompt":"x","logprobs":21}`, 400, "logprobs"},
		{text, `{"prompt":"x","best_of":3}`, 400, "best_of"},
		{text, `{"prompt":"x","suffix":"y"}`, 400, "suffix"},
		{text, `{"prompt":"","add_special_tokens":false}`, 400, "prompt"},
		{"/api/compare", `{"token_ids":[],"prompt":"x","models":["sft"]}`, 400, "token_ids"},
		{"/api/compare", `{"token_ids":[1],"prompt":"x","models":["no"]}`, 404, "model"},
		{"/api/reward", `{"prompt":"x","response":"y"}`, 404, nil},
		{"/api/votes", `{"outputs":[]}`, 400, "outputs"},
		{"/api/votes", `{"outputs":[{"generator":"sft"},{"generator":"sft"}]}`, 400, "outputs"},
		{"/api/votes", `{"outputs":[{"generator":"sft"},{"generator":"../x"}]}`, 404, "model"},
	} {
		status, doc := post(t, url+c.path, c.body)
		body := c.body[:min(len(c.body), 120)]
		if status != c.status {
			t.Errorf("%s %s: status %d, want %d: %v", c.path, body, status, c.status, doc)
			continue
		}
		if status == 200 {
			continue
		}
		if at(doc, "error", "message") == nil || at(doc, "error", "type") != "invalid_request_error" || !reflect.DeepEqual(at(doc, "error", "param"), c.param) {
			t.Errorf("%s %s: %v, want param %v", c.path, body, doc, c.param)
		}
	}
	// After all of these it still answers.
	if status, doc := post(t, url+chats, `{`+ok+`}`); status != 200 {
		t.Errorf("%d %v", status, doc)
	}
}

func TestCompare(t *testing.T) {
	s, url := testServer(t, nil)
	_, doc := post(t, url+"/v1/chat/completions", `{"model":"aligned","messages":[{"role":"user","content":"hello"}],"max_tokens":8,"temperature":0,"ignore_eos":true,"logprobs":true,"return_token_ids":true}`)
	ids, _ := json.Marshal(at(doc, "choices", 0, "token_ids"))
	status, got := post(t, url+"/api/compare", `{"model":"aligned","messages":[{"role":"user","content":"hello"}],"token_ids":`+string(ids)+`,"models":["sft","aligned","expo@2"]}`)
	if status != 200 {
		t.Fatalf("%d %v", status, got)
	}
	text := ""
	for i := range 8 {
		text += at(got, "tokens", i).(string)
		own, want := at(got, "logprobs", "aligned", i).(float64), at(doc, "choices", 0, "logprobs", "content", i, "logprob").(float64)
		if math.Abs(own-want) > 1e-9 {
			t.Errorf("token %d: %v, and the model itself said %v", i, own, want)
		}
	}
	if want := at(doc, "choices", 0, "message", "content"); text != want {
		t.Errorf("tokens %q, want %q", text, want)
	}
	if reflect.DeepEqual(at(got, "logprobs", "sft"), at(got, "logprobs", "aligned")) {
		t.Error("two models think the same")
	}
	if l := s.scheduler.load(); l.active != 0 || l.waiting != 0 {
		t.Errorf("left over: %+v", l)
	}
}

func TestSingle(t *testing.T) {
	_, url := testServer(t, func(o *Options) {
		o.Pair, o.Name, o.Engine = nil, "tiny", tinyEngine(t, tinyCheckpoint(t, 0, false), nil)
	})
	if status, doc := post(t, url+"/v1/completions", `{"model":"tiny","prompt":"a","max_tokens":2}`); status != 200 {
		t.Errorf("%d %v", status, doc)
	}
	if status, doc := post(t, url+"/v1/completions", `{"model":"expo@1","prompt":"a"}`); status != 404 {
		t.Errorf("%d %v", status, doc)
	}
	if status, doc := post(t, url+"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}]}`); status != 400 || at(doc, "error", "code") != "no_chat_template" {
		t.Errorf("%d %v", status, doc)
	}
	r, err := http.Get(url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	if !bytes.Contains(b, []byte(`"id":"tiny"`)) {
		t.Errorf("models: %s", b)
	}
}

func FuzzBody(f *testing.F) {
	s, err := New(Options{Pair: tinyPair(f, true)})
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range []string{`{}`, `{"messages":[{"role":"user","content":"x"}],"max_tokens":1}`, `{"prompt":[[1,2],[3]],"echo":true,"logprobs":2,"max_tokens":0}`,
		`{"prompt":"x","n":2,"stream":true,"stop":["a","b"],"stream_options":{"include_usage":true},"max_tokens":2}`, `{"model":"expo@-0.25","prompt":"é\u0000","max_tokens":1}`} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if strings.Contains(body, "expo@") {
			return // makes models
		}
		for _, path := range []string{"/v1/chat/completions", "/v1/completions"} {
			var fields map[string]any
			if json.Unmarshal([]byte(body), &fields) == nil {
				if n, ok := fields["max_tokens"].(float64); !ok || n > 4 {
					continue // long
				}
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))
			if w.Code >= 500 {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
			if !json.Valid(w.Body.Bytes()) && !strings.HasPrefix(w.Body.String(), "data: ") {
				t.Errorf("%s: no JSON: %s", path, w.Body)
			}
		}
	})
}
