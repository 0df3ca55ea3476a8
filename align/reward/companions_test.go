package reward

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"expo/lm/generate"
)

func TestMeasure(t *testing.T) {
	for _, c := range []struct {
		name string
		r    generate.Response
		want string
	}{
		{"empty", generate.Response{FinishReason: generate.Stop, Tokens: []int{2}},
			`{"characters":0,"words":0,"tokens":0,"distinct_1":1,"distinct_2":1,"repetition":0,"looping":false,"finished":true}`},
		{"prose", generate.Response{Text: "Größe: a cat, a dog", FinishReason: generate.Stop, Tokens: []int{5, 6, 7, 2}},
			`{"characters":19,"words":5,"tokens":3,"distinct_1":0.8,"distinct_2":1,"repetition":0,"looping":false,"finished":true}`},
		{"cut off", generate.Response{Text: "one two", FinishReason: generate.Length, Tokens: []int{5, 6}},
			`{"characters":7,"words":2,"tokens":2,"distinct_1":1,"distinct_2":1,"repetition":0,"looping":false,"finished":false}`},
		{"counted by a server", generate.Response{Text: "one two", FinishReason: generate.Stop, Usage: generate.Usage{CompletionTokens: 9}},
			`{"characters":7,"words":2,"tokens":9,"distinct_1":1,"distinct_2":1,"repetition":0,"looping":false,"finished":true}`},
		{"loop", generate.Response{Text: strings.Repeat("He was happy. ", 10), FinishReason: generate.Length},
			`{"characters":140,"words":30,"tokens":0,"distinct_1":0.1,"distinct_2":0.10344827586206896,"repetition":0.8888888888888888,"looping":true,"finished":false}`},
	} {
		b, err := json.Marshal(Measure(c.r))
		if err != nil || string(b) != c.want {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", c.name, b, err, c.want)
		}
	}
}

func TestSummarize(t *testing.T) {
	s := Summarize([]Companions{
		{Characters: 10, Words: 2, Tokens: 3, Distinct1: 1, Distinct2: 1, Finished: true},
		{Characters: 20, Words: 4, Tokens: 6, Distinct1: 0.5, Distinct2: 0, Repetition: 0.5, Looping: true, Finished: true},
	})
	want := Summary{N: 2, Characters: 15, Words: 3, Tokens: 4.5, Distinct1: 0.75, Distinct2: 0.5, Repetition: 0.25, Looping: 0.5, Finished: 1}
	if s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	if s := Summarize(nil); s != (Summary{}) {
		t.Errorf("of nothing: got %+v", s)
	}
}

func TestDistinct(t *testing.T) {
	words := strings.Fields
	for _, c := range []struct {
		n     int
		texts [][]string
		want  float64
	}{
		{1, nil, 1},
		{2, [][]string{words("a")}, 1},
		{1, [][]string{words("a b a b")}, 0.5},
		{2, [][]string{words("a b a b")}, 2.0 / 3},
		{2, [][]string{words("a b"), words("a b"), words("b a"), nil}, 2.0 / 3},
		{3, [][]string{words("a b c a b c a")}, 3.0 / 5},
		{2, [][]string{{"ab", "c"}, {"a", "bc"}}, 1}, // groups are of words, not of their letters
	} {
		if got := Distinct(c.n, c.texts...); got != c.want {
			t.Errorf("distinct-%d of %q: got %v, want %v", c.n, c.texts, got, c.want)
		}
	}
	if got := Repetition(words("a b c d e a b c d")); math.Abs(got-1.0/6) > 1e-15 {
		t.Errorf("repetition: got %v, want %v", got, 1.0/6)
	}
}

func TestFindLoop(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Loop
		ok         bool
	}{
		{"nothing", "", Loop{}, false},
		{"short", "no no no no no", Loop{}, false},
		{"prose", strings.Repeat("abcdefghij klmnop qrstu. ", 3), Loop{}, false},
		{"sentences", "Once. " + strings.Repeat("He ran away. ", 9), Loop{" He ran away.", 9, 118}, true},
		{"cut off", strings.Repeat("He ran away. ", 9) + "He ra", Loop{"n away. He ra", 9, 122}, true},
		{"letter", strings.Repeat("é", 90), Loop{"é", 90, 90}, true},
		{"lines", "a\n" + strings.Repeat("the same line\n", 20), Loop{"\nthe same line", 20, 280}, true},
		{"before the end", strings.Repeat("He ran away. ", 20) + "The end.", Loop{}, false},
		{"three long ones", strings.Repeat("A whole sentence that is quite long and comes three times. ", 3), Loop{}, false},
		{"a rule", "done\n" + strings.Repeat("-", 70), Loop{}, false},
	} {
		got, ok := FindLoop(c.text)
		if ok != c.ok || got != c.want {
			t.Errorf("%s: got %+v %v, want %+v %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

// FuzzFindLoop checks a loop against what it claims.
func FuzzFindLoop(f *testing.F) {
	f.Add(strings.Repeat("ab", 60))
	f.Add(strings.Repeat("xyz ", 40) + "x")
	f.Add("\xff\xfe")
	f.Fuzz(func(t *testing.T, text string) {
		l, ok := FindLoop(text)
		if !ok {
			return
		}
		unit := []rune(l.Unit)
		if len(unit) == 0 || l.Times < loopTimes || l.Length < loopLength || l.Length/len(unit) != l.Times {
			t.Fatalf("%+v", l)
		}
		if s := string([]rune(strings.TrimRight(text, " \n"))); !strings.HasSuffix(s, strings.Repeat(l.Unit, l.Times)) {
			t.Fatalf("the text does not end with %d times %q", l.Times, l.Unit)
		}
	})
}
