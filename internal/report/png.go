package report

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/f64"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"

	xdraw "golang.org/x/image/draw"
)

// WritePNG writes an image of scale pixels per unit of length, on white paper.
func (f *Figure) WritePNG(w io.Writer, scale float64) error {
	img, err := f.image(scale)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return png.Encode(w, img)
}

// canvas is an image that is being painted.
type canvas struct {
	img   *image.RGBA
	scale float64
	fonts [2]*opentype.Font // regular, bold
	// outlines are what paint fills together.
	outlines [][][2]float64
}

func (f *Figure) image(scale float64) (*image.RGBA, error) {
	w, h := int(math.Ceil(f.Width*scale)), int(math.Ceil(f.Height*scale))
	if !(scale > 0) || w < 1 || h < 1 || w > 1<<14 || h > 1<<14 {
		return nil, fmt.Errorf("an image of %d × %d pixels cannot be made", w, h)
	}
	c := &canvas{img: image.NewRGBA(image.Rect(0, 0, w, h)), scale: scale}
	draw.Draw(c.img, c.img.Bounds(), image.NewUniform(rgba(paper, 1)), image.Point{}, draw.Src)
	for i, ttf := range [][]byte{goregular.TTF, gobold.TTF} {
		font, err := opentype.Parse(ttf)
		if err != nil {
			return nil, err
		}
		c.fonts[i] = font
	}
	for _, s := range f.shapes {
		if s.text != "" {
			if err := c.text(s); err != nil {
				return nil, err
			}
			continue
		}
		c.shape(s)
	}
	return c.img, nil
}

func rgba(c ink, alpha float64) color.NRGBA {
	rgb := light[c]
	return color.NRGBA{rgb[0], rgb[1], rgb[2], uint8(alpha*255 + 0.5)}
}

func (c *canvas) shape(s shape) {
	points, closed := s.points, s.closed
	if s.radius > 0 {
		points, closed = circle(points[0], s.radius), true
	}
	if s.fill != none && closed {
		c.polygon(points)
		alpha := s.alpha
		if alpha == 0 {
			alpha = 1
		}
		c.paint(rgba(s.fill, alpha))
	}
	if s.stroke == none {
		return
	}
	if closed {
		points = append(points[:len(points):len(points)], points[0])
	}
	for i := 1; i < len(points); i++ {
		c.segment(points[i-1], points[i], s.width, s.dash)
		if i+1 < len(points) || closed {
			c.polygon(circle(points[i], s.width/2))
		}
	}
	c.paint(rgba(s.stroke, 1))
}

// segment adds a straight stroke. All outlines that are painted together turn
// the same way, so that they do not cancel where they overlap.
func (c *canvas) segment(a, b [2]float64, width, dash float64) {
	dx, dy := b[0]-a[0], b[1]-a[1]
	length := math.Hypot(dx, dy)
	if length == 0 {
		return
	}
	dx, dy = dx/length, dy/length
	nx, ny := -dy*width/2, dx*width/2
	piece := func(from, to float64) {
		x0, y0, x1, y1 := a[0]+dx*from, a[1]+dy*from, a[0]+dx*to, a[1]+dy*to
		c.polygon([][2]float64{{x0 - nx, y0 - ny}, {x1 - nx, y1 - ny}, {x1 + nx, y1 + ny}, {x0 + nx, y0 + ny}})
	}
	if dash <= 0 {
		piece(0, length)
		return
	}
	for from := 0.0; from < length; from += 2 * dash {
		piece(from, min(from+dash, length))
	}
}

func circle(at [2]float64, r float64) [][2]float64 {
	const n = 32
	out := make([][2]float64, n)
	for i := range out {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / n)
		out[i] = [2]float64{at[0] + r*cos, at[1] + r*sin}
	}
	return out
}

// polygon adds an outline to what paint fills.
func (c *canvas) polygon(points [][2]float64) { c.outlines = append(c.outlines, points) }

// paint fills the outlines, in the part of the image where they are.
func (c *canvas) paint(col color.NRGBA) {
	x0, y0, x1, y1 := math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
	for _, o := range c.outlines {
		for _, p := range o {
			x0, y0, x1, y1 = min(x0, p[0]*c.scale), min(y0, p[1]*c.scale), max(x1, p[0]*c.scale), max(y1, p[1]*c.scale)
		}
	}
	limit := func(x float64) int { return int(min(max(x, -1), 1<<14)) }
	area := image.Rect(limit(x0)-1, limit(y0)-1, limit(x1)+2, limit(y1)+2).Intersect(c.img.Bounds())
	if len(c.outlines) > 0 && !area.Empty() {
		ras := vector.NewRasterizer(area.Dx(), area.Dy())
		for _, o := range c.outlines {
			for i, p := range o {
				x, y := float32(p[0]*c.scale-float64(area.Min.X)), float32(p[1]*c.scale-float64(area.Min.Y))
				if i == 0 {
					ras.MoveTo(x, y)
				} else {
					ras.LineTo(x, y)
				}
			}
			ras.ClosePath()
		}
		ras.Draw(c.img, area, image.NewUniform(col), image.Point{})
	}
	c.outlines = nil
}

func (c *canvas) text(s shape) error {
	ttf := c.fonts[0]
	if s.bold {
		ttf = c.fonts[1]
	}
	face, err := opentype.NewFace(ttf, &opentype.FaceOptions{Size: s.size * c.scale, DPI: 72})
	if err != nil {
		return err
	}
	defer face.Close()
	d := font.Drawer{Dst: c.img, Src: image.NewUniform(rgba(s.fill, 1)), Face: face}
	w := d.MeasureString(s.text)
	x, y := s.points[0][0]*c.scale, s.points[0][1]*c.scale
	shift := fixed.Int26_6(float64(w) * s.anchor)
	if !s.up {
		at := fixed.Point26_6{X: fixed.Int26_6(x*64) - shift, Y: fixed.Int26_6(y * 64)}
		if s.halo {
			d.Src = image.NewUniform(rgba(paper, 1))
			for _, p := range circle([2]float64{0, 0}, 2*c.scale) {
				d.Dot = at.Add(fixed.Point26_6{X: fixed.Int26_6(p[0] * 64), Y: fixed.Int26_6(p[1] * 64)})
				d.DrawString(s.text)
			}
			d.Src = image.NewUniform(rgba(s.fill, 1))
		}
		d.Dot = at
		d.DrawString(s.text)
		return nil
	}
	m := face.Metrics()
	up, down := m.Ascent.Ceil(), m.Descent.Ceil()
	strip := image.NewRGBA(image.Rect(0, 0, w.Ceil()+2, up+down))
	d.Dst, d.Dot = strip, fixed.P(0, up)
	d.DrawString(s.text)
	// (u, v) of the strip goes to (x + v − up, y + shift − u).
	xdraw.BiLinear.Transform(c.img, f64.Aff3{0, 1, x - float64(up), -1, 0, y + float64(shift)/64}, strip, strip.Bounds(), xdraw.Over, nil)
	return nil
}
