package alpacaeval

import (
	"context"
	"testing"
)

// BenchmarkModel measures what scoring one model takes, from preferences and
// lengths in memory.
func BenchmarkModel(b *testing.B) {
	j, ref, gamed := synthetic(805, 1)
	b.Run("win rate", func(b *testing.B) {
		for b.Loop() {
			NewWinRate(j.Preferences())
		}
	})
	for _, c := range []struct {
		name string
		opt  LCOptions
	}{{"given C", LCOptions{Gamed: gamed, C: 2.7825594022071258}}, {"chosen C", LCOptions{Gamed: gamed}}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := LengthControlled(j, ref, c.opt); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("1000 draws", func(b *testing.B) {
		opt := LCOptions{Gamed: gamed, C: 2.7825594022071258}
		lc, err := LengthControlled(j, ref, opt)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, err := (Bootstrap{}).LCInterval(context.Background(), j, ref, opt, lc); err != nil {
				b.Fatal(err)
			}
		}
	})
}
