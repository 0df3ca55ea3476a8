package train

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// Chart draws the loss of a run by step as SVG: every step, and a mean over its
// neighbours once there are enough. The steps of several iterations follow each
// other.
func Chart(steps []Step) []byte {
	const (
		width, height            = 720, 360
		left, right, top, bottom = 64, 16, 36, 44
		plotWidth, plotHeight    = width - left - right, height - top - bottom
	)
	loss := make([]float64, len(steps))
	low, high := math.Inf(1), math.Inf(-1)
	for i, s := range steps {
		loss[i] = s.Loss
		low, high = min(low, s.Loss), max(high, s.Loss)
	}
	if len(steps) == 0 {
		low, high = 0, 1
	}
	unit := tickUnit(high - low)
	low, high = math.Floor(low/unit)*unit, math.Ceil(high/unit)*unit
	if high == low {
		high += unit
	}
	last := float64(max(len(steps), 2))
	x := func(step float64) float64 { return left + plotWidth*(step-1)/(last-1) }
	y := func(v float64) float64 { return top + plotHeight*(high-v)/(high-low) }

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>Training loss by step</title>\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", width, height)
	text := func(px, py float64, anchor, s string) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="#333">%s</text>`+"\n", px, py, anchor, s)
	}
	rule := func(x1, y1, x2, y2 float64, colour string) {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
	}
	text(left, 20, "start", "Training loss")
	for i := 0.0; low+i*unit <= high+unit/2; i++ {
		v := low + i*unit
		rule(left, y(v), width-right, y(v), "#e5e5e5")
		text(left-8, y(v)+4, "end", fmt.Sprintf("%.4g", v))
	}
	stepUnit := max(1, tickUnit(last-1))
	for s := 1.0; s <= last; s++ {
		if s != 1 && math.Mod(s, stepUnit) != 0 {
			continue
		}
		rule(x(s), height-bottom, x(s), height-bottom+5, "#666")
		text(x(s), height-bottom+18, "middle", fmt.Sprintf("%.0f", s))
	}
	rule(left, height-bottom, width-right, height-bottom, "#666")
	text(left+plotWidth/2, height-8, "middle", "step")
	curve := func(values []float64, colour string, stroke float64) {
		if len(values) == 0 {
			return
		}
		var path strings.Builder
		for i, v := range values {
			fmt.Fprintf(&path, "%.1f,%.1f ", x(float64(i+1)), y(v))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="%.1f"/>`+"\n", strings.TrimSpace(path.String()), colour, stroke)
	}
	if len(loss) < 20 {
		curve(loss, "#1f5fa8", 1.8)
	} else {
		curve(loss, "#b9cfe6", 1)
		curve(smooth(loss, len(loss)/20), "#1f5fa8", 1.8)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// tickUnit is 1, 2 or 5 times a power of ten that divides a span into 3 to 8
// parts.
func tickUnit(span float64) float64 {
	if !(span > 0) {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(span/3)))
	for _, k := range []float64{5, 2} {
		if span/(k*unit) >= 3 {
			return k * unit
		}
	}
	return unit
}

// smooth is the mean of each value and up to reach neighbours on both sides.
func smooth(values []float64, reach int) []float64 {
	out := make([]float64, len(values))
	for i := range values {
		n := min(reach, i, len(values)-1-i)
		for _, v := range values[i-n : i+n+1] {
			out[i] += v
		}
		out[i] /= float64(2*n + 1)
	}
	return out
}
