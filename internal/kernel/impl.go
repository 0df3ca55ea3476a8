package kernel

import (
	"fmt"
	"slices"
	"strings"
)

// An implementation is a set of inner loops, named by the instructions it uses.
// Better ones are larger. The fast functions of the platform files look at the
// one in use and return how many leading elements they took care of; the
// portable loop does the rest.
type implementation uint8

const (
	portable implementation = iota
	avx2
	avx512
	avx512bf16 // avx512, and VDPBF16PS for products of bfloat16
	amx        // avx512bf16, but TDPBF16PS for those with stored matrices
)

func (i implementation) String() string {
	return [...]string{"portable", "avx2", "avx512", "avx512bf16", "amx"}[i]
}

// inUse is chosen when the program starts.
var inUse = best()

// Implementations lists what this machine can run, best first, always ending in
// "portable".
func Implementations() []string {
	var names []string
	for i := best(); i > portable; i-- {
		names = append(names, i.String())
	}
	return append(names, portable.String())
}

// Use selects an implementation by name, for tests, benchmarks, and programs that want the
// same bits on every machine that has it, and returns a
// function that restores the former one. It must not be called while anything
// else of this package runs.
func Use(name string) (restore func(), err error) {
	names := Implementations()
	k := slices.Index(names, name)
	if k < 0 {
		return nil, fmt.Errorf("kernel: no implementation %q here, have %s", name, strings.Join(names, ", "))
	}
	former := inUse
	inUse = implementation(len(names) - 1 - k)
	return func() { inUse = former }, nil
}
