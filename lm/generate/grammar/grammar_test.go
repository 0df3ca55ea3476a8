package grammar

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// testVocabulary has all bytes, and pieces as models have them: words with a
// space, marks of JSON that stand together, parts of characters. Token 0 has no
// bytes.
func testVocabulary(words int) *Vocabulary {
	var list []string
	for b := range 256 {
		list = append(list, string([]byte{byte(b)}))
	}
	list = append(list, `{"`, `"}`, `":`, `": "`, `", "`, `","`, `"],`, `]}`, `}}`, `},`, `[{"`, `[]`, `{}`, "\n  ", "\n    ", ": ", ", ",
		"tru", "true", "false", "null", "nul", "12", "123", "0.", ".5", "e1", "é", "日本", "\xe6\x97", "\xa5本", `\n`, `\"`, `\u`, `00`, `d8`, `\ud8`,
		`name`, `"name"`, `"name":`, `age": 1`, `["a`, `"]]`, `]]`, `[[`, `]`, ` {`, ` "`, `"a":1}`, `"`)
	r := rand.New(rand.NewPCG(3, 3))
	seen := map[string]bool{}
	for len(seen) < words {
		n := 2 + r.IntN(8)
		w := make([]byte, n)
		for i := range w {
			w[i] = byte('a' + r.IntN(26))
		}
		switch r.IntN(12) {
		case 0:
			w[n-1] = `",:}]`[r.IntN(5)]
		case 1:
			w[r.IntN(n)] = "0123456789.\"\\{[ \n"[r.IntN(17)]
		case 2, 3, 4:
			w[0] = ' '
		}
		seen[string(w)] = true
	}
	rest := make([]string, 0, words)
	for w := range seen {
		rest = append(rest, w)
	}
	slices.Sort(rest)
	list = append(list, rest...)
	return NewVocabulary(len(list)+1, func(id int) []byte {
		if id == 0 {
			return nil
		}
		return []byte(list[id-1])
	})
}

const person = `{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"},"tags":{"type":"array","items":{"enum":["a","ab","b"]}},
	"boss":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},"required":["name","age","tags","boss"],"additionalProperties":false}`

// texts are documents that a schema allows, as they may be written, and some
// that it does not.
var texts = []struct {
	schema  string
	yes, no []string
}{
	{`{"type":"integer"}`, []string{"0", "-1", "12", " 7", "\n  7"}, []string{"", "01", "1.", "1.5", "-", "+1", "1e2", "1 ", "123456789012345678901"}},
	{`{"type":"number"}`, []string{"0", "-0.5", "1e+10", "1.25E-7", "12"}, []string{".5", "1.", "1e", "1e100", "0x1", "NaN"}},
	{`{"type":"string"}`, []string{`""`, `"a"`, `"é日\u00e9\n\\\"\/"`, `"\ud83d\ude00"`, "\"\U0001F600\x7f\""},
		[]string{`"`, `"\x"`, "\"\n\"", `"\ud83d"`, `"\ude00"`, `"\ud83da"`, "\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", `"a`, `"a"b`, `"\u12"`}},
	{`{"type":"boolean"}`, []string{"true", "false"}, []string{"True", "t", "null"}},
	{`{"type":["null","boolean"]}`, []string{"true", "null"}, []string{"0"}},
	{`{"type":["number","integer"]}`, []string{"1", "1.5"}, []string{`"1"`}},
	{`{"const":{"a":[1,"x"]}}`, []string{`{"a":[1,"x"]}`}, []string{`{"a": [1,"x"]}`, `{}`}},
	{`{"enum":[1,10,"1",null,"é"]}`, []string{"1", "10", `"1"`, "null", `"é"`}, []string{"100", `""`, `"\u00e9"`}},
	{`{"type":"string","enum":["a",1]}`, []string{`"a"`}, []string{"1"}},
	{`{"type":"array","items":{"type":"integer"}}`, []string{"[]", "[1]", "[1,2, 3]", "[\n  1,\n  2\n]", "[ ]"}, []string{"[1,]", "[,]", "[1 ,2]", "[\"a\"]", "[", "[1"}},
	{`{"type":"array"}`, []string{"[]", `[1,"a",[],{}]`}, []string{"{}"}},
	{`{"type":"object"}`, []string{"{}", `{"a":1}`, `{"a":{"b":[null]}, "c": 2}`}, []string{"[]", `{"a"}`, `{a:1}`, `{"a":1,}`}},
	{`{"type":"object","additionalProperties":{"type":"integer"}}`, []string{"{}", `{"a":1,"b":2}`}, []string{`{"a":"1"}`}},
	{`{"type":"object","properties":{},"additionalProperties":false}`, []string{"{}", "{ }"}, []string{`{"a":1}`}},
	{`{"type":"object","additionalProperties":false}`, []string{"{}"}, []string{`{"a":1}`}},
	{`{"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"},"c":{"type":"null"}},"required":["b"]}`,
		[]string{`{"b":null}`, `{"a":null,"b":null}`, `{"b":null,"c":null}`, "{\n  \"a\": null,\n  \"b\": null,\n  \"c\": null\n}"},
		[]string{`{}`, `{"a":null}`, `{"b":null,"a":null}`, `{"a":null,"c":null}`, `{"b":null,"c":null,}`, `{"b":null,"b":null}`}},
	{`{"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}}}`, []string{"{}", `{"a":null}`, `{"b":null}`, `{"a":null,"b":null}`}, []string{`{,"b":null}`}},
	{`{"type":"object","properties":{"a\"b\\\n":{}},"required":["a\"b\\\n"]}`, []string{`{"a\"b\\\n":[1]}`}, []string{`{}`}},
	{person, []string{`{"name":"A","age":3,"tags":["a","ab"],"boss":{"name":"B","age":50,"tags":[],"boss":null}}`}, []string{`{"name":"A"}`, `{"name":"A","age":3,"tags":["abc"],"boss":null}`}},
	{`{"$ref":"#/$defs/t","$defs":{"t":{"type":"array","items":{"$ref":"#/$defs/t"}}}}`, []string{"[]", "[[],[[]]]"}, []string{"[1]"}},
	{`{"$ref":"#/$defs/a~1b%20c","$defs":{"a/b c":{"type":"null"}}}`, []string{"null"}, []string{"1"}},
	{`{"anyOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"integer"}},"required":["k","x"]},{"type":"object","properties":{"k":{"const":"b"},"y":{"type":"string"}},"required":["k","y"]}]}`,
		[]string{`{"k":"a","x":1}`, `{"k":"b","y":"1"}`}, []string{`{"k":"a","y":"1"}`, `{"k":"b","x":1}`}},
	{`{"allOf":[{"type":"null"}],"description":"x"}`, []string{"null"}, []string{"1"}},
	{`{}`, []string{"1", `{"a":[]}`, `"x"`}, []string{"x"}},
	{`true`, []string{"1"}, []string{"x"}},
	// What has no end is left out.
	{`{"anyOf":[{"$ref":"#/$defs/no"},{"type":"null"}],"$defs":{"no":{"type":"object","properties":{"n":{"$ref":"#/$defs/no"}},"required":["n"]}}}`, []string{"null"}, []string{"{"}},
	{`{"type":"array","items":false}`, []string{"[]"}, []string{"[1]"}},
}

// takes reports whether a text is a whole document.
func takes(m *Matcher, text string) bool {
	for i := range len(text) {
		if !m.Accept(1 + int(text[i])) {
			return false
		}
	}
	return m.Complete()
}

func TestTexts(t *testing.T) {
	v := testVocabulary(0)
	for _, tt := range texts {
		g, err := Schema([]byte(tt.schema))
		if err != nil {
			t.Errorf("%s: %v", tt.schema, err)
			continue
		}
		for _, text := range tt.yes {
			if !takes(g.Matcher(v), text) {
				t.Errorf("%s does not take %q", tt.schema, text)
			}
			if !json.Valid([]byte(text)) {
				t.Errorf("%q is no JSON: the test is wrong", text)
			}
		}
		for _, text := range tt.no {
			if takes(g.Matcher(v), text) {
				t.Errorf("%s takes %q", tt.schema, text)
			}
		}
	}
	choice, err := Choice([]string{"yes", "no", "not at all"})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"yes": true, "no": true, "not at all": true, "not": false, "": false, `"no"`: false} {
		if got := takes(choice.Matcher(v), text); got != want {
			t.Errorf("choice of %q: %v", text, got)
		}
	}
	if !takes(Object().Matcher(v), `{"a": [1, {}]}`) || takes(Object().Matcher(v), `[]`) {
		t.Error("any object")
	}
}

func TestRefused(t *testing.T) {
	deep := strings.Repeat(`{"items":`, 300) + "1" + strings.Repeat("}", 300)
	for schema, want := range map[string]string{
		``:                    "no JSON document",
		`{"type":"string"} x`: "no JSON document",
		`{"a":1,"a":2}`:       "twice",
		deep:                  "levels deep",
		`1`:                   "#: a schema is an object, not 1",
		`{"type":"text"}`:     `type "text" is none of`,
		`{"type":[]}`:         "is none of",
		`{"type":"string","pattern":"a","minLength":2}`:                                                 `#: "pattern" is not supported; #: "minLength" is not supported`,
		`{"type":"object","properties":{"a/b":{"type":"array","items":{"type":"number","minimum":1}}}}`: `#/properties/a~1b/items: "minimum" is not supported`,
		`{"type":"object","properties":{"a":{}},"additionalProperties":true}`:                           "must be false",
		`{"type":"object","properties":{"a":{}},"required":["b"]}`:                                      `required names "b"`,
		`{"type":"object","required":["b"]}`:                                                            "required names what",
		`{"properties":{"a":{}}}`:                                                                       `"properties" is not supported without type "object"`,
		`{"type":"string","items":{}}`:                                                                  `"items" is not supported without type "array"`,
		`{"anyOf":[]}`:                                                                                  "anyOf is a list",
		`{"anyOf":[{}],"type":"null"}`:                                                                  "without type",
		`{"enum":[]}`:                                                                                   "enum is a list",
		`{"enum":[1],"const":1}`:                                                                        "one at a time",
		`{"enum":[1],"type":"string"}`:                                                                  "no value of enum",
		`{"oneOf":[{}]}`:                                                                                `"oneOf" is not supported`,
		`{"allOf":[{},{}]}`:                                                                             "allOf",
		`{"$ref":"#/$defs/x"}`:                                                                          "nothing at that place",
		`{"$ref":"other.json"}`:                                                                         "only places within the schema",
		`{"$ref":"#x"}`:                                                                                 "anchors",
		`{"$ref":"#"}`:                                                                                  "no document can satisfy",
		`{"anyOf":[{"$ref":"#"},{"type":"null"}]}`:                                                      "refers to itself",
		`{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}`:                            "no document can satisfy",
		`false`: "no document can satisfy",
		`{"type":"object","properties":{"a":{"type":"array","items":{"$id":"x"}}}}`: `"$id" is not supported`,
	} {
		_, err := Schema([]byte(schema))
		if err == nil || !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200s: %v, want %q", schema, err, want)
		} else if len(err.Error()) > 4000 {
			t.Errorf("%.200s: an error of %d bytes", schema, len(err.Error()))
		}
	}
	if _, err := Choice(nil); !errors.Is(err, ErrSchema) {
		t.Error(err)
	}
	if _, err := Choice([]string{"a", ""}); !errors.Is(err, ErrSchema) {
		t.Error(err)
	}
}

// hostile are schemas made to take long.
func hostile() map[string]string {
	out := map[string]string{}
	var b strings.Builder
	list := func(name string, n int, open, shut string, each func(i int) string) {
		b.Reset()
		b.WriteString(open)
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(each(i))
		}
		b.WriteString(shut)
		out[name] = b.String()
	}
	list("alternatives", 5000, `{"anyOf":[`, `]}`, func(i int) string { return fmt.Sprintf(`{"type":"array","items":{"const":%d}}`, i) })
	list("optional", 5000, `{"type":"object","properties":{`, `}}`, func(i int) string { return fmt.Sprintf(`"p%d":{}`, i) })
	list("values", 5000, `{"enum":[`, `]}`, func(i int) string { return strconv.Itoa(i * i) })
	list("chain", 5000, `{"$ref":"#/$defs/d0","$defs":{`, `}}`, func(i int) string {
		if i == 4999 {
			return `"d4999":{"type":"null"}`
		}
		return fmt.Sprintf(`"d%d":{"$ref":"#/$defs/d%d"}`, i, i+1)
	})
	list("doubling", 12, `{"type":"array","items":{"anyOf":[`, `]}}`, func(i int) string { return `{"$ref":"#"},{"type":"array","items":{"$ref":"#"}}` })
	out["nested"] = strings.Repeat(`{"type":"array","items":`, 250) + "{}" + strings.Repeat("}", 250)
	out["long"] = `{"const":"` + strings.Repeat("x", maxSource-100) + `"}`
	return out
}

func TestHostile(t *testing.T) {
	v := testVocabulary(3000)
	for name, schema := range hostile() {
		start := time.Now()
		g, err := Schema([]byte(schema))
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s: compiled in %v", name, took)
		}
		if err != nil {
			if name != "long" || !errors.Is(err, ErrSchema) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		start = time.Now()
		random(t, name, g, v, 40, rand.New(rand.NewPCG(1, 2)))
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: 40 tokens in %v", name, took)
		}
	}
}

// random writes a document of at most so many tokens and reports it, and
// whether it is whole.
func random(t testing.TB, name string, g *Grammar, v *Vocabulary, most int, r *rand.Rand) (text string, whole bool) {
	m := g.Matcher(v)
	var b strings.Builder
	for range most {
		if m.Finished() || m.Complete() && r.IntN(3) == 0 {
			return b.String(), true
		}
		s := m.Allowed()
		if s.Has(0) {
			t.Fatalf("%s: a token without bytes is allowed", name)
		}
		var ids []int
		for id := range v.Size() {
			if s.Has(id) {
				ids = append(ids, id)
			}
		}
		if len(ids) == 0 {
			t.Fatalf("%s: nothing may follow %q", name, b.String())
		}
		id := ids[r.IntN(len(ids))]
		if r.IntN(2) == 0 {
			// Ends are rare otherwise.
			for _, end := range []byte(`"}]`) {
				if s.Has(1 + int(end)) {
					id = 1 + int(end)
				}
			}
		}
		if !m.Accept(id) {
			t.Fatalf("%s: after %q token %d, %q, is allowed and not taken", name, b.String(), id, v.bytes[id])
		}
		b.Write(v.bytes[id])
	}
	return b.String(), m.Complete()
}

// TestAllowed compares the set of allowed tokens with what trying each gives,
// all along random documents.
func TestAllowed(t *testing.T) {
	v := testVocabulary(600)
	r := rand.New(rand.NewPCG(5, 5))
	for _, tt := range texts {
		g, err := Schema([]byte(tt.schema))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			m := g.Matcher(v)
			for range 25 {
				s := m.Allowed()
				var ids []int
				at := m.now
				for id := range v.Size() {
					ok := m.Accept(id)
					m.now = at
					if ok != s.Has(id) {
						t.Fatalf("%s: token %q: allowed %v, taken %v", tt.schema, v.bytes[id], s.Has(id), ok)
					}
					if ok {
						ids = append(ids, id)
					}
				}
				if len(ids) == 0 {
					if !m.Finished() {
						t.Fatalf("%s: stuck", tt.schema)
					}
					break
				}
				m.Accept(ids[r.IntN(len(ids))])
			}
		}
	}
}

// TestDocuments writes documents at random; each that is whole must satisfy its
// schema as an evaluator of schemas sees it.
func TestDocuments(t *testing.T) {
	v := testVocabulary(2000)
	r := rand.New(rand.NewPCG(6, 6))
	for _, tt := range texts {
		g, err := Schema([]byte(tt.schema))
		if err != nil {
			t.Fatal(err)
		}
		var schema any
		if err := json.Unmarshal([]byte(tt.schema), &schema); err != nil {
			t.Fatal(err)
		}
		n := 0
		for range 30 {
			text, whole := random(t, tt.schema, g, v, 200, r)
			if !whole {
				continue
			}
			n++
			var doc any
			if err := json.Unmarshal([]byte(text), &doc); err != nil || !utf8.ValidString(text) {
				t.Errorf("%s: %q: %v", tt.schema, text, err)
			} else if !satisfies(schema, schema, doc) {
				t.Errorf("%s: %q", tt.schema, text)
			}
		}
		if n == 0 {
			t.Errorf("%s: no document came to its end", tt.schema)
		}
	}
}

// satisfies is JSON Schema, as far as the tests go.
func satisfies(root, schema, doc any) bool {
	if b, ok := schema.(bool); ok {
		return b
	}
	s := schema.(map[string]any)
	if ref, ok := s["$ref"].(string); ok {
		to := root
		for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#"), "/") {
			if part != "" {
				to = to.(map[string]any)[strings.NewReplacer("~1", "/", "~0", "~", "%20", " ").Replace(part)]
			}
		}
		if !satisfies(root, to, doc) {
			return false
		}
	}
	same := func(a, b any) bool {
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		return string(x) == string(y)
	}
	if list, ok := s["enum"].([]any); ok && !slices.ContainsFunc(list, func(v any) bool { return same(v, doc) }) {
		return false
	}
	if c, ok := s["const"]; ok && !same(c, doc) {
		return false
	}
	if list, ok := s["anyOf"].([]any); ok && !slices.ContainsFunc(list, func(v any) bool { return satisfies(root, v, doc) }) {
		return false
	}
	if list, ok := s["allOf"].([]any); ok && slices.ContainsFunc(list, func(v any) bool { return !satisfies(root, v, doc) }) {
		return false
	}
	types, ok := s["type"].([]any)
	if one, is := s["type"].(string); is {
		types, ok = []any{one}, true
	}
	if ok && !slices.ContainsFunc(types, func(t any) bool {
		switch d := doc.(type) {
		case nil:
			return t == "null"
		case bool:
			return t == "boolean"
		case string:
			return t == "string"
		case float64:
			return t == "number" || t == "integer" && d == float64(int64(d)) || t == "integer" && (d > 1e15 || d < -1e15)
		case []any:
			return t == "array"
		}
		return t == "object"
	}) {
		return false
	}
	if list, ok := doc.([]any); ok && s["items"] != nil {
		return !slices.ContainsFunc(list, func(v any) bool { return !satisfies(root, s["items"], v) })
	}
	if o, ok := doc.(map[string]any); ok {
		for _, n := range anyList(s["required"]) {
			if _, ok := o[n.(string)]; !ok {
				return false
			}
		}
		ps, _ := s["properties"].(map[string]any)
		for k, v := range o {
			sub, ok := ps[k]
			if !ok {
				if sub, ok = s["additionalProperties"]; !ok {
					continue
				}
			}
			if !satisfies(root, sub, v) {
				return false
			}
		}
	}
	return true
}

func anyList(v any) []any { l, _ := v.([]any); return l }

// FuzzSchema compiles foreign schemas and writes a few documents.
func FuzzSchema(f *testing.F) {
	for _, tt := range texts {
		f.Add([]byte(tt.schema), uint64(1))
	}
	for name, schema := range hostile() {
		if name != "long" && len(schema) < 1<<14 {
			f.Add([]byte(schema), uint64(2))
		}
	}
	v := testVocabulary(300)
	f.Fuzz(func(t *testing.T, schema []byte, seed uint64) {
		g, err := Schema(schema)
		if err != nil {
			if !errors.Is(err, ErrSchema) {
				t.Fatal(err)
			}
			return
		}
		text, whole := random(t, string(schema), g, v, 30, rand.New(rand.NewPCG(seed, 0)))
		if whole && !json.Valid([]byte(text)) {
			t.Errorf("%s: %q is no JSON", schema, text)
		}
	})
}

// BenchmarkAllowed is a token's time in a document, at vocabularies of real
// size.
func BenchmarkAllowed(b *testing.B) {
	for _, words := range []int{32000, 128000} {
		v := testVocabulary(words)
		g, err := Schema([]byte(person))
		if err != nil {
			b.Fatal(err)
		}
		random(b, "warm", g, v, 100, rand.New(rand.NewPCG(1, 1)))
		b.Run(strconv.Itoa(words), func(b *testing.B) {
			var m *Matcher
			doc := `{"name": "Some name","age": 33,"tags": ["a", "ab"],"boss": {"name": "Other","age": 50,"tags": [],"boss": null}}`
			at := 0
			for b.Loop() {
				if at == 0 {
					m = g.Matcher(v)
				}
				m.Allowed()
				if !m.Accept(1 + int(doc[at])) {
					b.Fatal(doc[:at])
				}
				at = (at + 1) % len(doc)
			}
		})
	}
}
