package mtbench

import (
	"slices"
	"strings"
	"testing"

	"expo/eval/judge"
)

// TestComplete checks what counts as a complete set of judgments.
func TestComplete(t *testing.T) {
	full := func(change func(j *Judgment) bool) []Judgment {
		var js []Judgment
		for id := firstQuestion; id <= lastQuestion; id++ {
			for turn := 1; turn <= 2; turn++ {
				j := Judgment{QuestionID: id, Model: "m", Judge: []string{"j"}, Score: "7", Turn: turn}
				if change == nil || change(&j) {
					js = append(js, j)
				}
			}
		}
		return js
	}
	var own []Question // with numbers of their own
	var ofOwn []Judgment
	for id := range 80 {
		own = append(own, Question{ID: 1000 + id, Category: "own", Turns: []string{"a", "b"}})
		for turn := 1; turn <= 2; turn++ {
			ofOwn = append(ofOwn, Judgment{QuestionID: 1000 + id, Model: "m", Score: "7", Turn: turn})
		}
	}
	for _, tt := range []struct {
		name             string
		js               []Judgment
		questions        []Question
		complete         bool
		missing, unknown []int
		says             []string
	}{
		{"all", full(nil), nil, true, nil, nil, nil},
		{"one cannot be read", full(func(j *Judgment) bool {
			if j.QuestionID == 90 && j.Turn == 2 {
				j.Score = judge.Unrated
			}
			return true
		}), nil, true, nil, nil, nil},
		{"renamed", full(func(j *Judgment) bool {
			if j.QuestionID == 81 {
				j.QuestionID = 999
			}
			return true
		}), nil, false, []int{81}, []int{999}, []string{"not all turns of question 81 are judged", "ratings of question 999, not of this set"}},
		{"one more", append(full(nil), Judgment{QuestionID: 7, Model: "m", Judge: []string{"j"}, Score: "7", Turn: 1}), nil, false, nil, []int{7}, []string{"question 7"}},
		{"a turn is missing", full(func(j *Judgment) bool { return j.QuestionID != 100 || j.Turn == 1 }), nil, false, []int{100}, nil, []string{"159 of 160", "question 100"}},
		{"many are missing", full(func(j *Judgment) bool { return j.QuestionID >= 88 }), nil, false, []int{81, 82, 83, 84, 85, 86, 87}, nil, []string{"questions 81, 82, 83, 84, 85 and 2 more"}},
		{"another set", ofOwn, own, true, nil, nil, nil},
		{"of another set", full(nil), own, false, nil, nil, []string{"not of this set"}},
	} {
		s := Score(tt.js, ScoreOptions{Questions: tt.questions, Draws: -1})[0]
		if s.Complete() != tt.complete {
			t.Errorf("%s: complete is %v, want %v", tt.name, s.Complete(), tt.complete)
		}
		if tt.name != "of another set" && (!slices.Equal(s.Missing, tt.missing) || !slices.Equal(s.Unknown, tt.unknown)) {
			t.Errorf("%s: missing %v and unknown %v, want %v and %v", tt.name, s.Missing, s.Unknown, tt.missing, tt.unknown)
		}
		all := strings.Join(s.Warnings(), "\n")
		for _, says := range tt.says {
			if !strings.Contains(all, says) {
				t.Errorf("%s: %q does not say %q", tt.name, all, says)
			}
		}
	}
}
