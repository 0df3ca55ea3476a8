package expo_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"expo"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// TestRanges checks that any range of bytes equals the slice of a full read,
// from many goroutines at once.
func TestRanges(t *testing.T) {
	sft, aligned := large(tensor.BF16, 7)
	// Rows that only the aligned model has end the tensor inside a block.
	embed := aligned.Tensor("embed.weight")
	sft.Set(checkpointtest.Raw("embed.weight", tensor.BF16, []int{500, 1000}, checkpointtest.Bytes(sft.Tensor("embed.weight"))[:2*500*1000]))
	sft.Config, aligned.Config = `{"vocab_size": 500}`, fmt.Sprintf(`{"vocab_size": %d}`, embed.Shape[0])
	p := memoryPair(t, sft, aligned)
	for _, opt := range []expo.Options{
		{Alpha: 0.3},
		{Alpha: 0.3, Rounding: expo.PerOp},
		{Alpha: 0.3, Rounding: expo.Stochastic, Seed: 3},
		{Alpha: 0.3, DType: tensor.F32},
	} {
		opt.ExtraRows = expo.ExtraRowsAligned
		c := extrapolate(t, p, opt)
		for x := range c.Tensors() {
			full := checkpointtest.Bytes(x)
			var wg sync.WaitGroup
			for worker := range 4 {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(uint64(worker), 8))
					for range 12 {
						off := r.Int64N(x.Size())
						n := r.Int64N(min(x.Size()-off, 300_000) + 1)
						b := make([]byte, n)
						if err := tensor.ReadFull(x.Data, b, off); err != nil {
							t.Errorf("%s: %d bytes at %d: %v", x.Name, n, off, err)
						} else if string(b) != string(full[off:off+n]) {
							t.Errorf("%v: %s: %d bytes at %d differ from the full read", opt.Rounding, x.Name, n, off)
						}
					}
				})
			}
			wg.Wait()
		}
	}
}

// TestReadAtContract checks the corners of io.ReaderAt.
func TestReadAtContract(t *testing.T) {
	s, a := checkpointtest.Pair(1, tensor.F32)
	x, _ := extrapolate(t, memoryPair(t, s, a), expo.Options{Alpha: 0.3}).Tensor("model.norm.weight")
	size := x.Size()
	for _, tt := range []struct {
		n       int
		off     int64
		want    int
		wantErr error
	}{
		{0, 0, 0, nil}, {0, size, 0, nil}, {1, size, 0, io.EOF}, {1, size + 9, 0, io.EOF},
		{int(size), 0, int(size), nil}, {int(size) + 1, 0, int(size), io.EOF}, {10, size - 3, 3, io.EOF}, {3, size - 3, 3, nil}, {3, 1, 3, nil},
	} {
		n, err := x.Data.ReadAt(make([]byte, tt.n), tt.off)
		if n != tt.want || !errors.Is(err, tt.wantErr) {
			t.Errorf("ReadAt(%d bytes, %d) = %d, %v, want %d, %v", tt.n, tt.off, n, err, tt.want, tt.wantErr)
		}
	}
	if n, err := x.Data.ReadAt(make([]byte, 1), -1); n != 0 || err == nil || err == io.EOF {
		t.Errorf("ReadAt(-1) = %d, %v", n, err)
	}
}

// TestReadError checks that a failing input is named.
func TestReadError(t *testing.T) {
	s, a := checkpointtest.Pair(1, tensor.F32)
	broken := s.Tensor("model.norm.weight")
	broken.Data = tensor.Bytes(nil)
	s.Set(broken)
	x, _ := extrapolate(t, memoryPair(t, s, a), expo.Options{Alpha: 0.3}).Tensor("model.norm.weight")
	_, err := x.Data.ReadAt(make([]byte, 8), 0)
	if want := "expo: reading model.norm.weight: unexpected EOF"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
