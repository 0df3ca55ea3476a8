package chat

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ardanlabs/jinja"
)

// testdata finds a file of the data set that EXPO_TESTDATA names, and skips the
// test if there is none.
func testdata(t *testing.T, name string) []byte {
	t.Helper()
	dir := os.Getenv("EXPO_TESTDATA")
	if dir == "" {
		t.Skip("EXPO_TESTDATA is not set")
	}
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Skip(err)
	}
	return data
}

// renderJSON renders a template with variables that are a JSON object.
func renderJSON(source string, vars json.RawMessage) (string, error) {
	t, err := Parse(source)
	if err != nil {
		return "", err
	}
	v, err := decode(vars)
	if err != nil {
		return "", err
	}
	if !v.IsDict() {
		v = jinja.NewDict()
	}
	now := func() time.Time { return time.Date(2025, time.July, 10, 12, 0, 0, 0, time.UTC) }
	return t.render(context.Background(), v, now)
}

// TestHuggingFaceJS compares with the vectors of huggingface.js's own engine.
func TestHuggingFaceJS(t *testing.T) {
	type vector struct {
		ChatTemplate string          `json:"chat_template"`
		Data         json.RawMessage `json:"data"`
		Target       string          `json:"target"`
	}
	var file struct {
		Default, Custom map[string]vector
	}
	if err := json.Unmarshal(testdata(t, "vectors/chat_templates_hfjs.json"), &file); err != nil {
		t.Fatal(err)
	}
	n, ok := 0, 0
	for _, set := range []map[string]vector{file.Default, file.Custom} {
		for name, v := range set {
			n++
			if name == "MadeAgents/Hammer2.1" {
				// Printing a list gives JSON in JavaScript only.
				v.ChatTemplate = strings.Replace(v.ChatTemplate, "tools|string", "tools|tojson", 1)
			}
			got, err := renderJSON(v.ChatTemplate, v.Data)
			switch {
			case err != nil:
				t.Errorf("%s: %v", name, err)
			case got != v.Target:
				t.Errorf("%s: got\n%q\nwant\n%q", name, got, v.Target)
			default:
				ok++
			}
		}
	}
	t.Logf("%d of %d agree", ok, n)
}

// TestTemplateCollection compares with renderings by Python's Jinja of the
// templates in https://github.com/chujiezheng/chat_templates.
func TestTemplateCollection(t *testing.T) {
	var gold struct {
		Conversations map[string]json.RawMessage
		BOS           string `json:"bos_token"`
		EOS           string `json:"eos_token"`
		Results       map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(testdata(t, "vectors/chat_templates_chujiezheng_gold.json"), &gold); err != nil {
		t.Fatal(err)
	}
	n, ok := 0, 0
	for name, results := range gold.Results {
		source := string(testdata(t, "chat_templates/chat_templates/"+name+".jinja"))
		source = strings.NewReplacer("    ", "", "\r\n", "", "\n", "").Replace(source)
		tmpl, err := Parse(source)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for key, raw := range results {
			n++
			conversation, prompt, _ := strings.Cut(key, "|")
			var messages []Message
			if err := json.Unmarshal(gold.Conversations[conversation], &messages); err != nil {
				t.Fatalf("%s: %s: %v", name, key, err)
			}
			got, err := tmpl.Render(context.Background(), messages, Options{
				AddGenerationPrompt: prompt == "True",
				BOS:                 gold.BOS,
				EOS:                 gold.EOS,
			})
			var want string
			if json.Unmarshal(raw, &want) == nil {
				if err != nil || got != want {
					t.Errorf("%s: %s: got %q, %v, want %q", name, key, got, err, want)
					continue
				}
			} else {
				var failure struct{ Error string }
				if err := json.Unmarshal(raw, &failure); err != nil {
					t.Fatal(err)
				}
				var e *TemplateError
				if !errors.As(err, &e) || !e.Raised || "TemplateError: "+e.Message != failure.Error {
					t.Errorf("%s: %s: got %q, %v, want the error %q", name, key, got, err, failure.Error)
					continue
				}
			}
			ok++
		}
	}
	t.Logf("%d of %d agree", ok, n)
}
