package report

import (
	"bytes"
	"strings"
	"testing"
)

// A plain series is a line without marks.
func TestPlainSeries(t *testing.T) {
	draw := func(plain bool) string {
		c := Chart{Series: []Series{{Name: "f", Line: true, Plain: plain, Points: []Point{{X: 0, Y: 0}, {X: 1, Y: 1}}}, {Name: "g", Points: []Point{{X: 0, Y: 1}}}}}
		var b bytes.Buffer
		if err := c.Figure(400, 300).WriteSVG(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	// Both points and the one in the legend.
	if marked, plain := strings.Count(draw(false), "<circle"), strings.Count(draw(true), "<circle"); marked-plain != 3 {
		t.Errorf("%d circles with marks, %d without, want 3 fewer", marked, plain)
	}
	if marked, plain := strings.Count(draw(false), "<polyline")+strings.Count(draw(false), "<path"), strings.Count(draw(true), "<polyline")+strings.Count(draw(true), "<path"); marked != plain {
		t.Errorf("%d lines with marks, %d without", marked, plain)
	}
}

func TestLaTeXMarks(t *testing.T) {
	if got, want := latex("1.0 [–]† 2‡ 3§1"), `1.0 [--]\dag{} 2\ddag{} 3\S{}1`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
