package quant

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"math"
	"os"
	"testing"
)

var goldens = flag.String("goldens", "testdata/goldens.bin.gz", "a file that testdata/make_goldens.py wrote")

type golden struct {
	Elements   int
	ElementsAt int `json:"elements_at"`
	Cases      []struct {
		Format     string
		Blocks     int
		BlocksAt   int `json:"blocks_at"`
		Values     string
		Wild       int
		WildAt     int    `json:"wild_at"`
		WildValues string `json:"wild_values"`
	}
	Weighted []struct {
		Rows, Columns int
		ElementsAt    int   `json:"elements_at"`
		WeightsAt     int   `json:"weights_at"`
		BlocksAt      []int `json:"blocks_at"` // by format, −1 where its blocks do not fill rows
	}
}

func readGolden(t *testing.T) (g golden, data []byte) {
	file, err := os.Open(*goldens)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(z)
	line, err := r.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(line, &g); err != nil {
		t.Fatal(err)
	}
	if data, err = io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	return g, data
}

// TestGolden holds Quantize and Dequantize against ggml.
func TestGolden(t *testing.T) {
	g, data := readGolden(t)
	if len(g.Cases) != len(Formats()) || g.Elements < 8192 {
		t.Fatalf("goldens for %d formats and %d elements, want %d and at least 8192", len(g.Cases), g.Elements, len(Formats()))
	}
	x := floats(data[g.ElementsAt:][:4*g.Elements])
	for i, f := range Formats() {
		c := g.Cases[i]
		if c.Format != f.String() || c.Blocks*f.BlockSize() != g.Elements {
			t.Fatalf("golden %d is %s with %d blocks", i, c.Format, c.Blocks)
		}
		want := data[c.BlocksAt:][:c.Blocks*f.BlockBytes()]
		got := make([]byte, len(want))
		Quantize(got, x, f)
		wrong := 0
		for b := range c.Blocks {
			g, w := got[b*f.BlockBytes():][:f.BlockBytes()], want[b*f.BlockBytes():][:f.BlockBytes()]
			if bytes.Equal(g, w) {
				continue
			}
			if wrong++; wrong <= 3 {
				t.Errorf("%v, block %d:\nvalues %v\n got % x\nwant % x", f, b, x[b*f.BlockSize():][:f.BlockSize()], g, w)
			}
		}
		if wrong > 3 {
			t.Errorf("%v: %d of %d blocks differ", f, wrong, c.Blocks)
		}
		everywhere(t, func(t *testing.T) {
			check := func(name string, blocks []byte, want string) {
				values := make([]float32, len(blocks)/f.BlockBytes()*f.BlockSize())
				Dequantize(values, blocks, f)
				if got := digest(values); got != want {
					t.Errorf("%v: digest of the values of %s blocks: got %s, want %s", f, name, got, want)
				}
			}
			check("quantized", want, c.Values)
			check("wild", data[c.WildAt:][:c.Wild*f.BlockBytes()], c.WildValues)
		})
	}
}

// TestGoldenWeighted holds QuantizeWeighted against ggml with an importance matrix.
func TestGoldenWeighted(t *testing.T) {
	g, data := readGolden(t)
	check := func(t *testing.T, quantize func(dst []byte, src, weights []float32, f Format)) {
		var compared, wrong [numFormats]int
		for k, c := range g.Weighted {
			x, columns := floats(data[c.ElementsAt:][:4*c.Rows*c.Columns]), floats(data[c.WeightsAt:][:4*c.Columns])
			for i, f := range Formats() {
				if c.BlocksAt[i] < 0 {
					continue
				}
				compared[f] += len(x)
				size := f.BlockBytes()
				got := make([]byte, RowBytes(f, len(x)))
				want := data[c.BlocksAt[i]:][:len(got)]
				quantize(got, x, columns, f)
				for b := range len(got) / size {
					g, w := got[b*size:][:size], want[b*size:][:size]
					if bytes.Equal(g, w) {
						continue
					}
					if wrong[f]++; wrong[f] <= 2 {
						at := b * f.BlockSize()
						t.Errorf("%v, matrix %d, block %d:\nvalues %v\nweights %v\n got % x\nwant % x", f, k, b,
							x[at:][:f.BlockSize()], columns[at%c.Columns:][:f.BlockSize()], g, w)
					}
				}
			}
		}
		for _, f := range Formats() {
			if compared[f] < 4096 {
				t.Errorf("%v: %d elements compared, want at least 4096", f, compared[f])
			}
			if wrong[f] > 0 {
				t.Errorf("%v: %d of %d blocks differ", f, wrong[f], compared[f]/f.BlockSize())
			}
		}
		t.Logf("elements compared: %v", compared[1:])
	}
	t.Run("definition", func(t *testing.T) { check(t, QuantizeWeighted) })
	everywhere(t, func(t *testing.T) { check(t, new(Quantizer).QuantizeWeighted) })
}

func floats(b []byte) []float32 {
	x := make([]float32, len(b)/4)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return x
}

func digest(x []float32) string {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
