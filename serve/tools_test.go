package serve

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"expo/lm/chat"
	"expo/lm/generate/grammar"
)

// TestCallReader feeds answers in pieces of all sizes.
func TestCallReader(t *testing.T) {
	functions := []grammar.Function{{Name: "f"}, {Name: "weather"}}
	for _, tt := range []struct {
		style callStyle
		in    string
		text  string
		calls []string // name and arguments
	}{
		{hermes, "just text ", "just text ", nil},
		{hermes, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, \"}\"]}}\n</tool_call>", "", []string{`f {"a":[1,"}"]}`}},
		{hermes, "Let me see.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>\n{\"name\":\"weather\"}\n</tool_call>\n", "Let me see.", []string{"f {}", "weather {}"}},
		{hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}}", "", []string{"f {}"}},            // cut by an end token
		{hermes, "<tool_call>{\"name\":\"f\",\"argum", "<tool_call>{\"name\":\"f\",\"argum", nil}, // cut by the limit
		{hermes, "<tool_call>{\"name\":\"g\"}</tool_call>", "<tool_call>{\"name\":\"g\"}</tool_call>", nil},
		{hermes, "a < b <tool", "a < b <tool", nil},
		{hermes, "a <b>\n\n c", "a <b>\n\n c", nil},
		{llamaJSON, "text {\"name\":\"f\"}", "text {\"name\":\"f\"}", nil},
		{llamaJSON, " {\"name\": \"f\", \"parameters\": {\"x\": \"};\"}}", "", []string{`f {"x":"};"}`}},
		{llamaJSON, `{"name":"f","parameters":{}}; {"name":"weather","parameters":{"c":1}}`, "", []string{"f {}", `weather {"c":1}`}},
		{llamaJSON, `{"name":"g","parameters":{}}`, `{"name":"g","parameters":{}}`, nil},
		{llamaJSON, `{"answer": 3}`, `{"answer": 3}`, nil},
		{llamaJSON, "", "", nil},
		{llamaJSON, " \n", " \n", nil},
	} {
		for size := 1; size <= len(tt.in)+1; size++ {
			c := &callReader{tooling: &tooling{functions: functions, style: tt.style}}
			var text string
			var calls []string
			note := func(s string, list []toolCall) {
				text += s
				for _, call := range list {
					calls = append(calls, call.Function.Name+" "+call.Function.Arguments)
					if !strings.HasPrefix(call.ID, "call_") || call.Type != "function" {
						t.Errorf("%+v", call)
					}
				}
			}
			for rest := tt.in; rest != ""; {
				n := min(size, len(rest))
				note(c.add(rest[:n]))
				rest = rest[n:]
			}
			note(c.end())
			if text != tt.text || fmt.Sprint(calls) != fmt.Sprint(tt.calls) {
				t.Errorf("%q in pieces of %d: %q and %q, want %q and %q", tt.in, size, text, calls, tt.text, tt.calls)
			}
		}
	}
}

func FuzzCallReader(f *testing.F) {
	f.Add("a <tool_call>{\"name\":\"f\"}</tool_call> b", uint64(1), true)
	f.Add(`{"name":"f","parameters":{}};`, uint64(2), false)
	f.Fuzz(func(t *testing.T, in string, seed uint64, marks bool) {
		style := llamaJSON
		if marks {
			style = hermes
		}
		read := func(pieces bool) (text string, n int) {
			c := &callReader{tooling: &tooling{functions: []grammar.Function{{Name: "f"}}, style: style}}
			r := rand.New(rand.NewPCG(seed, 0))
			for rest := in; rest != ""; {
				k := len(rest)
				if pieces {
					k = 1 + r.IntN(k)
				}
				s, calls := c.add(rest[:k])
				text, n, rest = text+s, n+len(calls), rest[k:]
			}
			s, calls := c.end()
			return text + s, n + len(calls)
		}
		text, n := read(false)
		if inPieces, m := read(true); text != inPieces || n != m {
			t.Errorf("%q: %q and %d calls at once, %q and %d in pieces", in, text, n, inPieces, m)
		}
		if n == 0 && style == llamaJSON && text != in {
			t.Errorf("%q became %q", in, text)
		}
	})
}

const toolTemplate = `{% if tools %}{% for t in tools %}{{ t.function.name }} {% endfor %}%MARK%{% endif %}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.arguments.q }}{% endfor %}
{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}`

// TestTools asks for calls of functions.
func TestTools(t *testing.T) {
	const tools = `"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"n":{"$ref":"#/$defs/n"}},"required":["n"],"$defs":{"n":{"enum":[1,2]}}}}},
		{"type":"function","function":{"name":"g","parameters":{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}}}]`
	for _, mark := range []string{"<tool_call>", `ipython "parameters"`, ""} {
		t.Run(mark, func(t *testing.T) {
			_, url := testServer(t, func(o *Options) {
				tmpl, err := chat.Parse(strings.ReplaceAll(toolTemplate, "%MARK%", mark))
				if err != nil {
					t.Fatal(err)
				}
				o.Pair, o.Name, o.Engine = nil, "tiny", tinyEngine(t, tinyCheckpoint(t, 0, false), nil).WithTemplate(tmpl)
			})
			check := func(calls any, only string) {
				t.Helper()
				list, _ := calls.([]any)
				if len(list) == 0 {
					t.Errorf("no calls: %v", calls)
				}
				for _, c := range list {
					var args struct {
						N  int
						OK *bool
					}
					name := at(c, "function", "name")
					text, _ := at(c, "function", "arguments").(string)
					if err := json.Unmarshal([]byte(text), &args); err != nil || at(c, "type") != "function" {
						t.Errorf("%v: %v", c, err)
					}
					if name == "f" && args.N != 1 && args.N != 2 || name == "g" && args.OK == nil || name != "f" && name != "g" || only != "" && name != only {
						t.Errorf("call %v", c)
					}
				}
			}
			for seed := range 5 {
				ask := fmt.Sprintf(`{"messages":[{"role":"user","content":"x"}],"temperature":1,"max_tokens":200,"seed":%d,`, seed) + tools
				_, doc := post(t, url+"/v1/chat/completions", ask+`,"tool_choice":"required","parallel_tool_calls":false}`)
				if at(doc, "choices", 0, "finish_reason") != "tool_calls" || at(doc, "choices", 0, "message", "content") != nil || len(at(doc, "choices", 0, "message", "tool_calls").([]any)) != 1 {
					t.Errorf("required: %v", doc)
				}
				check(at(doc, "choices", 0, "message", "tool_calls"), "")
				_, doc = post(t, url+"/v1/chat/completions", ask+`,"tool_choice":{"type":"function","function":{"name":"g"}}}`)
				if at(doc, "choices", 0, "finish_reason") != "stop" {
					t.Errorf("named: %v", doc)
				}
				check(at(doc, "choices", 0, "message", "tool_calls"), "g")
				var calls []any
				for _, e := range events(t, url+"/v1/chat/completions", ask+`,"tool_choice":{"type":"function","function":{"name":"f"}},"stream":true}`) {
					if list, ok := at(e, "choices", 0, "delta", "tool_calls").([]any); ok {
						calls = append(calls, list...)
					}
					if text, _ := at(e, "choices", 0, "delta", "content").(string); text != "" {
						t.Errorf("text %q in a stream of calls", text)
					}
				}
				check(calls, "f")
				if len(calls) > 0 && at(calls, 0, "index") != 0.0 {
					t.Errorf("index %v", at(calls, 0, "index"))
				}
			}
			// Without a choice the model says what it wants to; with none it does
			// not hear of tools.
			base := `{"messages":[{"role":"user","content":"x"}],"temperature":0,"max_tokens":5`
			_, auto := post(t, url+"/v1/chat/completions", base+`,`+tools+`}`)
			_, none := post(t, url+"/v1/chat/completions", base+`,`+tools+`,"tool_choice":"none"}`)
			_, bare := post(t, url+"/v1/chat/completions", base+`}`)
			if a, b := at(auto, "usage", "prompt_tokens").(float64), at(bare, "usage", "prompt_tokens").(float64); a <= b {
				t.Errorf("%v prompt tokens with tools, %v without", a, b)
			}
			if at(none, "usage", "prompt_tokens") != at(bare, "usage", "prompt_tokens") {
				t.Error("tool_choice none tells the model of tools")
			}
			// Arguments of earlier calls are objects to the template.
			_, again := post(t, url+"/v1/chat/completions", `{"messages":[{"role":"assistant","content":"","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"q\":\"wwww\"}"}}]},{"role":"tool","content":"x"}],"max_tokens":1}`)
			_, empty := post(t, url+"/v1/chat/completions", `{"messages":[{"role":"assistant","content":"","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"q\":\"\"}"}}]},{"role":"tool","content":"x"}],"max_tokens":1}`)
			if a, b := at(again, "usage", "prompt_tokens"), at(empty, "usage", "prompt_tokens"); a == nil || b == nil || a.(float64) != b.(float64)+4 {
				t.Errorf("%v and %v prompt tokens, want 4 between: %v", a, b, again)
			}
			for _, c := range []struct{ rest, param string }{
				{`,"tool_choice":"required"}`, "tool_choice"},
				{`,` + tools + `,"tool_choice":"always"}`, "tool_choice"},
				{`,` + tools + `,"tool_choice":{"type":"function","function":{"name":"h"}}}`, "tool_choice"},
				{`,` + tools + `,"response_format":{"type":"json_object"}}`, "tools"},
				{`,"tools":[{"type":"web_search"}]}`, "tools"},
				{`,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"string","pattern":"x"}}}],"tool_choice":"required"}`, "tools"},
			} {
				if status, doc := post(t, url+"/v1/chat/completions", base+c.rest); status != 400 || at(doc, "error", "param") != c.param {
					t.Errorf("%s: %d %v", c.rest, status, doc)
				}
			}
		})
	}
}
