package train

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"expo/lm/chat"
)

func TestReadExamples(t *testing.T) {
	user, assistant := chat.Message{Role: "user", Content: "q"}, chat.Message{Role: "assistant", Content: "a"}
	for _, c := range []struct {
		in, want string
		rows     []Example
	}{
		{`{"prompt": "q", "response": "a", "extra": 1}` + "\n\n", "", []Example{{Prompt: "q", Response: "a"}}},
		{`{"prompt": "q", "completion": "a"}`, "", []Example{{Prompt: "q", Response: "a"}}},
		{`{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}`, "", []Example{{Messages: []chat.Message{user, assistant}}}},
		{`{"prompt": [{"role": "user", "content": "q"}], "response": [{"role": "assistant", "content": "a"}]}`, "", []Example{{Messages: []chat.Message{user, assistant}}}},
		{`{"prompt": "q"}`, `line 1: want "prompt" and "response"`, nil},
		{`{"messages": [{"role": "user", "content": "q"}]}`, "must end with the assistant's", nil},
		{"{\"prompt\": \"q\", \"response\": \"a\"}\n[1]\n{\n", "line 2: ", nil},
		{"", "no rows", nil},
		{strings.Repeat("x\n", 30), "and 20 more", nil},
	} {
		got, err := ReadExamples(strings.NewReader(c.in))
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: error is %v, want %q in it", c.in, err, c.want)
			}
			continue
		}
		// Messages keep their JSON; what they say is compared.
		if err != nil || describe(got) != describe(c.rows) {
			t.Errorf("%q: %s, %v, want %s", c.in, describe(got), err, describe(c.rows))
		}
	}
}

func describe(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestReadPairs(t *testing.T) {
	user := []chat.Message{{Role: "user", Content: "q"}}
	for _, c := range []struct {
		in, want string
		rows     []Pair
	}{
		{`{"prompt": "q", "chosen": "a", "rejected": "b"}`, "", []Pair{{Prompt: "q", Chosen: "a", Rejected: "b"}}},
		{`{"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}`, "",
			[]Pair{{Prompt: "q", Chosen: "a", Rejected: "b"}}},
		{`{"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}`, "",
			[]Pair{{Messages: user, Chosen: "a", Rejected: "b"}}},
		{`{"prompt": "q", "chosen": "a"}`, `want "prompt", "chosen" and "rejected"`, nil},
		{`{"chosen": "a", "rejected": "b"}`, "line 1", nil},
		{`{"prompt": "q", "chosen": [], "rejected": "b"}`, "chosen is an empty list", nil},
	} {
		got, err := ReadPairs(strings.NewReader(c.in))
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: error is %v, want %q in it", c.in, err, c.want)
			}
			continue
		}
		if err != nil || describe(got) != describe(c.rows) {
			t.Errorf("%q: %s, %v, want %s", c.in, describe(got), err, describe(c.rows))
		}
	}
	prompts, err := ReadPrompts(strings.NewReader(`{"prompt": "q"}` + "\n" + `{"messages": [{"role": "user", "content": "q"}]}`))
	if want := []Pair{{Prompt: "q"}, {Messages: user}}; err != nil || describe(prompts) != describe(want) {
		t.Errorf("prompts are %s, %v", describe(prompts), err)
	}
	if _, err := ReadPrompts(strings.NewReader(`{"text": "q"}`)); err == nil {
		t.Error("a row without a prompt is no error")
	}
}

// FuzzRead: data from elsewhere is read or refused, whatever it is.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		`{"prompt": "q", "response": "a"}`, `{"messages": [{"role": "assistant", "content": [{"type": "text", "text": "x"}]}]}`,
		`{"prompt": [{"role": "user"}], "chosen": "a", "rejected": []}`, `{"prompt": null, "chosen": null, "rejected": null}`, "[]\n\x00", "{\"messages\": [{}]}\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ReadExamples(bytes.NewReader(b))
		if (err == nil) != (len(e) > 0) {
			t.Errorf("%d examples and error %v", len(e), err)
		}
		for _, x := range e {
			if n := len(x.Messages); n > 0 && x.Messages[n-1].Role != "assistant" {
				t.Errorf("an example ends with the %s's message", x.Messages[n-1].Role)
			}
		}
		p, err := ReadPairs(bytes.NewReader(b))
		if (err == nil) != (len(p) > 0) {
			t.Errorf("%d pairs and error %v", len(p), err)
		}
		ReadPrompts(bytes.NewReader(b))
		if steps, err := ParseLog(b); err == nil {
			svg := Chart(steps)
			if err := xmlOnly(svg); err != nil {
				t.Errorf("the chart is not XML: %v", err)
			}
		}
	})
}

func xmlOnly(b []byte) error {
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// withTemplate is the tiny model with a chat template.
func withTemplate(t *testing.T, template string) *Model {
	t.Helper()
	files := tinyFiles()
	files["chat_template.jinja"] = &fstest.MapFile{Data: []byte(template)}
	m, err := New(files, 1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const template = `{{ bos_token }}{% for m in messages %}{{ m['role'][0] }}.{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}a.{% endif %}`

func TestEncode(t *testing.T) {
	conversation := []chat.Message{{Role: "user", Content: "b"}, {Role: "assistant", Content: "c"}, {Role: "user", Content: "d"}}
	for name, c := range map[string]struct {
		template         string
		raw              bool
		length           int
		prompt           string
		messages         []chat.Message
		response         string
		context, learned string
		scored           string
	}{
		"text":            {"", false, 64, "ab?", nil, "ba", "<s>ab?", "ba</s>", "<s>ab?ba</s>"},
		"empty response":  {"", false, 64, "ab?", nil, "", "<s>ab?", "</s>", "<s>ab?</s>"},
		"empty prompt":    {"", false, 64, "", nil, "ba", "<s>", "ba</s>", "<s>ba</s>"},
		"BOS in text":     {"", false, 64, "<s>ab", nil, "c", "<s>ab", "c</s>", "<s><s>abc</s>"},
		"cut":             {"", false, 5, "ab?", nil, "bacd", "<s>ab?", "b", "<s>acd</s>"},
		"nothing learned": {"", false, 4, "ab?", nil, "bacd", "<s>ab?", "", "<s>cd</s>"},
		"template":        {template, false, 64, "b", nil, "c", "<s>u.b\na.", "c</s>", "<s>u.b\na.c</s>\n"},
		"conversation":    {template, false, 64, "", conversation, "e", "<s>u.b\na.c</s>\nu.d\na.", "e</s>", "<s>u.b\na.c</s>\nu.d\na.e</s>\n"},
		"raw":             {template, true, 64, "b", nil, "c", "<s>b", "c</s>", "<s>bc</s>"},
		// A template that writes a finished turn in another way.
		"other turn": {`{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}?{% endif %}`, false, 64, "b", nil, "c", "<s>b?", "c</s>", "<s>bc"},
	} {
		t.Run(name, func(t *testing.T) {
			m := tiny(t)
			if c.template != "" {
				m = withTemplate(t, c.template)
			}
			e, err := m.newEncoder(c.raw, c.length)
			if err != nil {
				t.Fatal(err)
			}
			s, err := e.sequence(context.Background(), c.prompt, c.messages, c.response)
			if err != nil {
				t.Fatal(err)
			}
			text := func(ids []int) string {
				var b strings.Builder
				for _, id := range ids {
					p, _ := m.tok.Token(id)
					b.WriteString(p)
				}
				return b.String()
			}
			if got, want := text(s.tokens[:s.from]), c.context; got != want {
				t.Errorf("read: %q, want %q", got, want)
			}
			if got, want := text(s.tokens[s.from:]), c.learned; got != want {
				t.Errorf("learned: %q, want %q", got, want)
			}
			r, err := e.scored(context.Background(), c.prompt, c.messages, c.response)
			if err != nil {
				t.Fatal(err)
			}
			if got := text(r.tokens); got != c.scored {
				t.Errorf("scored: %q, want %q", got, c.scored)
			}
		})
	}
	e, err := tiny(t).newEncoder(false, 64)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.sequence(context.Background(), "", conversation, "x"); !errors.Is(err, errNoTemplate) {
		t.Errorf("messages without a template: error is %v", err)
	}
}

func TestLastRead(t *testing.T) {
	for _, c := range []struct {
		tokens []int
		pad    int
		want   int
	}{
		{[]int{1, 5, 2}, 0, 2}, {[]int{1, 5, 2}, 2, 1}, {[]int{1, 2, 2, 2}, 2, 0}, {[]int{2, 2}, 2, 1},
	} {
		if got := lastRead(c.tokens, c.pad); got != c.want {
			t.Errorf("lastRead(%v, %d) = %d, want %d", c.tokens, c.pad, got, c.want)
		}
	}
}

func TestSkipped(t *testing.T) {
	o := quick()
	o.MaxLength, o.Steps = 8, 1
	data := append(someExamples(5), Example{Prompt: "a very long prompt", Response: "x"}, Example{Prompt: "ab", Response: "a long response"})
	r, err := SFT(context.Background(), tiny(t), data, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Skipped != 1 || r.Rows != len(data)-1 || r.Truncated == 0 {
		t.Errorf("report is %+v, want one row skipped", r)
	}
	if _, err := SFT(context.Background(), tiny(t), data[5:6], o); err == nil || !strings.Contains(err.Error(), "no row") {
		t.Errorf("nothing to learn: error is %v", err)
	}
}

func TestChart(t *testing.T) {
	var steps []Step
	for i := range 100 {
		steps = append(steps, Step{Step: i + 1, Loss: 3 / float64(i+1)})
	}
	for _, n := range []int{0, 1, 2, 19, 20, 100} {
		svg := Chart(steps[:n])
		if err := xmlOnly(svg); err != nil {
			t.Errorf("%d steps: %v", n, err)
		}
		want := 0
		if n > 0 {
			want = 1
		}
		if n >= 20 {
			want = 2
		}
		if got := bytes.Count(svg, []byte("<polyline")); got != want {
			t.Errorf("%d steps: %d curves, want %d", n, got, want)
		}
		if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
			t.Errorf("%d steps: not a number in the chart", n)
		}
	}
	for span, want := range map[float64]float64{0: 1, 3: 1, 8: 2, 10: 2, 0.4: 0.1, 99: 20, 700: 200} {
		if got := tickUnit(span); got < want*0.999 || got > want*1.001 {
			t.Errorf("tickUnit(%v) = %v, want %v", span, got, want)
		}
	}
	if got := smooth([]float64{1, 2, 6}, 1); !reflect.DeepEqual(got, []float64{1, 3, 6}) {
		t.Errorf("smooth = %v", got)
	}
	if !slices.Equal(smooth(nil, 3), []float64{}) {
		t.Error("smooth(nil)")
	}
}
