package alpacaeval

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

func TestReadOutputs(t *testing.T) {
	want := []Output{{Instruction: "Why?", Output: "é \"so\"\n", Generator: "m", Dataset: "koala"}, {Instruction: "How?", Output: "", Generator: "m"}}
	var written bytes.Buffer
	if err := WriteOutputs(&written, want); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a.json":       written.String(),
		"pandas.json":  `[{"dataset":"koala","instruction":"Why?","output":"\u00e9 \"so\"\n","generator":"m"},{"instruction":"How?","output":"","generator":"m"}]`,
		"a.jsonl":      `{"instruction":"Why?","output":"é \"so\"\n","generator":"m","dataset":"koala"}` + "\n\n" + `{"instruction":"How?","output":"","generator":"m","other":1}` + "\n",
		"bom.json":     "\ufeff\n " + written.String(),
		"a.csv":        "dataset,instruction,output,generator\nkoala,Why?,\"é \"\"so\"\"\n\",m\n,How?,,m\n",
		"a.tsv":        "instruction\toutput\tgenerator\tdataset\nWhy?\t\"é \"\"so\"\"\n\"\tm\tkoala\nHow?\t\tm\t\n",
		"packed.json":  pack(written.String()),
		"named.csv.gz": pack("instruction,output,generator,dataset\nWhy?,\"é \"\"so\"\"\n\",m,koala\nHow?,,m,\n"),
	} {
		got, err := ReadOutputs(strings.NewReader(text), name)
		if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("%s: %+v (%v)", name, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                            "no rows",
		"[]":                          "no rows",
		"[{\"output\":\"x\"}]":        "row 0 has no instruction",
		"[{\"instruction\":1}]":       "row 0",
		"[{\"instruction\":\"a\"}":    "EOF",
		"[{\"instruction\":\"a\"}] x": "follows",
		"nonsense":                    "row 0",
	} {
		if _, err := ReadOutputs(strings.NewReader(text), "f.json"); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "f.json") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	// 1 + 8 code points in 2 outputs
	if got := AverageLength([]Output{{Output: "é"}, {Output: "12345678"}}); got != 4 {
		t.Errorf("average length %d, want 4", got)
	}
}

func pack(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(s))
	z.Close()
	return b.String()
}

func TestAnnotations(t *testing.T) {
	p, price, yes := 1.2345678901234567, 0.01, true
	rows := []Annotation{
		{Instruction: "a <b>", Output1: "xyz", Generator1: "base", Output2: "é", Generator2: "m", Annotator: "j", Preference: &p, Price: &price, IsSwitched: &yes, RawCompletion: json.RawMessage(`{"text":"m"}`)},
		{Instruction: "c", Output1: "x", Generator1: "base", Output2: "y", Generator2: "m", Annotator: "j"},
	}
	var b bytes.Buffer
	if err := WriteAnnotations(&b, rows); err != nil {
		t.Fatal(err)
	}
	back, err := ReadAnnotationRows(bytes.NewReader(b.Bytes()), "f")
	if err != nil || len(back) != 2 || *back[0].Preference != p || *back[0].Price != price || !*back[0].IsSwitched || back[1].Preference != nil || back[0].Instruction != "a <b>" {
		t.Errorf("%+v (%v)", back, err)
	}
	var compact bytes.Buffer
	if json.Compact(&compact, back[0].RawCompletion); compact.String() != `{"text":"m"}` {
		t.Errorf("raw completion %s", back[0].RawCompletion)
	}
	sets, err := ReadAnnotations(bytes.NewReader(b.Bytes()), "f")
	if err != nil || len(sets) != 1 {
		t.Fatal(sets, err)
	}
	s := sets[0]
	if s.Model != "m" || s.Baseline != "base" || s.Judge != "j" || s.Source != "f" || len(s.Rows) != 2 ||
		s.Rows[0].Preference != p || s.Rows[0].LenBaseline != 3 || s.Rows[0].LenModel != 1 || s.Rows[0].Index != -1 || !math.IsNaN(s.Rows[1].Preference) {
		t.Errorf("%+v", s)
	}
	if again := JudgedOf(rows, "f", "j", "base", "m"); fmt.Sprint(again) != fmt.Sprint(s) {
		t.Errorf("%+v, read %+v", again, s)
	}

	// Older files: other names, several models, a row that is there twice.
	old := `[{"instruction":"a","output_1":"1","generator_1":"b","output_2":"2","generator_2":"m","annotator":"j","preference":0,"raw_completion":"[]","price_per_example":0.5,"time_per_example":2,"date":"d"},
	{"instruction":"a","output_1":"1","generator_1":"b","output_2":"3","generator_2":"n","annotator":"j","preference":-1},
	{"instruction":"a","output_1":"1","generator_1":"b","output_2":"2","generator_2":"m","annotator":"j","preference":2},
	{"instruction":"a","output_1":"1","generator_1":"b","output_2":"4","generator_2":"m","annotator":"j","preference":2}]`
	sets, err = ReadAnnotations(strings.NewReader(old), "old")
	if err != nil || len(sets) != 2 || sets[0].Model != "m" || len(sets[0].Rows) != 2 || sets[0].Rows[0].Preference != 0 || sets[1].Rows[0].Preference != -1 {
		t.Errorf("%+v (%v)", sets, err)
	}
	older, err := ReadAnnotationRows(strings.NewReader(old), "old")
	if err != nil || string(older[0].RawCompletion) != `"[]"` || *older[0].Price != 0.5 || *older[0].Seconds != 2 || older[0].Date != "d" {
		t.Errorf("%+v (%v)", older[0], err)
	}
	for _, bad := range []string{"", "[]", "[{}]", `[{"instruction":"a"}]`, `[{"instruction":"a","output_1":"","output_2":"","preference":"x"}]`, `{"models":[]}`} {
		if _, err := ReadAnnotations(strings.NewReader(bad), "f"); err == nil || !strings.HasPrefix(err.Error(), "alpacaeval: f: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestReadNumbers(t *testing.T) {
	const head = "source,annotator,model,row,instr,preference,len_base,len_model,switched\n"
	sets, err := ReadNumbers(strings.NewReader(head + "s,j,m,0,3,1.25,10,20,1\ns,j,m,1,4,,11,21,0\ns,j,n,0,3,0,10,5,1\n"))
	if err != nil || len(sets) != 2 || sets[0].Model != "m" || len(sets[0].Rows) != 2 || sets[0].Rows[0] != (Comparison{Index: 3, Preference: 1.25, LenBaseline: 10, LenModel: 20}) || !math.IsNaN(sets[0].Rows[1].Preference) {
		t.Errorf("%+v (%v)", sets, err)
	}
	if sets[0].AverageLength() != 20 || sets[1].AverageLength() != 5 {
		t.Errorf("average lengths %d, %d", sets[0].AverageLength(), sets[1].AverageLength())
	}
	for bad, want := range map[string]string{
		"model,instr\n":                 "no column source, annotator, preference, len_base, len_model",
		head + "s,j,m,0,x,1,1,1,0\n":    "line 2",
		head + "s,j,m,0,0,1,-1,1,0\n":   "line 2",
		head + "s,j,m,0,0,high,1,1,0\n": `"high"`,
		head + "s,j,m,0,0,1,1,1,0\ns,j,n,0,0,1,1,1,0\ns,j,m,1,1,1,1,1,0\n": "not together",
		head + "s,j\n": "wrong number of fields",
		"":             "EOF",
	} {
		if _, err := ReadNumbers(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", bad, err, want)
		}
	}
}

func TestReference(t *testing.T) {
	ref, err := ReadDifficulty(strings.NewReader("instr,sha256_16,instruction_difficulty\n0," + digest("a") + ",0\n1," + digest("b") + ",-1.5\n"))
	if err != nil || !ref.Knows() || len(ref.Difficulty) != 2 || ref.Difficulty[1] != -1.5 {
		t.Fatal(ref, err)
	}
	if i, err := ref.Index("b"); err != nil || i != 1 {
		t.Errorf("b is %d (%v)", i, err)
	}
	if _, err := ref.Index("c"); !errors.Is(err, ErrUnknown) {
		t.Errorf("c: %v", err)
	}
	if err := ref.Know([]string{"a", "b"}); err != nil {
		t.Error(err)
	}
	for _, list := range [][]string{{"b", "a"}, {"a"}, {"a", "a"}, {"a", "c"}} {
		if err := ref.Know(list); err == nil {
			t.Errorf("%q pass for the instructions", list)
		}
	}
	plain, err := ReadDifficulty(strings.NewReader(",difficulty\n0,0\n1,2\n"))
	if err != nil || plain.Knows() || plain.Difficulty[1] != 2 {
		t.Fatal(plain, err)
	}
	if _, err := plain.Index("a"); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a set that knows nothing: %v", err)
	}
	if err := plain.KnowAs(ref); err != nil || !plain.Knows() {
		t.Error(err)
	}
	if err := plain.KnowAs(&Reference{}); err == nil {
		t.Error("another set passes")
	}
	for _, bad := range []string{"", "a,b,c\n", "instr,instruction_difficulty\n", "instr,instruction_difficulty\n1,0\n", "instr,instruction_difficulty\n0,NaN\n", "instr,instruction_difficulty\n0,x\n",
		"instr,sha256_16,instruction_difficulty\n0,abc,0\n", "instr,instruction_difficulty\n0,1,2\n"} {
		if _, err := ReadDifficulty(strings.NewReader(bad)); err == nil {
			t.Errorf("%q passes for difficulties", bad)
		}
	}
}

func TestPlace(t *testing.T) {
	ref := new(Reference)
	if err := ref.Know([]string{"a", "b", "c", "d"}); err != nil {
		t.Fatal(err)
	}
	set := func(instructions ...string) *Judged {
		j := &Judged{Model: "m"}
		for _, s := range instructions {
			j.Rows = append(j.Rows, Comparison{Instruction: s, Index: -1, Preference: 2})
		}
		return j
	}
	j := set("d", "a", "c")
	if err := j.Place(ByInstruction, ref); err != nil || j.Rows[0].Index != 3 || j.Rows[2].Index != 2 {
		t.Errorf("%+v (%v)", j.Rows, err)
	}
	if got := j.Missing(ref); len(got) != 1 || got[0] != 1 {
		t.Errorf("missing %v, want [1]", got)
	}
	if err := j.Place(ByPosition, ref); err != nil || j.Rows[0].Index != 0 || j.Rows[2].Index != 2 {
		t.Errorf("by position %+v (%v)", j.Rows, err)
	}
	err := set("a", "x", "y").Place(ByInstruction, ref)
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `row 1 ("x"), row 2 ("y")`) {
		t.Errorf("unknown ones: %v", err)
	}
	if err := set("a", "b", "a").Place(ByInstruction, ref); err == nil || !strings.Contains(err.Error(), "rows 0 and 2") {
		t.Errorf("the same twice: %v", err)
	}
	if err := set("a", "b", "c", "d", "e").Place(ByPosition, ref); err == nil {
		t.Error("more rows than difficulties pass")
	}
	if err := (&Judged{Rows: []Comparison{{Index: 9}}}).Place(ByInstruction, ref); !errors.Is(err, ErrUnknown) {
		t.Errorf("a place outside: %v", err)
	}

	a, b := set("a", "b", "c"), set("c", "b", "d")
	for _, s := range []*Judged{a, b} {
		if err := s.Place(ByInstruction, ref); err != nil {
			t.Fatal(err)
		}
	}
	a.Rows[1].Preference, a.Rows[2].Preference = 1.5, 1.25
	b.Rows[0].Preference, b.Rows[1].Preference = 1, math.NaN()
	if mean, _, n := PairedDifference(a, b); n != 1 || mean != 25 {
		t.Errorf("difference %v over %d, want 25 over 1", mean, n)
	}
	b.Rows[1].Preference = 1.75
	if mean, se, n := PairedDifference(a, b); n != 2 || mean != 0 || math.Abs(se-25) > 1e-12 {
		t.Errorf("difference %v ± %v over %d, want 0 ± 25 over 2", mean, se, n)
	}
}

// gamedFile makes a file of gamed rows with the sums that are checked.
func gamedFile() string {
	ts, ds := make([]float64, gamedRows), make([]float64, gamedRows)
	ys := make([]float64, gamedRows)
	sumT, sumD := 0.0, 0.0
	for i := range ys {
		ts[i], ds[i], ys[i] = 0.5, 1.5, 0.3
		if i%2 == 1 {
			ts[i] = -0.9
		}
		if i%3 == 0 {
			ds[i] = -1
		}
		sumT += ts[i] * ys[i]
		sumD += ds[i] * ys[i]
	}
	// Move labels along the two columns until both sums are right.
	var tt, td, dd float64
	for i := range ys {
		tt, td, dd = tt+ts[i]*ts[i], td+ts[i]*ds[i], dd+ds[i]*ds[i]
	}
	det := tt*dd - td*td
	a := ((gamedTanh-sumT)*dd - (gamedDifficulty-sumD)*td) / det
	b := ((gamedDifficulty-sumD)*tt - (gamedTanh-sumT)*td) / det
	var s strings.Builder
	s.WriteString("model,index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline\n")
	for i := range ys {
		fmt.Fprintf(&s, "m,%d,%.17g,%.17g,%.17g,False\n", i%(gamedRows/2), ys[i]+a*ts[i]+b*ds[i], math.Atanh(ts[i]), ds[i])
	}
	return s.String()
}

func TestReadGamed(t *testing.T) {
	text := gamedFile()
	g, err := ReadGamed(strings.NewReader(text))
	if err != nil || g.Surrogate || len(g.Tanh) != gamedRows || math.Abs(g.Tanh[0]-0.5) > 1e-15 || len(g.Reference().Difficulty) != gamedRows/2 {
		t.Fatal(err)
	}
	surrogate := strings.Replace(text, "index,preference,", "index,preference_surrogate,", 1)
	if g, err := ReadGamed(strings.NewReader(surrogate)); err != nil || !g.Surrogate {
		t.Errorf("surrogate labels: %v", err)
	}
	lines := strings.SplitAfter(text, "\n")
	for name, bad := range map[string]string{
		"a row less":     strings.Join(lines[:gamedRows], ""),
		"a row twice":    strings.Join(lines[:gamedRows], "") + lines[3],
		"another column": strings.Replace(text, "preference", "label", 1),
		"no numbers":     lines[0] + "m,0,x,0,0,False\n",
		"above 1":        lines[0] + "m,0,1.5,0,0,False\n",
		"nothing":        "",
	} {
		if _, err := ReadGamed(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "gamed rows") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLeaderboard(t *testing.T) {
	rows := []Row{
		{Model: "a, b", WinRate: NewWinRate([]float64{1.2, 1.9, 1.5}), Mode: "community", AverageLength: 12, LC: 31.5, LCError: 0.25},
		{Model: "c", WinRate: NewWinRate([]float64{2, 1}), AverageLength: 1, LC: math.NaN(), LCError: math.NaN()},
	}
	var b bytes.Buffer
	if err := WriteLeaderboard(&b, rows); err != nil {
		t.Fatal(err)
	}
	if want := ",win_rate,standard_error,n_wins,n_wins_base,n_draws,n_total,discrete_win_rate,mode,avg_length,length_controlled_winrate,lc_standard_error\n"; !strings.HasPrefix(b.String(), want) {
		t.Errorf("columns %.200s", b.String())
	}
	back, err := ReadLeaderboard(&b)
	if err != nil || len(back) != 2 || back[0] != rows[0] || back[1].Model != "c" || back[1].Wins != 1 || !math.IsNaN(back[1].LC) {
		t.Errorf("%+v (%v), want %+v", back, err, rows)
	}
	older, err := ReadLeaderboard(strings.NewReader("model,win_rate,n_total\nx,12.5,805\n"))
	if err != nil || older[0].WinRate.WinRate != 12.5 || older[0].Total != 805 || older[0].Wins != -1 || older[0].AverageLength != -1 || !math.IsNaN(older[0].LCError) {
		t.Errorf("%+v (%v)", older, err)
	}
	for _, bad := range []string{"", "a,b\n", "model,win_rate\nx,high\n"} {
		if _, err := ReadLeaderboard(strings.NewReader(bad)); err == nil {
			t.Errorf("%q passes for a leaderboard", bad)
		}
	}
}

func TestWeightsFile(t *testing.T) {
	rows := []Fitted{{"a", Weights{-1.0518971527519405, 0.25, 1.9}}, {"b", Weights{0, 0, 0}}}
	var b bytes.Buffer
	if err := WriteWeights(&b, rows); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "a,-1.0518971527519405,0.2500000000000000,1.8999999999999999\n") {
		t.Errorf("written %s", b.String())
	}
	back, err := ReadWeights(&b)
	if err != nil || len(back) != 2 || back[0] != rows[0] || back[1] != rows[1] {
		t.Errorf("%+v (%v)", back, err)
	}
	table, err := ReadWeights(strings.NewReader("model,w_tanh,w_difficulty,w_intercept\na,1,2,3\nb,,,\n"))
	if err != nil || len(table) != 1 || table[0].Weights != (Weights{1, 2, 3}) {
		t.Errorf("%+v (%v)", table, err)
	}
	for _, bad := range []string{"", "model,w_tanh\n", "model,w_tanh,w_difficulty,w_intercept\na,x,2,3\n"} {
		if _, err := ReadWeights(strings.NewReader(bad)); err == nil {
			t.Errorf("%q passes for weights", bad)
		}
	}
}

// FuzzReaders: whatever the bytes, readers give an error or something that
// can be computed with.
func FuzzReaders(f *testing.F) {
	for _, s := range []string{"", "[", "[{}]", `[{"instruction":"a","output_1":"b","output_2":"c","preference":1.5}]`, "{\"instruction\":\"a\"}\n",
		"source,annotator,model,instr,preference,len_base,len_model\ns,j,m,0,1.5,1,2\n", "instr,instruction_difficulty\n0,1\n",
		",win_rate\na,1\n", "model,w_tanh,w_difficulty,w_intercept\na,1,2,3\n", "tanh_std_delta_len,instruction_difficulty,preference\n1,1,1\n", "\x1f\x8b", "\ufeff[", "\"", "a\tb\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		read := func() *bytes.Reader { return bytes.NewReader(b) }
		for _, name := range []string{"a.json", "a.csv", "a.tsv"} {
			if rows, err := ReadOutputs(read(), name); err == nil && len(rows) == 0 {
				t.Error("no rows and no error")
			}
		}
		sets, _ := ReadAnnotations(read(), "f")
		more, _ := ReadNumbers(read())
		for _, s := range append(sets, more...) {
			NewWinRate(s.Preferences())
			LengthControlled(s, nil, LCOptions{GLM: Minimal, C: 1})
		}
		ReadAnnotationRows(read(), "f")
		ReadGamed(read())
		ReadDifficulty(read())
		ReadLeaderboard(read())
		ReadWeights(read())
	})
}
