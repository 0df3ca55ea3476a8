package chat

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

func TestMessageJSON(t *testing.T) {
	tests := []struct {
		in      string
		content string
		out     string // "" if as in
	}{
		{`{"role":"user","content":"x"}`, "x", ""},
		{`{"content":"x<y>&","role":"user","extra":{"b":1,"a":[2]}}`, "x<y>&", ""},
		{`{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`, "a\nb", ""},
		{`{"role":"user","content":[]}`, "", ""},
		{`{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}`, "", ""},
		{`{"role":"assistant","tool_calls":[]}`, "", ""},
		{`{"role":"tool","tool_call_id":"1","name":"f","content":"ok"}`, "ok", ""},
		{`{"role":"a","role":"b","content":"x"}`, "x", `{"role":"b","content":"x"}`},
		{`{"content":"x"}`, "x", `{"content":"x","role":""}`},
	}
	for _, tt := range tests {
		var m Message
		if err := json.Unmarshal([]byte(tt.in), &m); err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if m.Content != tt.content {
			t.Errorf("%s: content %q, want %q", tt.in, m.Content, tt.content)
		}
		want := tt.out
		if want == "" {
			want = tt.in
		}
		got, err := m.MarshalJSON()
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", tt.in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		`{"role":"user","content":[{"type":"image_url","image_url":{}}]}`: `part 0 is of type "image_url", want text`,
		`{"role":1}`:                          "chat: message: role: ",
		`{"role":"user","content":1}`:         "chat: message: content: ",
		`{"role":"assistant","tool_calls":1}`: "chat: message: tool_calls: want a list",
		`[]`:                                  "chat: a message is no JSON object",
		"{\"role\":\"\xff\"}":                 "UTF-8",
	} {
		if err := json.Unmarshal([]byte(in), new(Message)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", in, err, want)
		}
	}
}

// TestMessageFields changes messages that were decoded.
func TestMessageFields(t *testing.T) {
	var m Message
	if err := json.Unmarshal([]byte(`{"x":1,"content":[{"type":"text","text":"a"}],"role":"user","name":"n","tool_calls":[1]}`), &m); err != nil {
		t.Fatal(err)
	}
	m.Role, m.Content, m.ToolCalls, m.ToolCallID = "tool", "b", nil, "7"
	got, err := json.Marshal(m)
	if want := `{"x":1,"content":"b","role":"tool","name":"n","tool_call_id":"7"}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	got, err = json.Marshal(Message{Role: "user"})
	if want := `{"role":"user","content":""}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// TestMessageInTemplate checks what templates see of messages.
func TestMessageInTemplate(t *testing.T) {
	tests := []struct{ in, source, want string }{
		{`{"role":"assistant","content":null,"name":null}`, "{{ messages[0].content is defined }}{{ messages[0].name is defined }}", "FalseFalse"},
		{`{"role":"assistant","content":""}`, "{{ messages[0].content is defined }}", "True"},
		{`{"b":1,"role":"user","a":{"z":1.0,"y":[]}}`, "{{ messages[0] | tojson }}", `{"b": 1, "role": "user", "a": {"z": 1.0, "y": []}}`},
		{`{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`, "{{ messages[0].content }}", "a\nb"},
		{`{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`,
			"{% if messages[0].content is string %}s{% else %}{% for p in messages[0].content %}<{{ p.text }}>{% endfor %}{% endif %}", "<a><b>"},
		{`{"role":"user","content":[{"type":"text","text":"a"}]}`, "{% set content = messages[0]['content'] %}{% for p in content %}{{ p.type }}{% endfor %}", "text"},
		{`{"role":"user","content":"abc"}`, "{% if messages[0].content is string %}{{ messages[0].content }}{% endif %}", "abc"},
		{`{"role":"assistant","reasoning":"r","content":"c"}`, "{{ messages[0] | tojson }}",
			`{"thinking": "r", "role": "assistant", "reasoning": "r", "content": "c", "reasoning_content": "r"}`},
		{`{"role":"user","content":"x","n":12345678901234567890}`, "{{ messages[0].n }}", "1.2345678901234567e+19"},
	}
	for _, tt := range tests {
		var m Message
		if err := json.Unmarshal([]byte(tt.in), &m); err != nil {
			t.Fatal(err)
		}
		got, err := mustParse(t, tt.source).Render(context.Background(), []Message{m}, Options{})
		if err != nil || got != tt.want {
			t.Errorf("%s: %s: got %q, %v, want %q", tt.in, tt.source, got, err, tt.want)
		}
	}
	// What is no UTF-8 in Go is not changed on the way.
	got, err := mustParse(t, "{{ messages[0].content }}").Render(context.Background(), []Message{{Role: "user", Content: "a\xffb"}}, Options{})
	if err != nil || got != "a\xffb" {
		t.Errorf("got %q, %v", got, err)
	}
}
