package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"expo/lm/generate"
)

var (
	// ErrKey is in the chain of errors about a missing or refused key.
	ErrKey = errors.New("the API key is missing, wrong, or not allowed to do this")

	// ErrBudget is in the chain of the error of a request that was not sent
	// because it could cost more than is left, or that a server refused
	// because the account is empty.
	ErrBudget = errors.New("no money left")

	// ErrUnsupported is in the chain of errors about what a server does not
	// offer, such as the log-probabilities of a prompt.
	ErrUnsupported = errors.New("the server does not offer this")
)

// Error is a failure of a server.
type Error struct {
	Server  string // its URL, without a password
	Status  int    // of HTTP; 0 if there was no answer
	Code    string // of the server's own, as "rate_limit_exceeded"
	Param   string // the field that the server objects to
	Message string // the server's words, on one line
	Err     error  // what is behind it, if it is not the server's word

	retryAfter time.Duration // that the server asks for; −1 if it does not
	again      bool          // another time it may succeed
	atOnce     bool          // without waiting
	answered   bool          // the server had begun to answer, so tokens may be charged
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("openai: " + e.Server)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": status %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Code != "" {
		b.WriteString(" (" + e.Code + ")")
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the classes that the error belongs to.
func (e *Error) Unwrap() []error {
	var list []error
	if e.Err != nil {
		list = append(list, e.Err)
	}
	switch {
	case e.quota():
		list = append(list, ErrBudget)
	case e.Status == 401 || e.Status == 403:
		list = append(list, ErrKey)
	case e.Status == 400 || e.Status == 413 || e.Status == 422:
		list = append(list, generate.ErrRequest)
	}
	return list
}

// quota reports whether the account is empty, which waiting does not change.
func (e *Error) quota() bool {
	return e.Code == "insufficient_quota" || e.Code == "billing_hard_limit_reached" || e.Status == http.StatusPaymentRequired
}

// hopeless reports whether the failure is of the server, whatever it is asked:
// a key that it does not take, an empty account, an address where there is no
// API or not this model. What it also says to a single request, as gateways
// refuse one for its content, tells this only of a server that has not worked
// yet.
func (e *Error) hopeless(worked bool) bool {
	switch {
	case e.quota(), e.Status == 401:
		return true
	case worked:
		return false
	}
	return e.Status == 403 || e.Status == 404 || e.Status == 405 || e.Status/100 == 3
}

// errorReply is the error object of an answer. Some servers put a plain text
// in its place, and a number in place of the code.
type errorReply struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Param   any    `json:"param"`
	Code    any    `json:"code"`
}

func (e *errorReply) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &e.Message) == nil {
		return nil
	}
	type plain errorReply
	return json.Unmarshal(b, (*plain)(e))
}

// failure makes the error of an answer with this status and body.
func (f *Fleet) failure(s *server, resp *http.Response, body []byte) *Error {
	e := &Error{Server: s.name(), Status: resp.StatusCode, retryAfter: retryAfter(resp.Header, time.Now())}
	var doc struct {
		Error   *errorReply     `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"` // FastAPI's
	}
	switch err := json.Unmarshal(body, &doc); {
	case err != nil:
		e.Message = string(body)
		if kind := mediaType(resp); kind == "text/html" {
			e.Message = "" // a page says nothing on one line
		}
	case doc.Error != nil:
		e.Message = doc.Error.Message
		e.Param, _ = doc.Error.Param.(string)
		if e.Code, _ = doc.Error.Code.(string); e.Code == "" {
			e.Code = doc.Error.Type
		}
	case doc.Message != "":
		e.Message = doc.Message
	case doc.Detail != nil:
		e.Message = string(doc.Detail)
	}
	if to := resp.Header.Get("Location"); resp.StatusCode/100 == 3 && to != "" {
		e.Message = "redirects to " + to + "; use the address that it leads to as the base URL"
	}
	e.Message = f.clean(e.Message)
	e.Code = f.clean(e.Code)
	switch e.Status {
	case 408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529:
		e.again = !e.quota()
	}
	return e
}

// keys is what API keys look like; servers quote a wrong one, or a part of it.
var keys = regexp.MustCompile(`\b(sk|hf|gsk|xai|nvapi)[-_][A-Za-z0-9_*.\-]{4,}`)

// clean makes a server's words fit for a line: short, and without the key.
func (f *Fleet) clean(s string) string {
	if f.opt.APIKey != "" {
		s = strings.ReplaceAll(s, f.opt.APIKey, "[key]")
	}
	s = keys.ReplaceAllString(s, "[key]")
	return clip(strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " "), 500)
}

// clip shortens s to n bytes at most.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

func mediaType(resp *http.Response) string {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return kind
}

// retryAfter is how long a server wants to be left alone: retry-after-ms, or
// Retry-After in seconds or as a date (RFC 9110, 10.2.3); −1 if it says
// nothing.
func retryAfter(h http.Header, now time.Time) time.Duration {
	const most = 24 * time.Hour
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms >= 0 {
		return time.Duration(min(ms, float64(most/time.Millisecond)) * float64(time.Millisecond))
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(v, 64); err == nil && s >= 0 {
		return time.Duration(min(s, most.Seconds()) * float64(time.Second))
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(t.Sub(now), 0), most)
	}
	return -1
}
