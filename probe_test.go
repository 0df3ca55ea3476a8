package expo

import "testing"

// TestThin checks that a sample is spread over the whole and about as large as
// was asked for.
func TestThin(t *testing.T) {
	var units []probeUnit
	for i := range 1000 {
		units = append(units, probeUnit{step: i, n: probeBlock})
	}
	for _, budget := range []int64{0, 1000 * probeBlock, 5000 * probeBlock} {
		if got := thin(units, budget); len(got) != len(units) {
			t.Errorf("budget %d: %d units of %d", budget, len(got), len(units))
		}
	}
	for _, n := range []int64{500, 333, 100, 10, 1} {
		got := thin(units, n*probeBlock)
		if len(got) == 0 || int64(len(got)) > n+1 || int64(len(got)) < n/2 {
			t.Errorf("budget of %d units: %d", n, len(got))
			continue
		}
		if first, last := got[0].step, got[len(got)-1].step; n > 1 && (first > 1000/int(n) || last < 999-2000/int(n)) {
			t.Errorf("budget of %d units: from %d to %d", n, first, last)
		}
	}
}

func TestDiffering(t *testing.T) {
	x := []byte{1, 2, 3, 4, 5, 6, 7, 8}
	for _, tt := range []struct {
		y    []byte
		bits int
		want difference
	}{
		{[]byte{1, 2, 3, 4, 5, 6, 7, 8}, 16, difference{}},
		{[]byte{1, 2, 3, 0, 0, 6, 7, 8}, 8, difference{2, 3}},
		{[]byte{1, 2, 3, 0, 0, 6, 7, 8}, 16, difference{2, 1}},
		{[]byte{1, 2, 0, 0, 5, 6, 7, 8}, 16, difference{1, 1}},
		{[]byte{0, 0, 0, 0, 0, 0, 0, 0}, 64, difference{1, 0}},
		{[]byte{1, 2, 3, 0, 5, 6, 7, 8}, 4, difference{1, 6}},
		{[]byte{1, 2, 3, 0, 5, 6, 7, 8}, 6, difference{1, 4}},
	} {
		if got := differing(x, tt.y, tt.bits); got != tt.want {
			t.Errorf("%v of %d bits: %+v, want %+v", tt.y, tt.bits, got, tt.want)
		}
	}
}
