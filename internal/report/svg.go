package report

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"strconv"
	"strings"
)

const fonts = "system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"

// WriteSVG writes a file of its own, on white paper.
func (f *Figure) WriteSVG(w io.Writer) error {
	_, err := io.WriteString(w, f.svg(func(c ink) string {
		rgb := light[c]
		return fmt.Sprintf("#%02x%02x%02x", rgb[0], rgb[1], rgb[2])
	}, true))
	return err
}

// inline is SVG for a page, which defines the colours.
func (f *Figure) inline() string {
	return f.svg(func(c ink) string { return "var(--" + string(c) + ")" }, false)
}

func (f *Figure) svg(color func(ink) string, file bool) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" role="img" aria-label="%s" font-family="%s"`,
		num(f.Width), num(f.Height), html.EscapeString(plain(f.Title)), fonts)
	if file {
		fmt.Fprintf(&b, ` width="%s" height="%s"><rect width="100%%" height="100%%" fill="%s"/>`, num(f.Width), num(f.Height), color(paper))
	} else {
		b.WriteString(">")
	}
	b.WriteString("\n")
	for _, s := range f.shapes {
		s.svg(&b, color)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (s *shape) svg(b *bytes.Buffer, color func(ink) string) {
	var tag string
	var attrs []string
	attr := func(name, value string) { attrs = append(attrs, name+`="`+value+`"`) }
	x, y := s.points[0][0], s.points[0][1]
	content := ""
	switch {
	case s.text != "":
		tag = "text"
		if s.up {
			attr("transform", fmt.Sprintf("translate(%s %s) rotate(-90)", num(x), num(y)))
		} else {
			attr("x", num(x))
			attr("y", num(y))
		}
		attr("font-size", num(s.size))
		switch {
		case s.anchor == 0.5:
			attr("text-anchor", "middle")
		case s.anchor == 1:
			attr("text-anchor", "end")
		}
		if s.bold {
			attr("font-weight", "600")
		}
		if s.halo {
			attr("paint-order", "stroke")
			attr("stroke", color(paper))
			attr("stroke-width", "4")
			attr("stroke-linejoin", "round")
		}
		content = html.EscapeString(s.text)
	case s.radius > 0:
		tag = "circle"
		attr("cx", num(x))
		attr("cy", num(y))
		attr("r", num(s.radius))
	default:
		tag = "path"
		var d strings.Builder
		for i, p := range s.points {
			d.WriteString([]string{"M", "L"}[min(i, 1)])
			d.WriteString(num(p[0]) + " " + num(p[1]))
		}
		if s.closed {
			d.WriteString("Z")
		}
		attr("d", d.String())
	}
	if s.fill == none {
		attr("fill", "none")
	} else {
		attr("fill", color(s.fill))
		if s.alpha > 0 && s.alpha < 1 {
			attr("fill-opacity", num(s.alpha))
		}
	}
	if s.stroke != none {
		attr("stroke", color(s.stroke))
		attr("stroke-width", num(s.width))
		attr("stroke-linejoin", "round")
		if s.dash > 0 {
			attr("stroke-dasharray", num(s.dash))
		}
	}
	if s.tip != "" {
		content += "<title>" + html.EscapeString(plain(s.tip)) + "</title>"
	}
	fmt.Fprintf(b, "<%s %s", tag, strings.Join(attrs, " "))
	if content == "" {
		b.WriteString("/>\n")
		return
	}
	fmt.Fprintf(b, ">%s</%s>\n", content, tag)
}

// num is a length with a tenth of a pixel, or an opacity.
func num(x float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(float64(int64(x*100+0.5*sign(x)))/100, 'f', -1, 64), ".0")
}

func sign(x float64) float64 {
	if x < 0 {
		return -1
	}
	return 1
}
