// Command asm writes the amd64 assembly of package kernel. Run it through
// "go generate" in that package, which calls it once for each part.
//
// Each generator makes one function for AVX-512 and one for AVX2 from the same
// description; vec.go holds what differs between the two. All functions take a
// count of elements that is a multiple of 32 and not 0.
package main

import (
	"flag"
	"log"

	. "github.com/mmcloughlin/avo/build"
)

func main() {
	part := flag.String("part", "", "which file to write: convert, mix, measure, fused, copy, matmul, matmulprobe, attention, activation, train, sha256")
	flag.Parse()
	ConstraintExpr("!purego")
	switch *part {
	case "convert":
		convert()
	case "mix":
		mix()
	case "measure":
		measure()
	case "fused":
		fused()
	case "copy":
		streamCopy()
	case "matmul":
		matmul()
	case "attention":
		attention()
	case "activation":
		activation()
	case "train":
		train()
	case "amx":
		amx()
	case "sha256":
		digestPair()
		shaExtensions()
	case "matmulprobe":
		probes()
	default:
		log.Fatalf("no part %q", *part)
	}
	Generate()
}
