package judge

import (
	"context"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"expo/lm/generate"
)

// Rating is a judge's mark as FastChat records it: an integer, or a decimal
// with a point; -1 if there is none. It is a JSON number.
type Rating = json.Number

// Unrated is the rating of a reply in which none was found.
const Unrated Rating = "-1"

// Digits are ASCII's, where Python's \d takes those of every script.
var (
	rating       = regexp.MustCompile(`\[\[([0-9]+\.?[0-9]*)\]\]`)
	ratingBackup = regexp.MustCompile(`\[([0-9]+\.?[0-9]*)\]`)
)

// ParseRating finds the rating in a reply: the first number in double
// brackets, or else the first in single ones. Any number counts; MT-Bench's
// are from 1 to 10, see InRange. A number with a point is written as Python
// writes a float: 8. is 8.0.
func ParseRating(reply string) Rating {
	m := rating.FindStringSubmatch(reply)
	if m == nil {
		m = ratingBackup.FindStringSubmatch(reply)
	}
	if m == nil {
		return Unrated
	}
	x, err := strconv.ParseFloat(m[1], 64)
	if err != nil { // too large for any rating
		return Unrated
	}
	if !strings.Contains(m[1], ".") {
		if s := strings.TrimLeft(m[1], "0"); s != "" {
			return Rating(s)
		}
		return "0"
	}
	s := strconv.FormatFloat(x, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return Rating(s)
}

// InRange reports whether a rating is one of those that were asked for.
func InRange(x float64) bool { return x >= 1 && x <= 10 }

// Reply is what a judge answered when it was asked, perhaps several times, for
// something that can be read.
type Reply struct {
	generate.Response
	Tries int // how often it was asked in all
	OK    bool
}

// AskUntil has a judge reply until ok accepts the reply, tries times at most. The
// last reply is returned either way. record, if not nil, is told of each reply
// before anything else happens, with its number from 0, and earlier, if not
// nil, may know it from before.
func AskUntil(ctx context.Context, g generate.Generator, r generate.Request, tries int, ok func(text string) bool, earlier func(try int) (generate.Response, bool, error), record func(try int, resp generate.Response) error) (Reply, error) {
	var out Reply
	for try := range max(tries, 1) {
		resp, known, err := generate.Response{}, false, error(nil)
		if earlier != nil {
			if resp, known, err = earlier(try); err != nil {
				return out, err
			}
		}
		if !known {
			if ctx.Err() != nil {
				return out, context.Cause(ctx)
			}
			r.Sample = try // another seed, where a judge samples
			if resp, err = g.Generate(ctx, r); err != nil {
				return out, err
			}
			if record != nil {
				if err := record(try, resp); err != nil {
					return out, err
				}
			}
		}
		out = Reply{Response: resp, Tries: try + 1, OK: ok(resp.Text)}
		if out.OK {
			break
		}
	}
	return out, nil
}
