package reward

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"expo/lm/chat"
)

// A serverError is an answer that is not one, or that there was none
// (status 0).
type serverError struct {
	status int
	text   string        // what to say, without secrets
	wait   time.Duration // Retry-After
	fatal  bool          // no item can succeed
	cause  error
}

func (e *serverError) Error() string { return e.text }
func (e *serverError) Unwrap() error { return e.cause }

// again reports whether the same request may succeed later.
func (e *serverError) again() bool {
	switch e.status {
	case 0, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return e.status >= 500
}

// everyone reports whether no other item can succeed either.
func (e *serverError) everyone() bool {
	switch e.status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound,
		http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return e.fatal
}

// tooLong reports whether the item was refused for its length.
func (e *serverError) tooLong() bool {
	return e.status == http.StatusRequestEntityTooLarge || e.status == http.StatusBadRequest && strings.Contains(e.text, "maximum context length")
}

// maxAnswer bounds the bytes of an answer that are read. Servers that pool all
// tokens send a number for each.
const maxAnswer = 16 << 20

// maxWait bounds the wait before another attempt, unless the server says more.
const maxWait = 30 * time.Second

// A request is what all three endpoints understand, and what versions of vLLM
// call the switch that leaves outputs as they are.
type request struct {
	Model string `json:"model,omitempty"`

	Input    string         `json:"input,omitempty"`
	Messages []chat.Message `json:"messages,omitempty"`
	Text1    *string        `json:"text_1,omitempty"`
	Text2    *string        `json:"text_2,omitempty"`

	EncodingFormat string `json:"encoding_format,omitempty"`
	UseActivation  bool   `json:"use_activation"`
	Activation     bool   `json:"activation"`
	Softmax        bool   `json:"softmax"`
}

// request is the body for an item.
func (r *Remote) request(ctx context.Context, kind string, it Item) ([]byte, error) {
	q := request{Model: r.opt.Model}
	switch {
	case kind == "score":
		prompt, err := promptOf(it)
		if err != nil {
			return nil, err
		}
		q.Text1, q.Text2 = &prompt, &it.Response
	case it.Messages == nil:
		q.Input = it.Prompt + it.Response
		if it.Ended && !strings.HasSuffix(q.Input, r.opt.EOS) {
			q.Input += r.opt.EOS
		}
		if q.Input == "" {
			return nil, errors.New("there is no text")
		}
	default:
		messages := append(it.Messages[:len(it.Messages):len(it.Messages)], chat.Message{Role: "assistant", Content: it.Response})
		if r.opt.Template == nil {
			q.Messages = messages
			break
		}
		text, err := r.opt.Template.Render(ctx, messages, chat.Options{BOS: r.opt.BOS, EOS: r.opt.EOS})
		if err != nil {
			return nil, err
		}
		if r.opt.BOS != "" {
			text = strings.ReplaceAll(text, r.opt.BOS, "")
		}
		q.Input = text
	}
	if kind == "pooling" {
		q.EncodingFormat = "float"
	}
	return json.Marshal(q)
}

// send posts a body until it is answered, and returns the answer: valid JSON.
func (r *Remote) send(ctx context.Context, kind string, body []byte) ([]byte, error) {
	wait := r.opt.Backoff
	for attempt := 1; ; attempt++ {
		answer, err := r.post(ctx, kind, body)
		var fault *serverError
		if err == nil || !errors.As(err, &fault) || !fault.again() || ctx.Err() != nil {
			return answer, err
		}
		if attempt >= r.opt.Attempts {
			if attempt > 1 {
				fault.text += fmt.Sprintf(" (%d attempts)", attempt)
			}
			return nil, err
		}
		// Half to one and a half of the wait, so that requests that failed
		// together do not come back together.
		pause := max(time.Duration((0.5+rand.Float64())*float64(wait)), min(fault.wait, 10*time.Minute))
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
		wait = min(2*wait, maxWait)
	}
}

// post sends a body once.
func (r *Remote) post(ctx context.Context, kind string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	defer cancel()
	u := *r.base
	u.Path += "/" + kind
	at := safeURL(u.String())
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, &serverError{status: http.StatusNotFound, text: "no request can be made of " + at}
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Accept", "application/json")
	if r.opt.APIKey != "" {
		q.Header.Set("Authorization", "Bearer "+r.opt.APIKey)
	}
	resp, err := r.opt.Client.Do(q)
	if err != nil {
		// The error of the client repeats the address, with what is secret in it.
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, &serverError{text: r.clean(fmt.Sprintf("%s: %v", at, err)), cause: err}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		text := fmt.Sprintf("%s: %s", at, resp.Status)
		if said := reason(answer); said != "" {
			text += ": " + said
		}
		return nil, &serverError{status: resp.StatusCode, text: r.clean(text), wait: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	case err != nil:
		return nil, &serverError{text: r.clean(fmt.Sprintf("%s: the answer broke off: %v", at, err)), cause: err}
	case len(answer) > maxAnswer:
		return nil, &serverError{status: http.StatusBadRequest, text: fmt.Sprintf("%s: the answer has more than %d bytes", at, maxAnswer)}
	case !json.Valid(answer):
		return nil, &serverError{text: r.clean(fmt.Sprintf("%s: the answer is not JSON: %s", at, excerpt(string(answer))))}
	}
	return answer, nil
}

// clean takes the key out of a text, should the server have sent it back.
func (r *Remote) clean(text string) string {
	if r.opt.APIKey != "" {
		text = strings.ReplaceAll(text, r.opt.APIKey, "[key]")
	}
	if p, ok := r.base.User.Password(); ok && p != "" {
		text = strings.ReplaceAll(text, p, "[password]")
	}
	return text
}

// reason is what an error's body says: {"error": {"message"}}, {"message"},
// {"detail"}, or its text.
func reason(body []byte) string {
	var e struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(body, &e) == nil {
		var inner struct {
			Message string `json:"message"`
		}
		var text string
		switch {
		case json.Unmarshal(e.Error, &inner) == nil && inner.Message != "":
			return excerpt(inner.Message)
		case json.Unmarshal(e.Error, &text) == nil && text != "":
			return excerpt(text)
		case e.Message != "":
			return excerpt(e.Message)
		case json.Unmarshal(e.Detail, &text) == nil && text != "":
			return excerpt(text)
		case len(e.Detail) > 0:
			return excerpt(string(e.Detail))
		}
	}
	return excerpt(string(body))
}

// excerpt is the beginning of a text, in one line.
func excerpt(s string) string {
	const most = 300
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
	if len(s) <= most {
		return s
	}
	for i := most; ; i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i] + "…"
		}
	}
}

// retryAfter reads the header of that name: seconds or a date.
func retryAfter(h string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSpace(h)); err == nil && n > 0 {
		return time.Duration(min(n, 1e6)) * time.Second
	}
	if t, err := http.ParseTime(h); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}
