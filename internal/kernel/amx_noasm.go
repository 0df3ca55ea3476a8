//go:build !amd64 || purego

package kernel

func packsTiles() bool                              { return false }
func (a *Activations) makeTiles(m int)              {}
func (a *Activations) packTiles(x []float32, m int) {}
