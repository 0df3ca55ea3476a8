package judge

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"expo/lm/generate"
)

func TestParseRating(t *testing.T) {
	for _, tt := range []struct {
		reply string
		want  Rating
	}{
		{"Good. Rating: [[8]]", "8"},
		{"[[8.5]]", "8.5"},
		{"[[8.]]", "8.0"},
		{"[[9.50]]", "9.5"},
		{"[[10]] or [[3]]", "10"},
		{"[3], then [[4]]", "4"}, // double brackets first
		{"[3] and [4]", "3"},
		{"Rating: [[72]]", "72"},
		{"Rating: [[08]]", "8"},
		{"[[0]]", "0"},
		{"[[rating]]", Unrated},
		{"[[-3]]", Unrated},
		{"[[ 8 ]]", Unrated},
		{"[[8/10]]", Unrated},
		{"[[٨]]", Unrated}, // not ASCII
		{"8", Unrated},
		{"", Unrated},
		{"[[" + strings.Repeat("9", 400) + "]]", Unrated},
	} {
		if got := ParseRating(tt.reply); got != tt.want {
			t.Errorf("rating of %.40q is %s, want %s", tt.reply, got, tt.want)
		}
	}
}

func TestParseWinner(t *testing.T) {
	const two = "[[rating_a,rating_b]]"
	for _, tt := range []struct {
		reply, format string
		want          Winner
	}{
		{"so [[A]]", "[[A]]", WinnerA},
		{"so [[B]]", "[[A]]", WinnerB},
		{"so [[C]]", "[[A]]", Tie},
		{"not [[C]], but [[B]], or [[A]]", "[[A]]", WinnerA},
		{"[[C]] [[B]]", "[[A]]", WinnerB},
		{"[A]", "[[A]]", NoWinner},
		{"[[7,8]]", two, WinnerB},
		{"[[8.5, 8]]", two, WinnerA},
		{"[[8.1, 8]]", two, Tie},
		{"[8,8] and [[9,1]]", two, WinnerA},
		{"[8,7]", two, WinnerA},
		{"[[8]]", two, NoWinner},
	} {
		if got := ParseWinner(tt.reply, tt.format); got != tt.want {
			t.Errorf("verdict of %q is %s, want %s", tt.reply, got, tt.want)
		}
	}
}

func TestTemplates(t *testing.T) {
	const lines = `{"name": "a", "type": "single", "system_prompt": "S", "prompt_template": "[{x}] {{}} {y}{x}", "output_format": "[[rating]]"}

{"name": "b", "prompt_template": "{x"}
`
	m, err := ReadTemplates(strings.NewReader(lines))
	if err != nil || len(m) != 2 {
		t.Fatal(m, err)
	}
	got, err := m["a"].Messages(map[string]string{"x": "{y} 100%", "y": "}"})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Role != "system" || got[0].Content != "S" || got[1].Role != "user" || got[1].Content != "[{y} 100%] {} }{y} 100%" {
		t.Errorf("messages are %+v", got)
	}
	for name, tt := range map[string]Template{
		"no value":     {Name: "n", Prompt: "{z}"},
		"no end":       m["b"],
		"no begin":     {Name: "n", Prompt: "a } b"},
		"a conversion": {Name: "n", Prompt: "{x!r}"},
	} {
		if got, err := tt.Fill(map[string]string{"x": "1"}); err == nil {
			t.Errorf("%s: got %q, want an error", name, got)
		}
	}
	for _, bad := range []string{"{", `{"name":"a"}`, lines + lines} {
		if _, err := ReadTemplates(strings.NewReader(bad)); err == nil {
			t.Errorf("%.30q is accepted", bad)
		}
	}
}

type replies []string

func (r *replies) Generate(_ context.Context, q generate.Request) (generate.Response, error) {
	if len(*r) == 0 {
		return generate.Response{}, errors.New("asked too often")
	}
	text := (*r)[0]
	*r = (*r)[1:]
	return generate.Response{Text: fmt.Sprint(text, " ", q.Sample)}, nil
}

func TestAskUntil(t *testing.T) {
	for _, tt := range []struct {
		name    string
		replies []string
		known   []string // from before
		tries   int
		want    string
		n       int
		ok      bool
	}{
		{"at once", []string{"ok"}, nil, 2, "ok 0", 1, true},
		{"at the second", []string{"no", "ok"}, nil, 2, "ok 1", 2, true},
		{"never", []string{"no", "no"}, nil, 2, "no 1", 2, false},
		{"known", nil, []string{"no", "ok"}, 2, "ok", 2, true},
		{"half known", []string{"ok"}, []string{"no"}, 2, "ok 1", 2, true},
		{"one try at least", []string{"no"}, nil, 0, "no 0", 1, false},
	} {
		g := replies(tt.replies)
		var recorded []string
		got, err := AskUntil(context.Background(), &g, generate.Request{}, tt.tries,
			func(s string) bool { return strings.HasPrefix(s, "ok") },
			func(try int) (generate.Response, bool, error) {
				if try < len(tt.known) {
					return generate.Response{Text: tt.known[try]}, true, nil
				}
				return generate.Response{}, false, nil
			},
			func(try int, resp generate.Response) error {
				recorded = append(recorded, resp.Text)
				return nil
			})
		if err != nil {
			t.Fatal(tt.name, err)
		}
		if got.Text != tt.want || got.Tries != tt.n || got.OK != tt.ok || len(recorded) != len(tt.replies) {
			t.Errorf("%s: got %+v and %d recorded, want %q after %d, %v", tt.name, got, len(recorded), tt.want, tt.n, tt.ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[[8.5]] [[A]]")
	f.Add("[3, 4]")
	f.Fuzz(func(t *testing.T, s string) {
		r := ParseRating(s)
		if x, err := r.Float64(); err != nil || x < 0 && r != Unrated {
			t.Errorf("rating of %q is %q", s, r)
		}
		ParseWinner(s, "[[A]]")
		ParseWinner(s, "[[rating_a,rating_b]]")
		tm := Template{Prompt: s}
		if out, err := tm.Fill(nil); err == nil && !strings.ContainsAny(s, "{}") && out != s {
			t.Errorf("%q became %q", s, out)
		}
	})
}
