package serve

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestForm asks for documents and gets them, at once and piece by piece.
func TestForm(t *testing.T) {
	_, url := testServer(t, nil)
	const schema = `{"type":"object","properties":{"ok":{"type":"boolean"},"what":{"enum":["a","bc",7]},"list":{"type":"array","items":{"type":"null"}}},"required":["ok","what","list"],"additionalProperties":false}`
	text, _ := json.Marshal(schema)
	whole := 0
	for seed := range 12 {
		common := fmt.Sprintf(`"model":"expo","temperature":1,"seed":%d,"max_tokens":120`, seed)
		chat := `"messages":[{"role":"user","content":"x"}],` + common
		forms := []string{
			`"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":` + schema + `}}`,
			`"structured_outputs":{"json":` + schema + `}`,
			`"guided_json":` + string(text),
		}
		var first string
		for i, form := range forms {
			status, doc := post(t, url+"/v1/chat/completions", `{`+chat+`,`+form+`}`)
			if status != 200 {
				t.Fatalf("%d %v", status, doc)
			}
			content := at(doc, "choices", 0, "message", "content").(string)
			if i == 0 {
				first = content
			} else if content != first {
				t.Errorf("seed %d: %s gives %q, want %q", seed, form, content, first)
			}
			if at(doc, "choices", 0, "finish_reason") != "stop" {
				continue
			}
			whole++
			var got struct {
				OK   *bool
				What any
				List []any
			}
			d := json.NewDecoder(strings.NewReader(content))
			d.DisallowUnknownFields()
			if err := d.Decode(&got); err != nil || got.OK == nil || got.List == nil || got.What != "a" && got.What != "bc" && got.What != 7.0 {
				t.Errorf("seed %d: %q: %v", seed, content, err)
			}
		}
		streamed := ""
		for _, e := range events(t, url+"/v1/chat/completions", `{`+chat+`,`+forms[0]+`,"stream":true}`) {
			piece, _ := at(e, "choices", 0, "delta", "content").(string)
			streamed += piece
		}
		if streamed != first {
			t.Errorf("seed %d: streamed %q, want %q", seed, streamed, first)
		}
		_, doc := post(t, url+"/v1/completions", `{"prompt":"x","echo":true,"logprobs":1,`+common+`,"guided_choice":["left","right"]}`)
		if got := at(doc, "choices", 0, "text"); got != "xleft" && got != "xright" {
			t.Errorf("seed %d: choice %q", seed, got)
		}
		_, doc = post(t, url+"/v1/chat/completions", `{`+chat+`,"response_format":{"type":"json_object"},"n":2}`)
		for i := range 2 {
			if content := at(doc, "choices", i, "message", "content").(string); !strings.HasPrefix(strings.TrimSpace(content), "{") {
				t.Errorf("seed %d: no object: %q", seed, content)
			}
		}
	}
	if whole == 0 {
		t.Error("no document came to its end")
	}
}
