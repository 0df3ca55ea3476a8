package openai

import (
	"context"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"expo/lm/generate"
)

// scorer answers echo requests as vLLM does, with a tokenizer that makes a
// token of two equal letters and of every other character, and puts <s> first.
// The log-probability of the ith token is −i, and that of the likeliest there
// −i for even i, −i+0.5 for odd.
type scorer struct {
	bos, count, tops, nulls bool
	text                    bool // repeat the prompt there too
	short                   int  // tokens without one
}

func pieces(text string, bos bool) []string {
	var out []string
	if bos {
		out = append(out, "<s>")
	}
	for i := 0; i < len(text); i++ {
		n := 1
		if i+1 < len(text) && text[i] == text[i+1] && text[i] != ' ' {
			n = 2
		}
		out = append(out, text[i:i+n])
		i += n - 1
	}
	return out
}

func (s scorer) answer(_ string, body map[string]any) any {
	var tokens []string
	if ids, ok := body["prompt"].([]any); ok {
		for _, id := range ids {
			tokens = append(tokens, string(rune(int(id.(float64)))))
		}
	} else {
		tokens = pieces(body["prompt"].(string), s.bos)
	}
	prompt := len(tokens)
	tokens = append(tokens, "!") // the one that is generated
	var lps, tops []any
	for i := range tokens {
		lps = append(lps, -float64(i))
		tops = append(tops, map[string]any{tokens[i]: -float64(i), "\x00": -float64(i) - 0.5 + float64(i%2)})
	}
	if s.nulls {
		lps[0], tops[0] = nil, nil
	}
	logprobs := map[string]any{"tokens": tokens, "token_logprobs": lps[s.short:]}
	if s.tops {
		logprobs["top_logprobs"] = tops
	}
	text := ""
	if s.text {
		text = strings.Join(tokens, "")
	}
	doc := map[string]any{"choices": []any{map[string]any{"text": text, "logprobs": logprobs}}}
	if s.count {
		doc["usage"] = map[string]any{"prompt_tokens": prompt, "completion_tokens": 1}
	}
	return doc
}

func TestScore(t *testing.T) {
	normal := scorer{bos: true, count: true, tops: true, nulls: true}
	// Places of "<s> a b c": 0 1 2 3.
	cs := []generate.Continuation{
		{Context: "ab", Text: "c"},   // −3, odd: something is likelier
		{Context: "ab ", Text: "c"},  // " c": −3 −4; the space goes over
		{Context: "a", Text: "ab"},   // "aa b": aa is one token, so b alone: −2
		{Context: "abc", Text: "d"},  // −4, even: the likeliest
		{Context: "", Text: "ab"},    // −1 −2
		{Context: "ab", Text: "def"}, // three
	}
	want := []struct {
		sum    float64
		n      int
		greedy bool
	}{{-3, 1, false}, {-7, 2, false}, {-2, 1, true}, {-4, 1, true}, {-3, 2, false}, {-3 - 4 - 5, 3, false}}
	repeated := normal
	repeated.text = true
	for name, sc := range map[string]scorer{"counted": normal, "llama-cpp-python": repeated, "not counted": {bos: true, tops: true, nulls: true}} {
		s := newFake(t)
		s.answer = sc.answer
		got, err := fleet(t, func(o *Options) {
			if name == "llama-cpp-python" {
				o.Dialect = LlamaCPP
			}
		}, s).Score(context.Background(), cs)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			if g := got[i]; g.Logprob != w.sum || len(g.TokenLogprobs) != w.n || len(g.TokenIDs) != w.n || g.IsGreedy != w.greedy {
				t.Errorf("%s: %q|%q is %+v, want %+v", name, cs[i].Context, cs[i].Text, g, w)
			}
		}
		// Six texts, and the contexts "ab", "a", "abc".
		if s.n != 9 {
			t.Errorf("%s: %d requests, want 9", name, s.n)
		}
	}

	t.Run("with a tokenizer", func(t *testing.T) {
		s := newFake(t)
		s.answer = normal.answer
		f := fleet(t, func(o *Options) {
			o.Encode = func(text string, special bool) []int {
				var ids []int
				for _, p := range pieces(text, special) {
					ids = append(ids, int(p[0])+len(p))
				}
				return ids
			}
		}, s)
		got, err := f.Score(context.Background(), []generate.Continuation{
			{Context: "a", Text: "ab"}, {ContextTokens: []int{5, 6}, Tokens: []int{7, 8}}, {Context: "ab", Tokens: []int{9}}, {Text: "ab"}})
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range []generate.Likelihood{
			{Logprob: -2, TokenIDs: []int{'b' + 1}, TokenLogprobs: []float64{-2}, IsGreedy: true},
			{Logprob: -5, TokenIDs: []int{7, 8}, TokenLogprobs: []float64{-2, -3}},
			{Logprob: -3, TokenIDs: []int{9}, TokenLogprobs: []float64{-3}},
			{Logprob: -3, TokenIDs: []int{'a' + 1, 'b' + 1}, TokenLogprobs: []float64{-1, -2}},
		} {
			if !reflect.DeepEqual(got[i], w) {
				t.Errorf("continuation %d is %+v, want %+v", i, got[i], w)
			}
		}
	})

	for name, tt := range map[string]struct {
		scorer  scorer
		dialect Dialect
		c       generate.Continuation
		says    string
		is      error
	}{
		"no best":           {scorer{bos: true, count: true, nulls: true}, Standard, cs[0], "likeliest", ErrUnsupported},
		"lists that differ": {scorer{bos: true, count: true, tops: true, short: 1}, Standard, cs[0], "of 5 tokens", ErrUnsupported},
		"no context":        {scorer{count: true, tops: true, nulls: true}, Standard, cs[4], "context", generate.ErrRequest},
		"nothing":           {normal, Standard, generate.Continuation{Context: "ab"}, "empty", generate.ErrRequest},
		"text and ids":      {normal, Standard, generate.Continuation{Context: "ab", Tokens: []int{1}}, "tokenizer", generate.ErrRequest},
		"llama-cpp-python":  {normal, LlamaCPP, cs[0], "llama-cpp-python", ErrUnsupported},
	} {
		s := newFake(t)
		s.answer = tt.scorer.answer
		_, err := fleet(t, func(o *Options) { o.Dialect = tt.dialect }, s).Score(context.Background(), []generate.Continuation{tt.c})
		if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %v with %q", name, err, tt.is, tt.says)
		}
	}
	t.Run("no echo", func(t *testing.T) {
		s := newFake(t)
		_, err := fleet(t, nil, s).Score(context.Background(), cs[:1])
		if !errors.Is(err, ErrUnsupported) || s.n != 1 {
			t.Errorf("got %v after %d requests", err, s.n)
		}
	})
	t.Run("infinite", func(t *testing.T) {
		// JSON has no −Inf, so servers send a large number.
		s := newFake(t)
		s.answer = func(string, map[string]any) any {
			return map[string]any{"choices": []any{map[string]any{"logprobs": map[string]any{"tokens": []string{"a", "b", "c"}, "token_logprobs": []any{nil, -9999, -1}, "top_logprobs": []any{nil, map[string]any{"x": -0.1}, map[string]any{}}}}}}
		}
		l, err := fleet(t, func(o *Options) { o.Encode = func(s string, _ bool) []int { return make([]int, len(s)) } }, s).Score(context.Background(), []generate.Continuation{{Context: "a", Text: "b"}})
		if err != nil || math.Abs(l[0].Logprob+9999) > 0 || l[0].IsGreedy {
			t.Errorf("got %+v, %v", l, err)
		}
	})
}
