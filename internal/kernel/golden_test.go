package kernel

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"testing"
)

// golden is testdata/goldens.bin.gz, written by testdata/make_goldens.py:
// inputs and the results that PyTorch computed from them.
type golden struct {
	Torch string
	Cases []goldenCase
	data  []byte
}

type goldenCase struct {
	Aligned, SFT string
	Elements     int
	AlignedAt    int `json:"aligned_at"`
	SFTAt        int `json:"sft_at"`
	Outputs      []goldenOutput
}

type goldenOutput struct {
	Out, Rounding string
	Alpha         float64
	AlphaBits     uint32 `json:"alpha_bits"`
	At            int
	Stats         goldenStats
}

type goldenStats struct {
	Equal, Swallowed, NaN, Inf int64
	InputNaN                   int64 `json:"input_nan"`
	InputInf                   int64 `json:"input_inf"`
	Overflow                   int64
	Delta2, Aligned2, Step2    float64
	StepDelta                  float64 `json:"step_delta"`
	StepDeltaScale             float64 `json:"step_delta_scale"` // Σ|step·δ|
}

func (g *golden) bytes(at, elements int, f Format) []byte {
	return g.data[at : at+elements*f.Bytes()]
}

var goldenFormats = map[string]Format{"bf16": BF16, "f16": F16, "f32": F32, "f64": F64, "f8e4m3": F8E4M3, "f8e5m2": F8E5M2}

func readGolden(t *testing.T) *golden {
	f, err := os.Open("testdata/goldens.bin.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(z)
	line, err := r.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	g := new(golden)
	if err := json.Unmarshal(line, g); err != nil {
		t.Fatal(err)
	}
	if g.data, err = io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestGolden holds Run against PyTorch, element by element: values by their
// bits, NaN by being NaN.
func TestGolden(t *testing.T) {
	g := readGolden(t)
	elements := 0
	for _, c := range g.Cases {
		elements += c.Elements * len(c.Outputs)
	}
	if len(g.Cases) < 18 || elements < 300_000 {
		t.Fatalf("goldens hold %d pairs and %d expected elements, want at least 18 and 300000", len(g.Cases), elements)
	}
	for _, name := range Implementations() {
		t.Run(name, func(t *testing.T) {
			restore, err := Use(name)
			if err != nil {
				t.Fatal(err)
			}
			defer restore()
			for _, c := range g.Cases {
				for _, o := range c.Outputs {
					checkGolden(t, g, c, o)
				}
			}
		})
	}
}

func checkGolden(t *testing.T, g *golden, c goldenCase, o goldenOutput) {
	t.Helper()
	label := fmt.Sprintf("aligned %s, sft %s, out %s, %s, alpha %v", c.Aligned, c.SFT, o.Out, o.Rounding, o.Alpha)
	m := &Mixer{
		Aligned: goldenFormats[c.Aligned],
		SFT:     goldenFormats[c.SFT],
		Out:     goldenFormats[o.Out],
		Alpha:   math.Float32frombits(o.AlphaBits),
	}
	switch o.Rounding {
	case "once":
		m.Rounding = Once
	case "per-op":
		m.Rounding = PerOp
	default:
		t.Fatalf("%s: rounding %q is not known", label, o.Rounding)
	}
	a := g.bytes(c.AlignedAt, c.Elements, m.Aligned)
	s := g.bytes(c.SFTAt, c.Elements, m.SFT)
	want := g.bytes(o.At, c.Elements, m.Out)

	var st Stats
	got := make([]byte, len(want))
	m.Run(got, a, s, 0, &st)
	compareGolden(t, label, m, got, want, a, s)
	checkGoldenStats(t, label, c.Elements, st, o.Stats)

	// Without statistics other inner loops may run.
	bare := make([]byte, len(want))
	m.Run(bare, a, s, 0, nil)
	if !bytes.Equal(bare, got) {
		t.Errorf("%s: bytes without statistics differ from those with", label)
	}
}

func compareGolden(t *testing.T, label string, m *Mixer, got, want, a, s []byte) {
	t.Helper()
	w, wrong := m.Out.Bytes(), 0
	for i := range len(want) / w {
		g, x := got[i*w:(i+1)*w], want[i*w:(i+1)*w]
		if bytes.Equal(g, x) || isNaNBytes(g, m.Out) && isNaNBytes(x, m.Out) {
			continue
		}
		if wrong++; wrong <= 5 {
			t.Errorf("%s: element %d: aligned % x, sft % x: got % x, torch has % x", label, i,
				a[i*m.Aligned.Bytes():(i+1)*m.Aligned.Bytes()], s[i*m.SFT.Bytes():(i+1)*m.SFT.Bytes()], g, x)
		}
	}
	if wrong > 5 {
		t.Errorf("%s: %d elements differ", label, wrong)
	}
}

func isNaNBytes(b []byte, f Format) bool {
	var v [1]float32
	Widen(v[:], b, f)
	return v[0] != v[0]
}

func checkGoldenStats(t *testing.T, label string, elements int, st Stats, want goldenStats) {
	t.Helper()
	for _, x := range []struct {
		name      string
		got, want int64
	}{
		{"Elements", st.Elements, int64(elements)},
		{"Equal", st.Equal, want.Equal},
		{"Swallowed", st.Swallowed, want.Swallowed},
		{"NaN", st.NaN, want.NaN},
		{"Inf", st.Inf, want.Inf},
		{"InputNaN", st.InputNaN, want.InputNaN},
		{"InputInf", st.InputInf, want.InputInf},
		{"Overflow", st.Overflow, want.Overflow},
	} {
		if x.got != x.want {
			t.Errorf("%s: %s is %d, want %d", label, x.name, x.got, x.want)
		}
	}
	// Both sides add in float64 in an order of their own.
	for _, x := range []struct {
		name             string
		got, want, scale float64
	}{
		{"Delta2", st.Delta2, want.Delta2, want.Delta2},
		{"Aligned2", st.Aligned2, want.Aligned2, want.Aligned2},
		{"Step2", st.Step2, want.Step2, want.Step2},
		{"StepDelta", st.StepDelta, want.StepDelta, want.StepDeltaScale},
	} {
		if !(math.Abs(x.got-x.want) <= 1e-12*x.scale) {
			t.Errorf("%s: %s is %g, want %g", label, x.name, x.got, x.want)
		}
	}
}
