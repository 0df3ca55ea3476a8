package serve

import "testing"

// TestOffsets has a character cut among tokens, which the first of them counts.
func TestOffsets(t *testing.T) {
	for _, c := range []struct {
		b    string
		want int
	}{{"", 0}, {"wörld", 5}, {"\xf0\x9f", 1}, {"\x98", 0}, {"\x80a", 1}, {"😀", 1}} {
		if got := characters([]byte(c.b)); got != c.want {
			t.Errorf("%q: %d, want %d", c.b, got, c.want)
		}
	}
}
