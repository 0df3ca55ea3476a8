package mtbench

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// judgmentLines are lines of both kinds, usual and not.
var judgmentLines = []string{
	`{"question_id": 81, "model": "m", "judge": ["gpt-4", "single-v1"], "user_prompt": "a\n\"b\" \u00e9 ü \\ \/ \t", "judgment": "Rating: [[7.5]]", "score": 7.5, "turn": 1, "tstamp": 1.5}`,
	`{"question_id":1,"model_1":"a","model_2":"b","g1_winner":"tie","g2_winner":"error","judge":["j","p"],"g1_user_prompt":"x","g1_judgment":"","g2_user_prompt":"12345678\u201c","g2_judgment":"y","turn":2}`,
	` {"user_prompt" : "😀 \ud83d\ude00" , "judgment" : null , "score" : -1 } `,
	`{"judgment":"a","judgment":"b","score":"7"}`, `{"judgment":"y","Judgment":"x"}`, `{"judgment":"y","Judgment":""}`, `{"Judgment":"x","judgment":"y"}`,
	`{"other":{"judgment":"no","a":[1]},"judgment":"yes"}`, `{"other":[{"judgment":"no"},"]"],"judgment":"yes"}`, `{"other":[[1],2],"judgment":"yes"}`,
	`{"j\u0075dgment":"x"}`, `{"judgment":"\ud83d"}`, `{"judgment":"` + "\xff" + `"}`, `{"judgment":"` + "\x01" + `"}`, `{"judgment":"\q"}`, `{"judgment":"\u12"}`, `{"judgment":3}`,
	`{"judgment":"x"`, `{"judgment":"x"}}`, `{"judgment":"x",}`, `{"judgment":"x" "score":1}`, `x{"judgment":"x"}`, `{"judgment":"x`, `{"judgment":"x\`, `{"judgment"`, `{"judgment":`, `{`, `{}`, ``, `[]`, `null`, `3`,
	`{"model":"a\"b","judgment":"x"}`, `{"score":true,"judgment":"x"}`, `{"turn":1.5,"judgment":"x"}`, `{"judgment":"` + strings.Repeat("abcdefgh", 3) + `\n` + strings.Repeat("é", 9) + `"}`,
}

// sameAsJSON compares decodeJudgment with encoding/json, errors included.
func sameAsJSON(t *testing.T, line []byte) {
	t.Helper()
	var want, got judgmentLine
	wantErr, gotErr := json.Unmarshal(line, &want), decodeJudgment(line, &got)
	if (wantErr == nil) != (gotErr == nil) || wantErr != nil && wantErr.Error() != gotErr.Error() {
		t.Fatalf("%q: %v, want %v", line, gotErr, wantErr)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: %+v, want %+v", line, got, want)
	}
}

func TestDecodeJudgment(t *testing.T) {
	for _, line := range judgmentLines {
		sameAsJSON(t, []byte(line))
	}
	// The usual lines go the fast way.
	for _, line := range judgmentLines[:2] {
		var l judgmentLine
		if rest, ok := l.cut([]byte(line)); !ok || l.UserPrompt+l.G1UserPrompt == "" || strings.Contains(string(rest), "Rating") {
			t.Errorf("%s: what is left is %s", line, rest)
		}
	}
}

func FuzzDecodeJudgment(f *testing.F) {
	for _, line := range judgmentLines {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) { sameAsJSON(t, line) })
}
