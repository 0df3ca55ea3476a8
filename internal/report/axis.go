package report

import (
	"math"
	"strconv"
)

// scale maps values to pixels.
type scale struct {
	lo, hi   float64 // values
	from, to float64 // pixels
	ticks    []float64
}

func (s *scale) at(v float64) float64 {
	return s.from + (v-s.lo)/(s.hi-s.lo)*(s.to-s.from)
}

// newScale covers values with round numbers; n is about how many ticks fit.
// With snug the scale ends a little beyond the values rather than at a tick.
func newScale(lo, hi float64, n int, snug bool) scale {
	if !(lo <= hi) { // nothing to show
		lo, hi = 0, 1
	}
	if lo == hi {
		pad := math.Max(math.Abs(lo)*0.1, 0.5)
		lo, hi = lo-pad, hi+pad
	}
	step := niceStep((hi - lo) / float64(max(n, 1)))
	s := scale{lo: math.Floor(lo/step+1e-9) * step, hi: math.Ceil(hi/step-1e-9) * step}
	if snug {
		pad := (hi - lo) * 0.04
		s.lo, s.hi = lo-pad, hi+pad
	}
	for i := math.Ceil(s.lo/step - 1e-9); i*step <= s.hi+step*1e-9; i++ {
		v := i * step
		if i == 0 {
			v = 0
		}
		s.ticks = append(s.ticks, v)
	}
	return s
}

// niceStep is the least of 1, 2, 5 times a power of ten that is not below x.
func niceStep(x float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 2, 5} {
		if m*p >= x*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

// labels are the ticks as text, with as many digits as tell them apart.
func (s *scale) labels() []string {
	digits := 0
	if len(s.ticks) > 1 {
		step := s.ticks[1] - s.ticks[0]
		digits = max(0, int(math.Ceil(-math.Log10(step)-1e-9)))
	}
	out := make([]string, len(s.ticks))
	for i, v := range s.ticks {
		switch {
		case math.Abs(v) >= 1e6 || digits > 6:
			out[i] = minus(strconv.FormatFloat(v, 'g', 4, 64))
		default:
			out[i] = minus(strconv.FormatFloat(v, 'f', digits, 64))
		}
	}
	return out
}

// frame is the area of a plot with its axes.
type frame struct {
	f    *Figure
	x, y scale
}

// newFrame draws the title, a legend, and axes; the area inside is for the
// data.
func newFrame(width, height float64, title, xlabel, ylabel string, x, y scale, legend []key) *frame {
	f := &Figure{Width: width, Height: height, Title: title}
	top := 14.0
	if title != "" {
		f.write(14, 22, shorten(title, titleSize, width-20), titleSize, 0, text1, true)
		top = 34
	}
	if len(legend) > 0 {
		top = f.legend(14, top+8, width-14, legend) + 4
	}
	if ylabel != "" {
		f.write(14, top+14, shorten(ylabel, tickSize, width-20), tickSize, 0, text2, false)
		top += 26
	}
	labels := y.labels()
	left := 0.0
	for _, l := range labels {
		left = max(left, textWidth(l, tickSize))
	}
	left += 24
	bottom := height - 32
	if xlabel != "" {
		bottom -= 20
	}
	x.from, x.to = left, width-18
	y.from, y.to = bottom, top
	for i, v := range y.ticks {
		p := y.at(v)
		f.line(left, p, x.to, p, grid, 1)
		f.write(left-8, p+4, labels[i], tickSize, 1, text2, false)
	}
	last := math.Inf(-1)
	for i, l := range x.labels() {
		p := x.at(x.ticks[i])
		f.line(p, bottom, p, bottom+5, text2, 1)
		if w := textWidth(l, tickSize); p-w/2 > last+6 {
			f.write(p, bottom+19, l, tickSize, 0.5, text2, false)
			last = p + w/2
		}
	}
	f.line(left, bottom, x.to, bottom, text2, 1)
	if xlabel != "" {
		f.write((left+x.to)/2, height-10, xlabel, labelSize, 0.5, text1, false)
	}
	return &frame{f, x, y}
}

// key is an entry of a legend.
type key struct {
	name string
	draw func(f *Figure, x, y float64)
}

// legend draws entries in lines of text and gives the y below them.
func (f *Figure) legend(x0, y, right float64, keys []key) float64 {
	x := x0
	for _, k := range keys {
		w := 26 + textWidth(k.name, tickSize) + 16
		if x > x0 && x+w-16 > right {
			x, y = x0, y+20
		}
		k.draw(f, x+10, y+6)
		f.write(x+26, y+10, shorten(k.name, tickSize, right-x-26), tickSize, 0, text1, false)
		x += w
	}
	return y + 18
}
