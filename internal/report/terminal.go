package report

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// WriteText draws the chart in characters, for a terminal of some width: points
// ●, chosen ones ◆, hollow ones ○, error bars │. Series without points that can
// be shown are left out, and lines are not drawn.
func (c *Chart) WriteText(w io.Writer, width, height int) error {
	width, height = max(width, 30), max(height, 6)
	x0, x1, y0, y1 := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, s := range c.Series {
		for _, p := range s.Points {
			if finite(p.X) && finite(p.Y) {
				x0, x1 = min(x0, p.X), max(x1, p.X)
				y0, y1 = min(y0, p.Y-spread(p.YErr)), max(y1, p.Y+spread(p.YErr))
			}
		}
	}
	y := newScale(y0, y1, height/3, false)
	labels := y.labels()
	left := 0
	for _, l := range labels {
		left = max(left, utf8.RuneCountInString(l))
	}
	cols := width - left - 4
	x := newScale(x0, x1, cols/9, true)
	x.from, x.to = 0, float64(cols-1)
	y.from, y.to = float64(height-1), 0
	cells := make([][]rune, height)
	for i := range cells {
		cells[i] = []rune(strings.Repeat(" ", cols))
	}
	at := func(s *scale, v float64, n int) int { return min(max(int(math.Round(s.at(v))), 0), n-1) }
	for _, s := range c.Series {
		for _, p := range s.Points {
			if e := spread(p.YErr); e > 0 && finite(p.X) && finite(p.Y) {
				col := at(&x, p.X, cols)
				for r := at(&y, p.Y+e, height); r <= at(&y, p.Y-e, height); r++ {
					cells[r][col] = '│'
				}
			}
		}
	}
	for _, s := range c.Series {
		for _, p := range s.Points {
			if !finite(p.X) || !finite(p.Y) {
				continue
			}
			mark := '●'
			switch {
			case p.Strong:
				mark = '◆'
			case p.Hollow:
				mark = '○'
			}
			cells[at(&y, p.Y, height)][at(&x, p.X, cols)] = mark
		}
	}
	var b bytes.Buffer
	if c.YLabel != "" {
		fmt.Fprintf(&b, "%s\n", plain(c.YLabel))
	}
	axis := map[int]string{}
	for i, v := range y.ticks {
		axis[at(&y, v, height)] = labels[i]
	}
	for r, row := range cells {
		rule := " │"
		if axis[r] != "" {
			rule = " ┤"
		}
		pad := strings.Repeat(" ", left-utf8.RuneCountInString(axis[r]))
		b.WriteString(strings.TrimRight(pad+axis[r]+rule+string(row), " ") + "\n")
	}
	line := []rune(strings.Repeat("─", cols))
	under := []rune(strings.Repeat(" ", cols+8))
	last := -1
	for i, l := range x.labels() {
		col := at(&x, x.ticks[i], cols)
		line[col] = '┬'
		n := utf8.RuneCountInString(l)
		from := max(col-n/2, 0)
		if from > last {
			copy(under[from:], []rune(l))
			last = from + n
		}
	}
	indent := strings.Repeat(" ", left)
	fmt.Fprintf(&b, "%s └%s\n", indent, string(line))
	fmt.Fprintf(&b, "%s  %s  %s\n", indent, strings.TrimRight(string(under), " "), plain(c.XLabel))
	_, err := w.Write(b.Bytes())
	return err
}
