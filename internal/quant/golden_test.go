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

// TestGolden holds Quantize and Dequantize against ggml.
func TestGolden(t *testing.T) {
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
	var g struct {
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
	}
	if err := json.Unmarshal(line, &g); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
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
