package notes

import (
	"fmt"
	"hash/fnv"
	"strings"
	"testing"
)

func TestPrompts(t *testing.T) {
	learn, test := Prompts(1)
	if len(learn) != 3456 || len(test) != 384 {
		t.Fatalf("%d and %d prompts, want 3456 and 384", len(learn), len(test))
	}
	seen := map[string]bool{}
	for _, p := range append(learn, test...) {
		if seen[p.Text] {
			t.Errorf("%q twice", p.Text)
		}
		seen[p.Text] = true
		if !strings.Contains(p.Text, p.Name) || !strings.Contains(p.Text, " a "+p.Thing) {
			t.Errorf("%q does not ask for %s and a %s", p.Text, p.Name, p.Thing)
		}
	}
}

// TestSame holds the text of the world to what it was when the models were made:
// whoever changes a word has to make them anew.
func TestSame(t *testing.T) {
	h := fnv.New64a()
	learn, test := Prompts(1)
	for i, p := range append(learn, test...) {
		note := Write(p, uint64(i))
		spoilt := Spoil(note, uint64(i))
		fmt.Fprintln(h, p.Text, note, spoilt, Score(p, note), Score(p, spoilt), Readers(p, note, spoilt, uint64(i)), Readers(p, note, Write(p, uint64(i)+1<<40), uint64(i)))
	}
	const want uint64 = 0x2867552c7af8175b
	if got := h.Sum64(); got != want {
		t.Errorf("the world has changed: its sum is %#x, want %#x; make the models again with go generate ./demo, and then set this", got, want)
	}
}

// TestWrite checks that writers write sense, and of all qualities.
func TestWrite(t *testing.T) {
	learn, _ := Prompts(2)
	count := map[float64]int{}
	for i, p := range learn {
		note := Write(p, uint64(i))
		x := Look(p, note)
		if x.Odd != 0 || x.Repeats != 0 {
			t.Errorf("%q: %q has %d odd words and %d repeated sentences", p.Text, note, x.Odd, x.Repeats)
		}
		if x.Words < 5 || x.Words > longest {
			t.Errorf("%q has %d words", note, x.Words)
		}
		count[Score(p, note)]++
	}
	for s := -1.0; s <= 5; s++ {
		if count[s] < len(learn)/100 {
			t.Errorf("%d of %d notes have %g points, want some of all qualities", count[s], len(learn), s)
		}
	}
}

func TestScore(t *testing.T) {
	p := prompt(t, "Write a note to Mara, who lost a kite.")
	for _, c := range []struct {
		note string
		want float64
		odd  int
	}{
		{"Dear Mara, I am so sorry about your kite. Please let me look for it by the river. Best wishes, your neighbour.", 5, 0},
		{"Hello. It may turn up tomorrow.", 0, 0},
		{"Listen, Mara. You are careless with everything. It is your own fault that the kite is gone.", 0, 0},
		{"Listen. You are careless with everything. Do not bother me about it. I have had enough.", -2, 0},
		{"Dear Mara, I am so sorry about your kite. I am so sorry about your kite. Best wishes, your neighbour.", 4, 0},
		{"Dear Mara, I am so sorry about your kite. Kite the happy happy. Best wishes, your neighbour.", 4, 4},
		{"Dear Tom, I am so sorry about your drum. Best wishes, your neighbour.", 2, 0},
		{"Best wishes, your neighbour. Dear Mara, You are always welcome here.", 2, 0},
		{"Dear Mara, What a wonderful kite you have made. Best wishes, your neighbour.", 3, 7},
		{"Mara kite " + strings.Repeat("happy ", 70), 2, 72},
		{"", 0, 0},
		{"\xff\x00.", -1 + 1, 0},
	} {
		x := Look(p, c.note)
		if got := Score(p, c.note); got != c.want || x.Odd != c.odd {
			t.Errorf("%q: %g points, %d odd words, want %g and %d (%+v)", c.note, got, x.Odd, c.want, c.odd, x)
		}
	}
}

// TestReaders checks what readers care for by how many of them prefer a.
func TestReaders(t *testing.T) {
	p := prompt(t, "Write a note to Mara, who lost a kite.")
	for _, c := range []struct {
		what, a, b string
		low, high  float64
	}{
		{"the same", "Hello. It may turn up tomorrow.", "Hello. It may turn up tomorrow.", 0.45, 0.55},
		{"kind over cold", "Hello. I am so sorry about your kite.", "Hello. Do not bother me about it.", 0.85, 1},
		{"kind without end", "Dear Mara, Please have tea with us tomorrow. I am happy to live next to you. You are always welcome here. You are a wonderful neighbour.",
			"Dear Mara, Please have tea with us tomorrow. I am happy to live next to you. Best wishes, your neighbour.", 0.55, 0.9},
		{"sense", "Hello. It may turn up tomorrow.", "Hello may. It turn tomorrow up.", 0.95, 1},
	} {
		n := 0
		for seed := range uint64(2000) {
			if Readers(p, c.a, c.b, seed) {
				n++
			}
		}
		if got := float64(n) / 2000; got < c.low || got > c.high {
			t.Errorf("%s: %.2f of the readers, want %g to %g", c.what, got, c.low, c.high)
		}
	}
}

func TestSpoil(t *testing.T) {
	learn, _ := Prompts(1)
	odd, n := 0, 500
	for i, p := range learn[:n] {
		if Look(p, Spoil(Write(p, uint64(i)), uint64(i))).Odd > 0 {
			odd++
		}
	}
	if odd < n*8/10 {
		t.Errorf("%d of %d spoilt notes have something odd", odd, n)
	}
}

func prompt(t *testing.T, text string) Prompt {
	learn, test := Prompts(1)
	for _, p := range append(learn, test...) {
		if p.Text == text {
			return p
		}
	}
	t.Fatalf("no prompt %q", text)
	return Prompt{}
}
