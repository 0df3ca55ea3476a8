package alpacaeval

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRunes(t *testing.T) {
	for _, s := range []string{"", "abc", "é世😀", `\n\t\"\\\/`, `\u00e9x`, `\ud83d\ude00`, `\ud83d`, `\ude00\ud83d`, `\ud83dx\ude00`, `\ud83d\u00e9`, `a\\`, "é\\u4e16\\ud83d\\ude00z"} {
		var v string
		if err := json.Unmarshal([]byte(`"`+s+`"`), &v); err != nil {
			t.Fatal(s, err)
		}
		for _, before := range []string{"", "1234567", "12345678"} {
			got, err := (&scanner{b: []byte(`"` + before + s + `",`)}).counted()
			if err != nil || got.runes != len(before)+utf8.RuneCountInString(v) || string(got.raw) != before+s {
				t.Errorf("%s%s: %q with %d code points (%v), want %d", before, s, got.raw, got.runes, err, len(before)+utf8.RuneCountInString(v))
			}
		}
		if got, err := (text{raw: []byte(s)}).decode(); err != nil || got != v {
			t.Errorf("%s: %q (%v), want %q", s, got, err, v)
		}
	}
	for _, s := range []string{`\`, `\u`, `\u12`, `\uzzzz`} {
		if _, err := (&scanner{b: []byte(`"` + s + `"`)}).counted(); err == nil {
			t.Errorf("%s passes", s)
		}
	}
}

// FuzzScan compares the scanner with encoding/json: of what is JSON, both find
// the same.
func FuzzScan(f *testing.F) {
	for _, s := range []string{
		`[{"instruction":"a","output_1":"b","output_2":"c","preference":1.5}]`,
		`[ {"x":[1,{"y":"]\"}"}],"instruction":"\u00e9\\","output_1":"","output_2":"\ud83d\ude00","preference":null} , {"instruction":"é","output_1":"1","output_2":"2","generator_2":"m"} ]`,
		"{\"instruction\":\"a\",\"output_1\":\"b\",\"output_2\":\"c\"}\n{\"instruction\":\"a\",\"output_1\":\"b\",\"output_2\":\"c\"}\n",
		`[{"instruction":"a","output_1":"b","output_2":"c","preference":-1e0},]`, `[]`, `[{}`, `[{"instruction":null}]`, `[{"instruction":"a","output_1":3}]`, `[1]`, "\x00", `[{"a":}]`, `[{"preference":"x"}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sets, err := new(AnnotationReader).collect(b, "f")
		type row struct {
			Instruction *string  `json:"instruction"`
			Output1     *string  `json:"output_1"`
			Output2     *string  `json:"output_2"`
			Generator1  string   `json:"generator_1"`
			Generator2  string   `json:"generator_2"`
			Annotator   string   `json:"annotator"`
			Preference  *float64 `json:"preference"`
		}
		var rows []row
		if !utf8.Valid(b) || json.Unmarshal(b, &rows) != nil || !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("[")) || foldsKeys(b) {
			return
		}
		whole := len(rows) > 0
		var want []string
		seen := map[string]bool{}
		for _, r := range rows {
			if r.Instruction == nil || r.Output1 == nil || r.Output2 == nil {
				whole = false
				break
			}
			p := math.NaN()
			if r.Preference != nil {
				p = *r.Preference
			}
			if id := fmt.Sprintf("%q", []string{r.Annotator, r.Generator1, r.Generator2, *r.Instruction, *r.Output1, *r.Output2}); !seen[id] {
				seen[id] = true
				want = append(want, fmt.Sprintf("%q %q %q %q %d %d %v", r.Annotator, r.Generator1, r.Generator2, *r.Instruction, utf8.RuneCountInString(*r.Output1), utf8.RuneCountInString(*r.Output2), p))
			}
		}
		if whole && err != nil {
			t.Fatalf("a whole file is refused: %v", err)
		}
		if !whole {
			if err == nil && len(rows) > 0 {
				t.Fatal("a row without its texts passes")
			}
			return
		}
		var got []string
		for _, s := range sets {
			for _, c := range s.Rows {
				got = append(got, fmt.Sprintf("%q %q %q %q %d %d %v", s.Judge, s.Baseline, s.Model, c.Instruction, c.LenBaseline, c.LenModel, c.Preference))
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	})
}

// escapedKey finds keys that are written with escapes, which the scanner does
// not know.
var escapedKey = regexp.MustCompile(`"[^"]*\\[^"]*"\s*:`)

// foldsKeys tells whether encoding/json could take a key for another one, or
// one twice.
func foldsKeys(b []byte) bool {
	s := strings.ToLower(string(b))
	for _, key := range []string{"instruction", "output_1", "output_2", "generator_1", "generator_2", "annotator", "preference"} {
		if strings.Count(s, key) != strings.Count(string(b), `"`+key+`"`) || strings.Count(s, key) > strings.Count(s, "{") {
			return true
		}
	}
	return strings.ContainsAny(s, "ſK") || escapedKey.Match(b)
}

func BenchmarkReadAnnotations(b *testing.B) {
	var rows []Annotation
	for i := range 805 {
		p := 1 + float64(i)/805
		rows = append(rows, Annotation{Instruction: fmt.Sprint("instruction ", i), Output1: strings.Repeat("a line of text\n", 140), Output2: strings.Repeat("another “line”\n", 120), Generator1: "base", Generator2: "model", Annotator: "judge", Preference: &p,
			RawCompletion: json.RawMessage(`{"text":"m","logprobs":{"content":[{"top_logprobs":[{"token":"m","logprob":-0.1},{"token":"M","logprob":-2}]}]}}`)})
	}
	var buf bytes.Buffer
	if err := WriteAnnotations(&buf, rows); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(buf.Len()))
	for b.Loop() {
		if _, err := ReadAnnotations(bytes.NewReader(buf.Bytes()), "f"); err != nil {
			b.Fatal(err)
		}
	}
}
