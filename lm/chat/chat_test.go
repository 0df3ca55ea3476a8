package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

func mustParse(t *testing.T, source string) *Template {
	t.Helper()
	tmpl, err := Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func Example() {
	model := fstest.MapFS{"tokenizer_config.json": {Data: []byte(`{
		"chat_template": "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
	}`)}}
	t, err := Load(model)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := t.Render(context.Background(), []Message{{Role: "user", Content: " Hello! "}},
		Options{AddGenerationPrompt: true, BOS: "<s>"})
	fmt.Println(text, err)
	// Output:
	// <s>[user] Hello!
	// [assistant] <nil>
}

// TestFamilies checks the head of each family's format, as its definition has
// it.
func TestFamilies(t *testing.T) {
	turns := []Message{{Role: "user", Content: "Q1"}, {Role: "assistant", Content: "A1"}, {Role: "user", Content: "Q2"}}
	want := map[string]string{
		"zephyr":   "<|user|>\nQ1</s>\n<|assistant|>\nA1</s>\n<|user|>\nQ2</s>\n<|assistant|>\n",
		"openchat": "<s>GPT4 Correct User: Q1<|end_of_turn|>GPT4 Correct Assistant: A1<|end_of_turn|>GPT4 Correct User: Q2<|end_of_turn|>GPT4 Correct Assistant:",
		"mistral":  "<s>[INST] Q1 [/INST] A1</s>[INST] Q2 [/INST]",
		"llama3": "<s><|start_header_id|>user<|end_header_id|>\n\nQ1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>" +
			"<|start_header_id|>user<|end_header_id|>\n\nQ2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
		"chatml":    "<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n",
		"internlm2": "<s><|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n",
		"tulu":      "<|user|>\nQ1\n<|assistant|>\nA1</s>\n<|user|>\nQ2\n<|assistant|>\n",
		"vicuna": "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. " +
			"USER: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:",
		"alpaca": "<s>Below is an instruction that describes a task. Write a response that appropriately completes the request." +
			"\n\n### Instruction:\nQ1\n\n### Response:A1</s>\n\n### Instruction:\nQ2\n\n### Response:",
	}
	want["starling"], want["snorkel"] = want["openchat"], want["mistral"]
	for _, name := range Names() {
		tmpl, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tmpl.Render(context.Background(), turns, Options{AddGenerationPrompt: true, BOS: "<s>", EOS: "</s>"})
		if err != nil || got != want[name] {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want[name])
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s is not among the names", name)
	}
	if _, err := Named("nobody"); err == nil || !strings.Contains(err.Error(), "zephyr") {
		t.Errorf("got %v, want the names that there are", err)
	}
}

func TestLoad(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	tests := []struct {
		name     string
		files    fstest.MapFS
		want     string // of the default template
		variants []string
		err      string
	}{
		{"one in the configuration", fstest.MapFS{"tokenizer_config.json": file(`{"chat_template": "a"}`)}, "a", nil, ""},
		{"several in the configuration", fstest.MapFS{"tokenizer_config.json": file(
			`{"chat_template": [{"name": "tool_use", "template": "b"}, {"name": "default", "template": "a"}, {"name": "rag", "template": "{% c"}]}`)},
			"a", []string{"rag", "tool_use"}, ""},
		{"a file comes first", fstest.MapFS{
			"tokenizer_config.json": file(`{"chat_template": "a"}`),
			"chat_template.jinja":   file("b\n"),
		}, "b", nil, ""},
		{"more files", fstest.MapFS{
			"chat_template.jinja":                       file("a"),
			"additional_chat_templates/tool_use.jinja":  file("b"),
			"additional_chat_templates/README.md":       file("c"),
			"additional_chat_templates/default.jinja":   file("d"),
			"additional_chat_templates/sub/other.jinja": file("e"),
		}, "a", []string{"tool_use"}, ""},
		{"none", fstest.MapFS{"tokenizer_config.json": file(`{"bos_token": "a"}`)}, "", nil, "no chat template"},
		{"null", fstest.MapFS{"tokenizer_config.json": file(`{"chat_template": null}`)}, "", nil, "no chat template"},
		{"empty list", fstest.MapFS{"tokenizer_config.json": file(`{"chat_template": []}`)}, "", nil, "no chat template"},
		{"nothing", fstest.MapFS{}, "", nil, "no chat template"},
		{"no default", fstest.MapFS{"additional_chat_templates/rag.jinja": file("a")}, "", nil, "default among rag"},
		{"wrong kind", fstest.MapFS{"tokenizer_config.json": file(`{"chat_template": 1}`)}, "", nil, "chat: tokenizer_config.json: chat_template is neither"},
		{"no JSON", fstest.MapFS{"tokenizer_config.json": file(`{`)}, "", nil, "chat: tokenizer_config.json: "},
		{"wrong template", fstest.MapFS{"chat_template.jinja": file("a\n{% b %}")}, "", nil, "chat: template line 2: unknown tag 'b'"},
	}
	for _, tt := range tests {
		tmpl, err := Load(tt.files)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.err)
			}
			if noTemplate := strings.Contains(tt.err, "no chat") || strings.Contains(tt.err, "default"); errors.Is(err, ErrNoTemplate) != noTemplate {
				t.Errorf("%s: %v is ErrNoTemplate: %v", tt.name, err, !noTemplate)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got, err := tmpl.Render(context.Background(), hello, Options{})
		if err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
		if v := tmpl.Variants(); !slices.Equal(v, tt.variants) {
			t.Errorf("%s: variants %v, want %v", tt.name, v, tt.variants)
		}
	}
	if _, err := Load(failing{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want %v", err, fs.ErrPermission)
	}
}

// failing is a file system that lets nothing be read.
type failing struct{}

func (failing) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

func TestVariants(t *testing.T) {
	tmpl, err := ParseAll(map[string]string{
		"default":  "{{ tools is none }}",
		"tool_use": "{% for t in tools %}{{ t.function.name }}{% endfor %}",
		"broken":   "{% for %}",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tmpl.Render(context.Background(), hello, Options{}); got != "True" || err != nil {
		t.Errorf("without tools: %q, %v", got, err)
	}
	tools := Options{Tools: []json.RawMessage{json.RawMessage(`{"type":"function","function":{"name":"f"}}`)}}
	if got, err := tmpl.Render(context.Background(), hello, tools); got != "f" || err != nil {
		t.Errorf("with tools: %q, %v", got, err)
	}
	if v, err := tmpl.Variant("tool_use"); err != nil || !strings.Contains(v.Source(), "function.name") {
		t.Errorf("tool_use: %v, %v", v, err)
	}
	var e *TemplateError
	if _, err := tmpl.Variant("broken"); !errors.As(err, &e) {
		t.Errorf("broken: %v", err)
	}
	if _, err := tmpl.Variant("absent"); !errors.Is(err, ErrNoTemplate) {
		t.Errorf("absent: %v", err)
	}
}

func TestOptions(t *testing.T) {
	now := func() time.Time { return time.Date(2024, time.February, 3, 4, 5, 6, 7000, time.UTC) }
	tests := []struct {
		source, want string
		opt          Options
	}{
		{"{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}", "<s></s><p><u>", Options{BOS: "<s>", EOS: "</s>", PAD: "<p>", UNK: "<u>"}},
		{"{{ bos_token is defined }}", "False", Options{}},
		{"{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}", "TrueTrueFalse", Options{}},
		{"{{ a | tojson }}", `{"z": 1, "b": [1.0, null, "x"], "c": {}}`, Options{Extra: map[string]any{"a": json.RawMessage(`{"z":1,"b":[1.0,null,"x"],"c":{}}`)}}},
		{"{{ a | tojson }}", `{"b": 1.0, "c": [true, null, 2], "d": {"x": "y"}}`, Options{Extra: map[string]any{
			"a": map[string]any{"d": map[string]string{"x": "y"}, "b": 1.0, "c": []any{true, nil, int64(2)}}}}},
		{"{{ bos_token }}{{ messages }}", "xy", Options{BOS: "<s>", Extra: map[string]any{"bos_token": "x", "messages": "y"}}},
		{"{{ strftime_now('%d %B %Y, %H:%M:%S %p %j %y %-d/%-m %A %a %b %I %U %W %V %u %w %% %f %F %T %e|%q') }}",
			"03 February 2024, 04:05:06 AM 034 24 3/2 Saturday Sat Feb 04 04 05 05 6 6 % 000007 2024-02-03 04:05:06  3|%q", Options{Now: now}},
		{"{{ tools[0].function.parameters.properties.items() | map('first') | join(',') }}", "z,a", Options{
			Tools: []json.RawMessage{json.RawMessage(`{"function":{"parameters":{"properties":{"z":{},"a":{}}}}}`)}}},
	}
	for _, tt := range tests {
		got, err := mustParse(t, tt.source).Render(context.Background(), hello, tt.opt)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v, want %q", tt.source, got, err, tt.want)
		}
	}
	for want, opt := range map[string]Options{
		"chat: tool 0: no JSON object": {Tools: []json.RawMessage{json.RawMessage(`[]`)}},
		"chat: tool 1: ":               {Tools: []json.RawMessage{json.RawMessage(`{}`), json.RawMessage(`{`)}},
		"chat: variable f: ":           {Extra: map[string]any{"f": func() {}}},
		"chat: continue the final message: the message has no content": {ContinueFinalMessage: true, Extra: map[string]any{"messages": 1}},
		"chat: continue the final message: this excludes":              {ContinueFinalMessage: true, AddGenerationPrompt: true},
	} {
		_, err := mustParse(t, "{{ messages[0].content }}").Render(context.Background(), hello, opt)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := mustParse(t, "x").Render(context.Background(), nil, Options{}); err == nil {
		t.Error("no error without messages")
	}
}

func TestContinue(t *testing.T) {
	messages := []Message{{Role: "user", Content: "Q"}, {Role: "assistant", Content: "Once upon "}}
	tests := []struct{ source, want, err string }{
		{"{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}", "<user>Q</><assistant>Once upon ", ""},
		{"{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}", "<user>Q</><assistant>Once upon", ""},
		{"{% for m in messages %}{{ m.role }}{% endfor %}", "", "reads no content"},
		{"{% for m in messages %}{{ m.content | upper }}{% endfor %}", "", "as it is"},
		{"{{ messages[0].content }}", "", "as it is"},
	}
	for _, tt := range tests {
		got, err := mustParse(t, tt.source).Render(context.Background(), messages, Options{ContinueFinalMessage: true})
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: got %q, %v, want %q, %s", tt.source, got, err, tt.want, tt.err)
		}
	}
	if messages[1].Content != "Once upon " {
		t.Errorf("the message became %q", messages[1].Content)
	}
}

// TestErrors checks what errors say, and where.
func TestErrors(t *testing.T) {
	tests := []struct {
		source, want string
		raised       bool
	}{
		{"\n{{ raise_exception('Roles must alternate!') }}", "chat: Roles must alternate!", true},
		{"a\n\n{{ messages[0].nothing.more }}", "chat: template line 3: 'messages[0].nothing' is undefined", false},
		{"{% if x %}\n{{ y z }}{% endif %}", "chat: template line 2: unexpected 'z', want '}}'", false},
		{"{% if x %}\n", "chat: template line 1: the template ends where endif is due", false},
		{"{{ a\n.b() }}", "chat: template line 2: 'a' is undefined", false},
		{"\n{{ messages[0].content + 1 }}", "chat: template line 2: '+' does not go between a str and an int (messages[0].content and 1)", false},
		{"{% for m in 5 %}{% endfor %}", "chat: template line 1: 5 cannot be iterated over: it is an int", false},
		{"{{ messages | nope }}", "chat: template line 1: no filter is called 'nope'", false},
		{"{{ messages is nope }}", "chat: template line 1: no test is called 'nope'", false},
		{"{{ messages.append(1) }}", "chat: template line 1: a template cannot change a list or dict with append", false},
		{"{{ 'x'.split(1) }}", "chat: template line 1: split: want a string, not an int", false},
		{"{% macro m(a) %}{% endmacro %}\n{{ m(1, 2) }}", "chat: template line 2: the macro m takes 1 arguments, not 2", false},
		{"{% macro m() %}\n{{ nope.x }}{% endmacro %}\n\n{{ m() }}", "chat: template line 2: 'nope' is undefined", false},
		{"{% include 'secret' %}", "chat: template line 1: include: a chat template has no other files", false},
		{"{{ messages.__class__.__mro__ }}", "chat: template line 1: 'messages.__class__' is undefined", false},
	}
	for _, tt := range tests {
		tmpl, err := Parse(tt.source)
		if err == nil {
			_, err = tmpl.Render(context.Background(), hello, Options{})
		}
		var e *TemplateError
		if !errors.As(err, &e) || err.Error() != tt.want || e.Raised != tt.raised {
			t.Errorf("%q: got %v, want %s", tt.source, err, tt.want)
		}
	}
}

// TestConcurrent renders one template many times at once.
func TestConcurrent(t *testing.T) {
	tmpl := mustParse(t, "{% macro m(x) %}[{{ x }}]{% endmacro %}{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ m(m.content) if 0 else ns.n }}{% endfor %}")
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			messages := make([]Message, i+1)
			want := ""
			for j := range messages {
				messages[j] = Message{Role: "user", Content: "x"}
				want += fmt.Sprint(j + 1)
			}
			for range 20 {
				if got, err := tmpl.Render(context.Background(), messages, Options{}); got != want || err != nil {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
			}
		})
	}
	group.Wait()
}
