package checkpoint_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// A checkpoint that was made in memory is written, and read again.
func Example() {
	parent, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "model")

	made, err := checkpoint.New("made", []checkpoint.Shard{{File: "model.safetensors", Tensors: []tensor.Tensor{
		{Name: "norm.weight", DType: tensor.F32, Shape: []int{2}, Data: tensor.Bytes{0, 0, 128, 63, 0, 0, 0, 64}},
	}}}, checkpoint.Overlay(nil, map[string][]byte{"config.json": []byte(`{"dtype": "float32"}`)}))
	if err != nil {
		log.Fatal(err)
	}
	written, err := checkpoint.Write(context.Background(), dir, made, checkpoint.WriteOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range written.Files {
		fmt.Println(f.Name, f.Size, f.SHA256[:8])
	}

	c, err := checkpoint.Open(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for t := range c.Tensors() {
		vals := make([]float32, t.Elements())
		if err := t.ReadFloat32(vals, 0); err != nil {
			log.Fatal(err)
		}
		fmt.Println(t.Name, t.DType, t.Shape, vals)
	}
	// Output:
	// model.safetensors 112 6eedc296
	// config.json 20 cb323c38
	// norm.weight F32 [2] [1 2]
}
