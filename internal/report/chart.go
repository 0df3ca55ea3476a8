package report

import (
	"fmt"
	"math"
)

// Chart shows y against x: lines, points, error bars.
type Chart struct {
	Title          string
	XLabel, YLabel string
	Series         []Series
	// Rules are lines across the plot, at a value of x or y.
	Rules []Rule
	// Band shades the interval of x from Band[0] to Band[1] if they differ.
	Band      [2]float64
	BandLabel string
}

// Series is points of one kind.
type Series struct {
	Name   string
	Points []Point
	Line   bool // join the points in their order
	Plain  bool // the line alone, without marks, as for a function
	Color  int  // 0…5; series of one Chart need not differ
}

// Point is a measurement.
type Point struct {
	X, Y  float64
	YErr  float64 // half the length of the error bar; 0 and NaN: none
	XErr  float64
	Label string // beside the point
	Tip   string // shown when pointed at
	// Hollow is for what does not count; Strong for what is chosen.
	Hollow, Strong bool
}

// Rule is a line across a plot.
type Rule struct {
	Vertical bool
	At       float64
	Label    string
}

func finite(x float64) bool { return x-x == 0 }

func spread(e float64) float64 {
	if finite(e) {
		return math.Abs(e)
	}
	return 0
}

// Figure draws the chart. Points that are not finite are left out.
func (c *Chart) Figure(width, height float64) *Figure {
	x0, x1, y0, y1 := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	hollow, labels := -1, false // the colour of hollow points
	for _, s := range c.Series {
		for _, p := range s.Points {
			if !finite(p.X) || !finite(p.Y) {
				continue
			}
			x0, x1 = min(x0, p.X-spread(p.XErr)), max(x1, p.X+spread(p.XErr))
			y0, y1 = min(y0, p.Y-spread(p.YErr)), max(y1, p.Y+spread(p.YErr))
			if p.Hollow && hollow < 0 {
				hollow = s.Color
			}
			labels = labels || p.Label != ""
		}
	}
	for _, r := range c.Rules {
		if r.Vertical && finite(r.At) {
			x0, x1 = min(x0, r.At), max(x1, r.At)
		} else if finite(r.At) {
			y0, y1 = min(y0, r.At), max(y1, r.At)
		}
	}
	if labels && x1 > x0 { // room beside the outermost points
		room := (x1 - x0) * 50 / width
		x0, x1 = x0-room, x1+room
	}
	var legend []key
	if len(c.Series) > 1 {
		for _, s := range c.Series {
			legend = append(legend, key{s.Name, func(f *Figure, x, y float64) {
				if s.Line {
					f.line(x-9, y, x+9, y, series(s.Color), 2)
				}
				if !s.Plain {
					f.mark(x, y, Point{}, s.Color, 1)
				}
			}})
		}
	}
	if hollow >= 0 {
		legend = append(legend, key{"stopped by a gate", func(f *Figure, x, y float64) { f.mark(x, y, Point{Hollow: true}, hollow, 1) }})
	}
	if c.Band[0] != c.Band[1] && c.BandLabel != "" {
		legend = append(legend, key{c.BandLabel, func(f *Figure, x, y float64) { f.rect(x-9, y-6, 18, 12, good, 0.16, "") }})
	}
	fr := newFrame(width, height, c.Title, c.XLabel, c.YLabel,
		newScale(x0, x1, int(width/80), true), newScale(y0, y1, int(height/60), false), legend)
	c.background(fr)
	for _, s := range c.Series {
		c.drawLine(fr, s)
	}
	var taken []box
	for _, s := range c.Series {
		for _, p := range s.Points {
			if finite(p.X) && finite(p.Y) && !s.Plain {
				x, y := fr.x.at(p.X), fr.y.at(p.Y)
				taken = append(taken, box{x - 6, y - 6, x + 6, y + 6})
			}
		}
		if s.Line {
			taken = fr.along(s, taken)
		}
	}
	for _, s := range c.Series {
		for _, p := range s.Points {
			if finite(p.X) && finite(p.Y) && !s.Plain {
				taken = fr.point(p, s.Color, taken)
			}
		}
	}
	return fr.f
}

func (c *Chart) background(fr *frame) {
	if a, b := c.Band[0], c.Band[1]; a != b && finite(a) && finite(b) {
		x := fr.x.at(max(min(a, b), fr.x.lo))
		fr.f.rect(x, fr.y.to, fr.x.at(min(max(a, b), fr.x.hi))-x, fr.y.from-fr.y.to, good, 0.13, c.BandLabel)
	}
	for _, r := range c.Rules {
		if !finite(r.At) {
			continue
		}
		s := shape{stroke: text2, width: 1.2, dash: 4}
		if r.Vertical {
			x := fr.x.at(r.At)
			s.points = [][2]float64{{x, fr.y.from}, {x, fr.y.to}}
			fr.f.add(s)
			anchor, dx := 0.0, 4.0
			if x+4+textWidth(r.Label, tickSize) > fr.x.to {
				anchor, dx = 1, -4
			}
			fr.f.write(x+dx, fr.y.to+10, r.Label, tickSize, anchor, text2, false)
			continue
		}
		y := fr.y.at(r.At)
		s.points = [][2]float64{{fr.x.from, y}, {fr.x.to, y}}
		fr.f.add(s)
		fr.f.add(shape{points: [][2]float64{{fr.x.to - 4, y - 5}}, text: plain(r.Label), size: tickSize, anchor: 1, fill: text2, halo: true})
	}
}

func (c *Chart) drawLine(fr *frame, s Series) {
	if !s.Line {
		return
	}
	var run [][2]float64
	flush := func() {
		if len(run) > 1 {
			fr.f.add(shape{points: run, stroke: series(s.Color), width: 2})
		}
		run = nil
	}
	for _, p := range s.Points {
		if !finite(p.X) || !finite(p.Y) {
			flush()
			continue
		}
		run = append(run, [2]float64{fr.x.at(p.X), fr.y.at(p.Y)})
	}
	flush()
}

// along takes the area of a line.
func (fr *frame) along(s Series, taken []box) []box {
	for i := 1; i < len(s.Points); i++ {
		a, b := s.Points[i-1], s.Points[i]
		if !finite(a.X) || !finite(a.Y) || !finite(b.X) || !finite(b.Y) {
			continue
		}
		x0, y0, x1, y1 := fr.x.at(a.X), fr.y.at(a.Y), fr.x.at(b.X), fr.y.at(b.Y)
		n := math.Ceil(math.Hypot(x1-x0, y1-y0) / 6)
		for k := 0.0; k < n; k++ {
			x, y := x0+(x1-x0)*k/n, y0+(y1-y0)*k/n
			taken = append(taken, box{x - 1.5, y - 1.5, x + 1.5, y + 1.5})
		}
	}
	return taken
}

// box is an area that is taken.
type box struct{ x0, y0, x1, y1 float64 }

func (b box) meets(o box) bool { return b.x0 < o.x1 && o.x0 < b.x1 && b.y0 < o.y1 && o.y0 < b.y1 }

// point draws a point, its error bars, and its label where there is room.
func (fr *frame) point(p Point, color int, taken []box) []box {
	f, x, y := fr.f, fr.x.at(p.X), fr.y.at(p.Y)
	bar := func(x0, y0, x1, y1 float64) { f.line(x0, y0, x1, y1, series(color), 1.4) }
	if e := spread(p.YErr); e > 0 {
		a, b := fr.y.at(p.Y-e), fr.y.at(p.Y+e)
		bar(x, a, x, b)
		bar(x-4, a, x+4, a)
		bar(x-4, b, x+4, b)
	}
	if e := spread(p.XErr); e > 0 {
		a, b := fr.x.at(p.X-e), fr.x.at(p.X+e)
		bar(a, y, b, y)
	}
	f.mark(x, y, p, color, 1)
	if p.Label == "" {
		return taken
	}
	w, h := textWidth(p.Label, tickSize), tickSize
	places := []struct{ dx, dy, anchor float64 }{
		{9, 4, 0}, {-9, 4, 1}, {0, -10, 0.5}, {0, 20, 0.5}, {8, -8, 0}, {-8, -8, 1}, {8, 17, 0}, {-8, 17, 1}, {0, -22, 0.5}, {0, 32, 0.5}, {10, -22, 0}, {-10, -22, 1}, {10, 32, 0}, {-10, 32, 1}, {9, 4, 0},
	}
	for i, d := range places {
		left := x + d.dx - d.anchor*w
		b := box{left - 1, y + d.dy - h, left + w + 1, y + d.dy + 2}
		free := b.x0 > fr.x.from && b.x1 < fr.f.Width-2 && b.y0 > fr.y.to-14 && b.y1 < fr.y.from
		for _, t := range taken {
			free = free && !b.meets(t)
		}
		if free || i == len(places)-1 && p.Strong { // what is chosen has its label in any case
			f.add(shape{points: [][2]float64{{x + d.dx, y + d.dy}}, text: plain(p.Label), size: tickSize, anchor: d.anchor, fill: text1, bold: p.Strong, halo: true})
			return append(taken, b)
		}
	}
	return taken
}

// mark draws the mark of a point.
func (f *Figure) mark(x, y float64, p Point, color int, size float64) {
	c := series(color)
	tip := p.Tip
	if tip == "" && p.Label != "" {
		tip = fmt.Sprintf("%s: %.4g, %.4g", p.Label, p.X, p.Y)
	}
	s := shape{points: [][2]float64{{x, y}}, radius: 4.2 * size, fill: c, stroke: paper, width: 1.2, tip: tip}
	if p.Hollow {
		s.fill, s.stroke, s.width = paper, c, 1.8
	}
	if p.Strong {
		f.add(shape{points: [][2]float64{{x, y}}, radius: 8.5 * size, stroke: good, width: 2.2})
	}
	f.add(s)
}
