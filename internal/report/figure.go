package report

import "strings"

// Figure is a drawing. Its origin is the top left corner; y grows downwards;
// lengths are in CSS pixels.
type Figure struct {
	Width, Height float64
	Title         string // for whoever does not see it
	shapes        []shape
}

// A Plot can be drawn in any size. The sizes of its texts stay the same.
type Plot interface {
	Figure(width, height float64) *Figure
}

// ink is the role of a colour.
type ink string

const (
	none  ink = ""
	text1 ink = "ink"   // text and axes
	text2 ink = "muted" // less important text
	grid  ink = "grid"
	paper ink = "paper"
	good  ink = "good" // what is set off
)

// series is the colour of the i-th series.
func series(i int) ink { return ink("s" + string(rune('0'+i%seriesColors))) }

const seriesColors = 6

// light are the colours of files. They differ in lightness as well as hue, for
// those who do not see hues (after Okabe and Ito, https://jfly.uni-koeln.de/color/).
var light = map[ink][3]uint8{
	text1: {0x1c, 0x21, 0x28}, text2: {0x5b, 0x65, 0x73}, grid: {0xe1, 0xe5, 0xea}, paper: {0xff, 0xff, 0xff}, good: {0x0b, 0x7a, 0x4b},
	"s0": {0x1f, 0x5f, 0xbf}, "s1": {0xd2, 0x5f, 0x0a}, "s2": {0x0f, 0x8a, 0x74}, "s3": {0xa8, 0x4a, 0x9e}, "s4": {0x8a, 0x6d, 0x00}, "s5": {0x5a, 0x66, 0x74},
}

// dark are those of a page on a dark screen.
var dark = map[ink][3]uint8{
	text1: {0xe6, 0xe9, 0xee}, text2: {0x9a, 0xa5, 0xb4}, grid: {0x2e, 0x36, 0x41}, paper: {0x15, 0x19, 0x1f}, good: {0x4c, 0xc3, 0x8a},
	"s0": {0x6c, 0xa8, 0xff}, "s1": {0xff, 0x9a, 0x4d}, "s2": {0x45, 0xcd, 0xb2}, "s3": {0xdf, 0x8d, 0xd6}, "s4": {0xdc, 0xba, 0x3f}, "s5": {0xa7, 0xb2, 0xc1},
}

// shape is a path or a text.
type shape struct {
	points [][2]float64
	closed bool
	stroke ink
	width  float64
	dash   float64 // length of dashes and gaps, 0: solid
	fill   ink
	alpha  float64 // opacity of the filling; 0 means 1
	radius float64 // a circle about points[0]

	text   string
	size   float64
	anchor float64 // share of the text's width before the point: 0, 0.5, 1
	bold   bool
	up     bool // the text runs upwards
	halo   bool // the text stands clear of what is below it

	tip string // shown when pointed at
}

func (f *Figure) add(s shape) { f.shapes = append(f.shapes, s) }

func (f *Figure) line(x0, y0, x1, y1 float64, c ink, width float64) {
	f.add(shape{points: [][2]float64{{x0, y0}, {x1, y1}}, stroke: c, width: width})
}

func (f *Figure) rect(x, y, w, h float64, c ink, alpha float64, tip string) {
	f.add(shape{points: [][2]float64{{x, y}, {x + w, y}, {x + w, y + h}, {x, y + h}}, closed: true, fill: c, alpha: alpha, tip: tip})
}

func (f *Figure) write(x, y float64, s string, size, anchor float64, c ink, bold bool) {
	f.add(shape{points: [][2]float64{{x, y}}, text: plain(s), size: size, anchor: anchor, fill: c, bold: bold})
}

// The sizes of text.
const (
	titleSize = 15.0
	labelSize = 13.0
	tickSize  = 12.0
)

// textWidth is about how wide a text is in a font like Helvetica.
func textWidth(s string, size float64) float64 {
	w := 0.0
	for _, r := range s {
		switch {
		case strings.ContainsRune("ijltf.,:;|!'()[] ", r):
			w += 0.31
		case r >= '0' && r <= '9' || strings.ContainsRune("+−×=<>±", r):
			w += 0.57
		case strings.ContainsRune("mwMW%@", r):
			w += 0.86
		case r >= 'A' && r <= 'Z':
			w += 0.67
		case r > 0x2E80:
			w += 1
		default:
			w += 0.54
		}
	}
	return w * size
}

// shorten cuts a text to a width.
func shorten(s string, size, width float64) string {
	if textWidth(s, size) <= width {
		return s
	}
	r := []rune(s)
	for len(r) > 1 && textWidth(string(r), size)+size > width {
		r = r[:len(r)-1]
	}
	return string(r) + "…"
}
