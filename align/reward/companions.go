package reward

import (
	"strings"
	"unicode/utf8"

	"expo/lm/generate"
)

// Companions are what must be seen beside the reward of an answer: models learn
// to be rewarded by length, by repetition and by never ending.
type Companions struct {
	Characters int `json:"characters"` // code points, as AlpacaEval counts
	Words      int `json:"words"`      // between white space
	Tokens     int `json:"tokens"`     // without a final end token; 0 where the server told none

	// Distinct1 and Distinct2 are the shares of different words, and of
	// different pairs of neighbouring words; see [Distinct].
	Distinct1 float64 `json:"distinct_1"`
	Distinct2 float64 `json:"distinct_2"`
	// Repetition is the share of groups of 4 words that were there before; see
	// [Repetition].
	Repetition float64 `json:"repetition"`
	// Looping says that the answer ends in a loop; see [FindLoop].
	Looping bool `json:"looping"`
	// Finished says that the model ended the answer; see [Finished].
	Finished bool `json:"finished"`
}

// Measure gives the companions of an answer.
func Measure(r generate.Response) Companions {
	c := Length(r)
	words := strings.Fields(r.Text)
	c.Distinct1, c.Distinct2 = Distinct(1, words), Distinct(2, words)
	c.Repetition = Repetition(words)
	_, c.Looping = FindLoop(r.Text)
	c.Finished = Finished(r)
	return c
}

// Length fills in the three lengths of an answer and nothing else.
func Length(r generate.Response) Companions {
	c := Companions{Characters: utf8.RuneCountInString(r.Text), Words: len(strings.Fields(r.Text))}
	c.Tokens = len(r.Tokens)
	switch {
	case c.Tokens == 0:
		c.Tokens = r.Usage.CompletionTokens
	case r.Text == "" && r.FinishReason == generate.Stop:
		c.Tokens = 0
	case r.FinishReason == generate.Stop:
		c.Tokens--
	}
	return c
}

// A Summary is the mean of the companions of N answers, shares 0…1 where they
// are true or false. Without answers everything is 0.
type Summary struct {
	N          int     `json:"n"`
	Characters float64 `json:"characters"`
	Words      float64 `json:"words"`
	Tokens     float64 `json:"tokens"`
	Distinct1  float64 `json:"distinct_1"`
	Distinct2  float64 `json:"distinct_2"`
	Repetition float64 `json:"repetition"`
	Looping    float64 `json:"looping"`
	Finished   float64 `json:"finished"`
}

// Summarize averages companions, in their order.
func Summarize(cs []Companions) Summary {
	s := Summary{N: len(cs)}
	share := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	for _, m := range []struct {
		to *float64
		of func(c *Companions) float64
	}{
		{&s.Characters, func(c *Companions) float64 { return float64(c.Characters) }},
		{&s.Words, func(c *Companions) float64 { return float64(c.Words) }},
		{&s.Tokens, func(c *Companions) float64 { return float64(c.Tokens) }},
		{&s.Distinct1, func(c *Companions) float64 { return c.Distinct1 }},
		{&s.Distinct2, func(c *Companions) float64 { return c.Distinct2 }},
		{&s.Repetition, func(c *Companions) float64 { return c.Repetition }},
		{&s.Looping, func(c *Companions) float64 { return share(c.Looping) }},
		{&s.Finished, func(c *Companions) float64 { return share(c.Finished) }},
	} {
		sum := 0.0
		for i := range cs {
			sum += m.of(&cs[i])
		}
		*m.to = sum / float64(max(len(cs), 1))
	}
	return s
}
