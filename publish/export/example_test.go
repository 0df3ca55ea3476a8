package export_test

import (
	"context"
	"fmt"
	"log"

	"expo/publish/export"
	"expo/weights/checkpoint"
)

func ExampleWrite() {
	c, err := checkpoint.Open("model")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	w, err := export.Write(context.Background(), []export.File{
		{Path: "model-Q4_K_M.gguf", Type: export.Q4_K_M, Weights: c},
		{Path: "model-Q8_0.gguf", Type: export.Q8_0, Weights: c},
	}, export.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range w.Files {
		fmt.Println(f.Path, f.Bytes, f.RelativeError)
	}
}
