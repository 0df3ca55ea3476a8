package expo_test

import (
	"fmt"
	"log"

	"expo"
	"expo/weights/checkpoint"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// A pair need not come from files, and nothing is computed before it is read.
func ExampleExtrapolate() {
	model := func(name string, vals ...float32) *checkpoint.Checkpoint {
		w := checkpointtest.Floats("w", tensor.F32, []int{len(vals)}, vals)
		c, err := checkpoint.New(name, []checkpoint.Shard{{File: "model.safetensors", Tensors: []tensor.Tensor{w}}}, nil)
		if err != nil {
			log.Fatal(err)
		}
		return c
	}
	p := expo.Pair{SFT: model("sft", 1, 1, 1), Aligned: model("aligned", 1, 2, 0.5)}
	c, err := expo.Extrapolate(p, expo.Options{Alpha: 0.5})
	if err != nil {
		log.Fatal(err)
	}
	w, _ := c.Tensor("w")
	v := make([]float32, 2)
	if err := w.ReadFloat32(v, 1); err != nil {
		log.Fatal(err)
	}
	fmt.Println(v)
	// Output: [2.5 0.25]
}
