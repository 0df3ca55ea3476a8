// Package mtbench measures a model by MT-Bench (Zheng et al. 2023,
// https://arxiv.org/abs/2306.05685): 80 questions of two turns each, and a
// judge that rates each answer from 1 to 10, or prefers one of two.
//
// Start at [Answerer], which has the questions answered; [Judge] has answers
// rated or compared; [Score] and [ScorePairs] compute the figures. Questions,
// reference answers and judge prompts are not part of the program; see
// [Sources] for where they are.
//
// The definitions, and the files in and out, are those of FastChat
// (https://github.com/lm-sys/FastChat/tree/main/fastchat/llm_judge, commit
// 0e6d3e4b), so either program goes on where the other stopped. It departs
// from FastChat where that loses or invents results: a question that could not
// be answered stays open and is never judged, a rating that stands in a file
// twice counts once, and figures of an incomplete run say so. Prompts go
// through the model's own chat template, without a system message, where
// FastChat has a template for each model's name.
//
// Every answer and every reply of the judge is in an eval.Log before it is
// used; what is there is not asked for again.
package mtbench

import (
	"crypto/sha256"
	"math/big"
	"slices"
)

// Version names the definition, for results.
const Version = "FastChat 0e6d3e4b"

// Question is one of the 80, two turns of a user.
type Question struct {
	ID       int      `json:"question_id"`
	Category string   `json:"category"`
	Turns    []string `json:"turns"`
	// Reference answers of some questions. The judge is shown those of
	// reference_answer/gpt-4.jsonl and not these.
	Reference []string `json:"reference,omitempty"`
	// RequiredTemperature is used in place of the category's.
	RequiredTemperature *float64 `json:"required_temperature,omitempty"`
}

// Answer is a model's answers to a question. FastChat names the model by the
// file that it is in, not by ModelID.
type Answer struct {
	QuestionID int      `json:"question_id"`
	AnswerID   string   `json:"answer_id"`
	ModelID    string   `json:"model_id"`
	Choices    []Choice `json:"choices"` // the first one is judged
	Tstamp     float64  `json:"tstamp"`  // seconds since 1970
}

// Choice is one sample of the answers to all turns.
type Choice struct {
	Index int      `json:"index"`
	Turns []string `json:"turns"`
}

// turns are the answers that are judged; nil if there are none.
func (a *Answer) turns() []string {
	if len(a.Choices) == 0 {
		return nil
	}
	return a.Choices[0].Turns
}

// Source is a file of the benchmark, pinned by its digest.
type Source struct {
	Name   string
	URL    string
	SHA256 string
}

// Sources are the official questions, the prompts of the judge, and gpt-4's
// reference answers (Apache-2.0).
func Sources() (questions, prompts, references Source) {
	const base = "https://raw.githubusercontent.com/lm-sys/FastChat/0e6d3e4beaab66f4d3f93db72541a4abab8af28d/fastchat/llm_judge/data/"
	return Source{"question.jsonl", base + "mt_bench/question.jsonl", "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7"},
		Source{"judge_prompts.jsonl", base + "judge_prompts.jsonl", "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6"},
		Source{"gpt-4.jsonl", base + "mt_bench/reference_answer/gpt-4.jsonl", "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f"}
}

// Categories are MT-Bench's eight, in the order of their questions.
func Categories() []string {
	return []string{"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"}
}

// CategoryOf is the category of a question of MT-Bench by its number, 81 to
// 160; "" for others.
func CategoryOf(id int) string {
	if id < firstQuestion || id > lastQuestion {
		return ""
	}
	return Categories()[(id-firstQuestion)/10]
}

// The numbers of MT-Bench's questions.
const firstQuestion, lastQuestion = 81, 160

// temperature is that at which answers of a category are generated.
func temperature(category string) float64 {
	switch category {
	case "extraction", "math", "coding", "reasoning":
		return 0
	case "stem", "humanities":
		return 0.1
	}
	return 0.7
}

// needsReference reports whether the judge is shown reference answers.
func needsReference(category string) bool {
	return slices.Contains([]string{"math", "reasoning", "coding"}, category)
}

// answerID is an identifier in the form of shortuuid's, made of what is
// identified rather than of chance.
func answerID(parts ...string) string {
	const alphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	n := new(big.Int).SetBytes(h.Sum(nil)[:16])
	base, digit := big.NewInt(int64(len(alphabet))), new(big.Int)
	out := make([]byte, 22)
	for i := range out {
		n.DivMod(n, base, digit)
		out[len(out)-1-i] = alphabet[digit.Int64()]
	}
	return string(out)
}
