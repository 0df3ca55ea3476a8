package quant

import (
	"slices"
	"testing"
)

func TestImplementations(t *testing.T) {
	names := Implementations()
	if len(names) == 0 || names[len(names)-1] != "portable" {
		t.Fatalf("Implementations() = %q, want the last to be portable", names)
	}
	for _, name := range names {
		restore, err := Use(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := inUse.String(); got != name {
			t.Errorf("in use after Use(%q): %s", name, got)
		}
		restore()
		if got := inUse.String(); got != names[0] {
			t.Errorf("in use after restore: %s, want the best, %s", got, names[0])
		}
	}
	if _, err := Use("abacus"); err == nil {
		t.Error(`Use("abacus"): no error`)
	}
	if slices.Contains(names, "avx2") == (best() < avx2) {
		t.Errorf("Implementations() = %q, best is %v", names, best())
	}
}

// everywhere runs f under every implementation present.
func everywhere(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	for _, name := range Implementations() {
		t.Run(name, func(t *testing.T) {
			under(t, name)
			f(t)
		})
	}
}

// under selects an implementation until the end of the test.
func under(t testing.TB, name string) {
	restore, err := Use(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(restore)
}
