package mtbench

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"expo/eval/judge"
)

// BenchmarkScore reads and scores eleven models, 1,760 ratings of the usual
// length.
func BenchmarkScore(b *testing.B) {
	var js []Judgment
	for m := range 11 {
		for i := range 160 {
			js = append(js, Judgment{QuestionID: 81 + i/2, Model: fmt.Sprint("model ", m), Judge: []string{"j", "single-v1"}, UserPrompt: strings.Repeat("asked ", 500),
				Judgment: strings.Repeat("because ", 100), Score: judge.Rating(fmt.Sprint(1 + (i*7+m)%10)), Turn: 1 + i%2, Tstamp: 1.5})
		}
	}
	var file bytes.Buffer
	if err := Write(&file, js); err != nil {
		b.Fatal(err)
	}
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(file.Len()))
		for b.Loop() {
			if _, _, err := ReadJudgments(bytes.NewReader(file.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, draws := range []int{-1, 2000} {
		b.Run(fmt.Sprint("score, draws ", draws), func(b *testing.B) {
			for b.Loop() {
				Score(js, ScoreOptions{Draws: draws})
			}
		})
	}
}
