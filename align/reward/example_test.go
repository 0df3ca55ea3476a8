package reward_test

import (
	"fmt"
	"strings"

	"expo/align/reward"
	"expo/lm/generate"
)

// Three responses to one prompt were compared in all orders; the logits become
// a reward for each, and its probability to beat a response of the same model.
func ExampleRewards() {
	s := reward.Rewards([][]float64{
		{0, 2, 3},
		{-1, 0, 1},
		{-3, -2, 0},
	})
	_, p := reward.WinProbabilities(s)
	for i := range s {
		fmt.Printf("%+.2f wins %.2f\n", s[i], p[i])
	}
	// Output:
	// +3.00 wins 0.82
	// +0.00 wins 0.50
	// -3.00 wins 0.18
}

// An answer that a reward model may like, and a reader does not.
func ExampleMeasure() {
	c := reward.Measure(generate.Response{
		Text:         "I am glad to help. " + strings.Repeat("You are great! ", 20),
		FinishReason: generate.Length,
	})
	fmt.Printf("%d words, %.0f%% repeated, looping %v, finished %v\n", c.Words, 100*c.Repetition, c.Looping, c.Finished)
	// Output: 65 words, 87% repeated, looping true, finished false
}
