package report

import (
	"fmt"
	"math"
)

// Bars compares values of categories, one or several series side by side.
type Bars struct {
	Title  string
	YLabel string
	// Categories are the groups of bars.
	Categories []string
	Series     []BarSeries
}

// BarSeries has a value for each category, and if it is known the half length
// of an error bar.
type BarSeries struct {
	Name   string
	Values []float64
	Errs   []float64
	Color  int
}

// Figure draws the bars: upright, or lying where the names of the categories
// would not fit below.
func (b *Bars) Figure(width, height float64) *Figure {
	lo, hi := 0.0, 0.0
	for _, s := range b.Series {
		for i, v := range s.Values {
			if finite(v) {
				lo, hi = min(lo, v-s.err(i)), max(hi, v+s.err(i))
			}
		}
	}
	var legend []key
	if len(b.Series) > 1 {
		for _, s := range b.Series {
			legend = append(legend, key{s.Name, func(f *Figure, x, y float64) { f.rect(x-7, y-6, 14, 12, series(s.Color), 1, "") }})
		}
	}
	n := max(len(b.Categories), 1)
	for _, c := range b.Categories {
		if textWidth(c, tickSize) > (width-70)/float64(n)-6 {
			return b.lying(width, height, lo, hi, legend)
		}
	}
	fr := newFrame(width, height, b.Title, "", b.YLabel, scale{lo: 0, hi: float64(n)}, newScale(lo, hi, int(height/60), false), legend)
	zero := fr.y.at(0)
	slot := (fr.x.to - fr.x.from) / float64(n)
	wide := min(slot*0.8/float64(max(len(b.Series), 1)), 56)
	for i, name := range b.Categories {
		mid := fr.x.from + (float64(i)+0.5)*slot
		fr.f.write(mid, fr.y.from+19, name, tickSize, 0.5, text1, false)
		for k, s := range b.Series {
			v := s.at(i)
			if !finite(v) {
				continue
			}
			x := mid + (float64(k)-float64(len(b.Series))/2)*wide
			y := fr.y.at(v)
			fr.f.rect(x+1, min(y, zero), wide-2, math.Abs(zero-y), series(s.Color), 1, s.tip(name, i))
			if e := s.err(i); e > 0 {
				m := x + wide/2
				fr.f.line(m, fr.y.at(v-e), m, fr.y.at(v+e), text1, 1.4)
			}
		}
	}
	fr.f.line(fr.x.from, zero, fr.x.to, zero, text2, 1)
	return fr.f
}

// lying draws bars from left to right, the names before them. The figure is as
// high as it needs to be.
func (b *Bars) lying(width, height, lo, hi float64, legend []key) *Figure {
	thick := 16.0
	slot := thick*float64(max(len(b.Series), 1)) + 10
	f := &Figure{Width: width, Title: b.Title}
	top := 14.0
	if b.Title != "" {
		f.write(14, 22, shorten(b.Title, titleSize, width-20), titleSize, 0, text1, true)
		top = 34
	}
	if len(legend) > 0 {
		top = f.legend(14, top+8, width-14, legend) + 4
	}
	left := 0.0
	for _, c := range b.Categories {
		left = max(left, textWidth(c, tickSize))
	}
	left = min(left, width*0.4) + 24
	x := newScale(lo, hi, int((width-left)/70), false)
	x.from, x.to = left, width-24
	bottom := top + 8 + slot*float64(len(b.Categories))
	f.Height = max(height*0.4, bottom+50)
	for i, l := range x.labels() {
		p := x.at(x.ticks[i])
		f.line(p, top+4, p, bottom, grid, 1)
		f.write(p, bottom+17, l, tickSize, 0.5, text2, false)
	}
	f.write((left+x.to)/2, bottom+38, b.YLabel, labelSize, 0.5, text1, false)
	for i, name := range b.Categories {
		y := top + 8 + float64(i)*slot
		f.write(left-8, y+slot/2-1, shorten(name, tickSize, left-20), tickSize, 1, text1, false)
		for k, s := range b.Series {
			v := s.at(i)
			if !finite(v) {
				continue
			}
			a, z := x.at(v), x.at(0)
			row := y + float64(k)*thick
			f.rect(min(a, z), row+1, math.Abs(a-z), thick-2, series(s.Color), 1, s.tip(name, i))
			if e := s.err(i); e > 0 {
				f.line(x.at(v-e), row+thick/2, x.at(v+e), row+thick/2, text1, 1.4)
			}
		}
	}
	f.line(x.at(0), top+4, x.at(0), bottom, text2, 1)
	return f
}

func (s *BarSeries) at(i int) float64 {
	if i < len(s.Values) {
		return s.Values[i]
	}
	return math.NaN()
}

func (s *BarSeries) err(i int) float64 {
	if i < len(s.Errs) {
		return spread(s.Errs[i])
	}
	return 0
}

func (s *BarSeries) tip(category string, i int) string {
	t := fmt.Sprintf("%s %s: %.4g", s.Name, category, s.at(i))
	if e := s.err(i); e > 0 {
		t += fmt.Sprintf(" ± %.2g", e)
	}
	return t
}
