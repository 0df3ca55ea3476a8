package cli_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"expo/internal/cli"
	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// TestMain lets scripts, and tests that kill it, run this binary as expo.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"expo": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}})
}

func TestScripts(t *testing.T) {
	pair, err := filepath.Abs(filepath.Join("..", "..", "demo", "pair"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PAIR", pair)
			env.Setenv("STORIES", filepath.Join(testdata(), "stories260K"))
			env.Setenv("HF_HUB_CACHE", filepath.Join(env.WorkDir, "hub"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "stories" { // a small real model, where the shared test data is
				_, err := os.Stat(filepath.Join(testdata(), "stories260K", "hf", "config.json"))
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"mkmodel": mkmodel, "flip": flip, "status": status, "size": size,
		},
	})
}

// testdata is the folder of data that is not ours to keep here.
func testdata() string {
	if dir := os.Getenv("EXPO_TESTDATA"); dir != "" {
		return dir
	}
	dir, _ := filepath.Abs(filepath.Join("..", "..", "..", "shared", "data"))
	return dir
}

// mkmodel DIR CONFIG SEED name:DTYPE:RxC[:values]... makes a model of random
// values; values is a comma-separated list in place of them.
func mkmodel(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: mkmodel DIR CONFIG SEED name:DTYPE:RxC[:values]...")
	}
	dir := ts.MkAbs(args[0])
	seed, err := strconv.ParseUint(args[2], 10, 64)
	ts.Check(err)
	var tensors []tensor.Tensor
	for _, arg := range args[3:] {
		f := strings.Split(arg, ":")
		d, err := tensor.ParseDType(f[1])
		ts.Check(err)
		t := tensor.Tensor{Name: f[0], DType: d, Shape: []int{}}
		for _, dim := range strings.Split(f[2], "x") {
			n, err := strconv.Atoi(dim)
			ts.Check(err)
			t.Shape = append(t.Shape, n)
		}
		r := rand.New(rand.NewPCG(seed, uint64(len(tensors))))
		var data []byte
		for i := range t.Elements() {
			x := r.NormFloat64() * 0.02
			if len(f) > 3 {
				list := strings.Split(f[3], ",")
				x, err = strconv.ParseFloat(list[int(i)%len(list)], 64)
				ts.Check(err)
			}
			data = append(data, encode(ts, d, x)...)
		}
		t.Data = tensor.Bytes(data)
		tensors = append(tensors, t)
	}
	safetensors.Sort(tensors)
	var b bytes.Buffer
	ts.Check(safetensors.Write(&b, tensors, map[string]string{"format": "pt"}))
	ts.Check(os.MkdirAll(dir, 0o777))
	ts.Check(os.WriteFile(filepath.Join(dir, "model.safetensors"), b.Bytes(), 0o666))
	if args[1] != "-" {
		ts.Check(os.WriteFile(filepath.Join(dir, "config.json"), []byte(args[1]), 0o666))
	}
}

func encode(ts *testscript.TestScript, d tensor.DType, x float64) []byte {
	switch d {
	case tensor.BF16:
		return binary.LittleEndian.AppendUint16(nil, uint16(math.Float32bits(float32(x))>>16))
	case tensor.F32:
		return binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(x)))
	case tensor.I64:
		return binary.LittleEndian.AppendUint64(nil, uint64(int64(x*1000)))
	case tensor.U8, tensor.BOOL:
		return []byte{byte(x)}
	}
	ts.Fatalf("mkmodel: no %v", d)
	return nil
}

// flip FILE OFFSET inverts a byte; a negative offset counts from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	b := []byte(ts.ReadFile(args[0]))
	i, err := strconv.Atoi(args[1])
	ts.Check(err)
	if i < 0 {
		i += len(b)
	}
	b[i] ^= 0xff
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o666))
}

// size FILE BYTES cuts a file.
func size(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), n))
}

// status N COMMAND... runs a command and checks its exit status, and that it
// neither panicked nor printed an error of more than one line per difference.
func status(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		if _, e := fmt.Sscanf(err.Error(), "exit status %d", &got); e != nil {
			ts.Fatalf("%v", err)
		}
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
	stderr := ts.ReadFile("stderr")
	if strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "panic") {
		ts.Fatalf("panicked:\n%s", stderr)
	}
	if want != 0 && !strings.Contains(stderr, "error") {
		ts.Fatalf("says nothing about its failure")
	}
}
