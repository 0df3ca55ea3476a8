package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sampleChart() *Chart {
	var p, q []Point
	for i, y := range []float64{0.56, 2.10, 2.45, 2.65, 2.76, 2.3, 0.4} {
		x := []float64{-1, 0, 0.5, 1, 2, 3, 5}[i]
		p = append(p, Point{X: x, Y: y, YErr: 0.08, Strong: x == 1, Hollow: x == 5, Label: "α " + minus(num(x)), Tip: "a <tip> & more"})
		q = append(q, Point{X: x, Y: y - 0.1*x})
	}
	p = append(p, Point{X: math.NaN(), Y: 1}, Point{X: 1, Y: math.Inf(1)})
	return &Chart{
		Title: "Reward against α", XLabel: "α", YLabel: "reward",
		Series: []Series{{Name: "reward", Points: p, Line: true}, {Name: "length taken out", Points: q, Line: true, Color: 1}},
		Rules:  []Rule{{Vertical: true, At: 0, Label: "aligned"}, {At: 2.1, Label: "aligned"}},
		Band:   [2]float64{1, 2}, BandLabel: "95 % interval of the best α",
	}
}

func sampleBars(long bool) *Bars {
	names := []string{"SFT", "aligned", "ExPO"}
	if long {
		names = []string{"a model with quite a long name", "Mistral7B-PairRM-SPPO", "Mistral7B-PairRM-SPPO-ExPO"}
	}
	return &Bars{Title: "Win rate", YLabel: "%", Categories: names, Series: []BarSeries{
		{Name: "win rate", Values: []float64{4.7, 32.2, 35.4}, Errs: []float64{1, 1.5, 1.6}},
		{Name: "length-controlled", Values: []float64{8.7, 30.5, math.NaN()}, Color: 1},
	}}
}

func sampleRadar() *Radar {
	return &Radar{Title: "MT-Bench", Max: 10, Axes: []string{"Writing", "Roleplay", "Reasoning", "Math", "Coding", "Extraction", "STEM", "Humanities"}, Series: []BarSeries{
		{Name: "aligned", Values: []float64{9, 8.2, 5, 3.4, 4.1, 7.5, 9, 9.6}},
		{Name: "+ ExPO", Values: []float64{9.3, 8.6, 5.4, 3.2, 4.5, 7.4, 9.3, math.NaN()}, Color: 1},
	}}
}

func sampleTable() *Table {
	return &Table{
		Title:   "Search",
		Columns: []Column{{Name: "model", Text: true}, {Name: "α", Key: "alpha", Format: "%g"}, {Name: "reward", Format: "%.2f"}, {Name: "n"}},
		Rows: [][]any{
			{"SFT | base", -1.0, Value{0.562, 0.031}, 400},
			{"ExPO\x1b[31m_x_", 1.0, Value{2.65, math.NaN()}, nil},
			{"broken", math.NaN(), math.Inf(1), true},
		},
		Strong: []int{1},
		Notes:  []string{"a note"},
	}
}

func samplePage() *Page {
	return &Page{
		Title: "α search", Lead: []string{"A <script>alert(1)</script> lead."},
		Facts: []Fact{{"best α", "1", "of 7"}, {"gain", "+0.55 ± 0.03", "over the aligned model"}},
		Sections: []Section{
			{Heading: "Reward", Text: []string{"Some text."}, Plots: []Plot{sampleChart(), sampleBars(false), sampleBars(true), sampleRadar()}, Tables: []*Table{sampleTable()}},
			{Heading: "Answers", Cards: [][]Card{{{"SFT", "reward 1", "Once\nupon </div> a time"}, {"ExPO", "reward 2", "There was"}}}},
		},
		Footer: "made by expo",
	}
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	if err := sampleTable().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `Search
model          α       reward    n
SFT | base    −1  0.56 ± 0.03  400
ExPO�[31m_x_   1         2.65    –  *
broken         –         +Inf  yes
a note
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestMarkdownAndLaTeX(t *testing.T) {
	var b bytes.Buffer
	if err := sampleTable().WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| --- | ---: | ---: | ---: |", `| SFT \| base | −1 | 0.56 ± 0.03 | 400 |`, `**ExPO�\[31m\_x\_**`, "\na note\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("Markdown lacks %q:\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := sampleTable().WriteLaTeX(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`\begin{tabular}{lrrr}`, `$\alpha$`, `SFT | base & $-$1 & 0.56 $\pm$ 0.03 & 400 \\`, `\_x\_`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("LaTeX lacks %q:\n%s", want, b.String())
		}
	}
}

func TestJSON(t *testing.T) {
	b, err := json.Marshal(sampleTable())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"model":"SFT | base","alpha":-1,"reward":0.562,"reward_se":0.031,"n":400}`
	if !strings.Contains(string(b), want) {
		t.Errorf("JSON lacks %s:\n%s", want, b)
	}
	if !strings.Contains(string(b), `"alpha":null,"reward":null,"n":true`) {
		t.Errorf("what is not finite is not null:\n%s", b)
	}
}

func TestSVG(t *testing.T) {
	for name, p := range map[string]Plot{"chart": sampleChart(), "bars": sampleBars(false), "lying": sampleBars(true), "radar": sampleRadar(), "empty": &Chart{}, "no bars": &Bars{}, "no axes": &Radar{}} {
		var b bytes.Buffer
		if err := p.Figure(360, 300).WriteSVG(&b); err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(bytes.NewReader(b.Bytes())); ; {
			_, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, b.String())
			}
		}
		for _, bad := range []string{"NaN", "Inf", "var(", "<tip>"} {
			if strings.Contains(b.String(), bad) {
				t.Errorf("%s: has %q", name, bad)
			}
		}
	}
}

func TestPNG(t *testing.T) {
	var b bytes.Buffer
	if err := sampleChart().Figure(360, 300).WritePNG(&b, 2); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	if got := img.Bounds().Size(); got.X != 720 || got.Y != 600 {
		t.Errorf("the image is %v, want 720 × 600", got)
	}
	// The line of the first series, in its colour, is there.
	want, n := light["s0"], 0
	for y := range 600 {
		for x := range 720 {
			r, g, bl, _ := img.At(x, y).RGBA()
			if uint8(r>>8) == want[0] && uint8(g>>8) == want[1] && uint8(bl>>8) == want[2] {
				n++
			}
		}
	}
	if n < 1000 {
		t.Errorf("%d pixels have the colour of the first series, want a line of them", n)
	}
	if err := sampleChart().Figure(0, 0).WritePNG(io.Discard, 1); err == nil {
		t.Error("an image without pixels is no error")
	}
}

func TestPage(t *testing.T) {
	var b bytes.Buffer
	if err := samplePage().WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	s := b.String()
	for _, bad := range []string{"<script", "http://localhost", "src=", "href=", "ZgotmplZ"} {
		if strings.Contains(s, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, want := range []string{"prefers-color-scheme:dark", "width=device-width", "--s0:#1f5fbf", "Once\nupon &lt;/div&gt; a time", `<tr class="strong">`, "var(--s1)"} {
		if !strings.Contains(s, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n, want := strings.Count(s, "<svg"), 8; n != want {
		t.Errorf("the page has %d drawings, want %d", n, want)
	}
	if dir := os.Getenv("EXPO_REPORT_DIR"); dir != "" { // to be looked at
		if err := os.WriteFile(filepath.Join(dir, "page.html"), b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		for name, p := range map[string]Plot{"chart": sampleChart(), "bars": sampleBars(false), "lying": sampleBars(true), "radar": sampleRadar()} {
			var b bytes.Buffer
			if err := p.Figure(wideWidth, wideHeight).WritePNG(&b, 2); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name+".png"), b.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestTerminal(t *testing.T) {
	c := &Chart{XLabel: "α", Series: []Series{{Points: []Point{{X: -1, Y: 0}, {X: 0, Y: 2, YErr: 0.5}, {X: 1, Y: 4, Strong: true}, {X: 2, Y: 1, Hollow: true}}}}}
	var b bytes.Buffer
	if err := c.WriteText(&b, 40, 9); err != nil {
		t.Fatal(err)
	}
	want := "4 ┤                      ◆\n"
	if !strings.HasPrefix(b.String(), want) {
		t.Errorf("got\n%s\nwant it to begin with\n%s", b.String(), want)
	}
	for _, s := range []string{"◆", "○", "●", "│", "┬", "α"} {
		if !strings.Contains(b.String(), s) {
			t.Errorf("the chart lacks %s:\n%s", s, b.String())
		}
	}
	for line := range strings.Lines(b.String()) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 46 {
			t.Errorf("a line of %d characters in a chart of 40", n)
		}
	}
	if err := (&Chart{}).WriteText(io.Discard, 10, 2); err != nil {
		t.Error(err)
	}
}

func TestScale(t *testing.T) {
	for _, tt := range []struct {
		lo, hi float64
		n      int
		want   string
	}{
		{0, 10, 5, "0 2 4 6 8 10"},
		{-1, 5, 6, "−1 0 1 2 3 4 5"},
		{0.1, 0.5, 4, "0.1 0.2 0.3 0.4 0.5"},
		{3, 3, 4, "2.5 3.0 3.5"},
		{0, 1234567, 3, "0 500000 1e+06 1.5e+06"},
		{math.Inf(1), math.Inf(-1), 2, "0.0 0.5 1.0"},
	} {
		s := newScale(tt.lo, tt.hi, tt.n, false)
		if got := strings.Join(s.labels(), " "); got != tt.want {
			t.Errorf("%v to %v: got %s, want %s", tt.lo, tt.hi, got, tt.want)
		}
	}
}
