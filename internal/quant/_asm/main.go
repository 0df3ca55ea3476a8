// Command asm writes the amd64 assembly of package quant. Run it through
// "go generate" in that package, which calls it once for each part.
//
// dot32.go and dotk.go describe the products of rows with one and with several
// vectors, activations.go the rounding of a vector, dequantize.go the conversion
// to float32. vec.go holds what they share.
package main

import (
	"flag"
	"log"

	. "github.com/mmcloughlin/avo/build"
)

func main() {
	part := flag.String("part", "", "which file to write: dot32, dotk, activations, dequantize")
	flag.Parse()
	ConstraintExpr("!purego")
	switch *part {
	case "dot32":
		dot32()
	case "dotk":
		dotK()
	case "activations":
		activations()
	case "dequantize":
		dequantize()
	default:
		log.Fatalf("no part %q", *part)
	}
	Generate()
}
