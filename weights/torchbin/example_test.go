package torchbin_test

import (
	"fmt"
	"log"
	"os"

	"expo/weights/torchbin"
)

func ExampleNewReader() {
	f, err := os.Open("testdata/module_state.bin")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		log.Fatal(err)
	}
	r, err := torchbin.NewReader(f, info.Size())
	if err != nil {
		log.Fatal(err)
	}
	for t := range r.Tensors() {
		fmt.Println(t.Name, t.DType, t.Shape)
	}
	// Output:
	// 0.weight F32 [2 3]
	// 0.bias F32 [2]
	// 1.weight F32 [2]
	// 1.bias F32 [2]
	// 2.weight F32 [2]
	// 2.bias F32 [2]
	// 2.running_mean F32 [2]
	// 2.running_var F32 [2]
	// 2.num_batches_tracked I64 []
}
