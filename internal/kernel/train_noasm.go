//go:build !amd64 || purego

package kernel

func panelWidths() (left, right, narrow int) { return portableLeft, portableRight, portableRight }
func wordLines(n int) []uint32               { return make([]uint32, n) }

func fastProductTile(out []float32, stride, width int, pa, pb []uint32, n int, add, pairs bool) bool {
	return false
}
func (p *Panels) fastPackRows(panel []uint32, x []float32, stride, n int) int    { return 0 }
func (p *Panels) fastPackColumns(panel []uint32, x []float32, stride, n int) int { return 0 }

func fastSiLUMulBackward(gate, up, dy []float32) int               { return 0 }
func fastRMSBackward(dx, dw, x, dy, t []float32, s, c float32) int { return 0 }
func fastSoftmaxBackward(d, p []float32, c float32) int            { return 0 }
func fastAdamW(o *AdamW, w, m, v, g []float32) int                 { return 0 }
