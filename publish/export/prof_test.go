package export

import (
	"context"
	"testing"

	"expo/weights/checkpoint"
)

func TestProf(t *testing.T) {
	c, err := checkpoint.Open("/work/tmp/export/mid")
	if err != nil {
		t.Skip(err)
	}
	for range 4 {
		_, err = Write(context.Background(), []File{{Path: "/work/tmp/export/p.gguf", Type: Q4_1, Weights: c}}, Options{Force: true, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
	}
}
