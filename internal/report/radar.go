package report

import (
	"fmt"
	"math"
)

// Radar compares series over axes around a centre, as MT-Bench's categories are
// shown.
type Radar struct {
	Title  string
	Axes   []string
	Series []BarSeries // a value for each axis
	// Min and Max are the values at the centre and at the rim. If they are
	// equal, 0 and a round number above all values.
	Min, Max float64
}

// Figure draws the radar.
func (r *Radar) Figure(width, height float64) *Figure {
	f := &Figure{Width: width, Height: height, Title: r.Title}
	top := 10.0
	if r.Title != "" {
		f.write(14, 22, shorten(r.Title, titleSize, width-20), titleSize, 0, text1, true)
		top = 34
	}
	if len(r.Series) > 1 {
		var keys []key
		for _, s := range r.Series {
			keys = append(keys, key{s.Name, func(f *Figure, x, y float64) {
				f.line(x-9, y, x+9, y, series(s.Color), 2)
				f.mark(x, y, Point{}, s.Color, 0.8)
			}})
		}
		top = f.legend(14, top+8, width-14, keys)
	}
	lo, hi := r.Min, r.Max
	if lo == hi {
		lo, hi = 0, 0
		for _, s := range r.Series {
			for _, v := range s.Values {
				if finite(v) {
					hi = max(hi, v)
				}
			}
		}
	}
	sc := newScale(lo, hi, 5, false)
	if r.Min != r.Max {
		sc.lo, sc.hi = r.Min, r.Max
	}
	side := 0.0
	for _, a := range r.Axes {
		side = max(side, textWidth(a, tickSize))
	}
	cx, cy := width/2, (top+height)/2+2
	radius := max(20, min((height-top)/2-28, width/2-side-14))
	n := len(r.Axes)
	at := func(i int, share float64) [2]float64 {
		angle := 2*math.Pi*float64(i)/float64(max(n, 1)) - math.Pi/2
		return [2]float64{cx + math.Cos(angle)*radius*share, cy + math.Sin(angle)*radius*share}
	}
	share := func(v float64) float64 { return min(max((v-sc.lo)/(sc.hi-sc.lo), 0), 1) }
	for _, t := range sc.ticks {
		if t <= sc.lo || t > sc.hi {
			continue
		}
		var ring [][2]float64
		for i := range n {
			ring = append(ring, at(i, share(t)))
		}
		if n > 0 {
			f.add(shape{points: ring, closed: true, stroke: grid, width: 1})
		}
	}
	for i, name := range r.Axes {
		rim := at(i, 1)
		f.line(cx, cy, rim[0], rim[1], grid, 1)
		out := at(i, 1+12/radius)
		anchor, dy := 0.5, 4.0
		switch dx := out[0] - cx; {
		case dx > 1:
			anchor = 0
		case dx < -1:
			anchor = 1
		case out[1] < cy:
			dy = 0
		default:
			dy = 10
		}
		f.write(out[0], out[1]+dy, name, tickSize, anchor, text1, false)
	}
	for k, l := range sc.labels() {
		if t := sc.ticks[k]; t > sc.lo && t <= sc.hi && n > 0 {
			f.write(cx+4, cy-radius*share(t)+12, l, 10.5, 0, text2, false)
		}
	}
	for _, s := range r.Series {
		var loop [][2]float64
		for i := range n {
			v := s.at(i)
			if !finite(v) {
				v = sc.lo
			}
			loop = append(loop, at(i, share(v)))
		}
		if n > 0 {
			f.add(shape{points: loop, closed: true, stroke: series(s.Color), width: 2, fill: series(s.Color), alpha: 0.1})
		}
		for i, p := range loop {
			if !finite(s.at(i)) {
				continue
			}
			f.mark(p[0], p[1], Point{Tip: fmt.Sprintf("%s, %s: %.4g", s.Name, r.Axes[i], s.at(i))}, s.Color, 0.8)
		}
	}
	return f
}
