package main

import (
	"slices"
	"testing"

	"expo/lm/tokenizer"
	"expo/weights/checkpoint"
)

func TestWords(t *testing.T) {
	for text, want := range map[string][]string{
		"":                           nil,
		"Dear Mara, what now?":       {"Dear", " Mara", ",", " what", " now", "?"},
		"Listen, Tom. Best wishes,.": {"Listen", ",", " Tom", ".", " Best", " wishes", ",."},
	} {
		if got := slices.Collect(words(text)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestTrainBPE(t *testing.T) {
	vocab, merges := trainBPE([]string{"low low low lower lower newest newest newest newest"}, len(special)+256+4)
	want := [][2]string{{"w", "e"}, {"l", "o"}, {"e", "we"}, {"ewe", "s"}}
	if len(vocab) != len(special)+260 || !slices.Equal(merges, want) {
		t.Fatalf("%d tokens, merges %q, want %d and %q", len(vocab), merges, len(special)+260, want)
	}
	files := tokenizerFiles(vocab, merges)
	tok, err := tokenizer.Load(checkpoint.Overlay(nil, files))
	if err != nil {
		t.Fatal(err)
	}
	text := "low newest é\n"
	if got := tok.Decode(tok.Encode(text, false), false); got != text {
		t.Errorf("%q came back as %q", text, got)
	}
	if got := len(tok.Encode(" lower", false)); got != 4 { // Ġ, lo, we, r
		t.Errorf("%d tokens, want 4", got)
	}
}
