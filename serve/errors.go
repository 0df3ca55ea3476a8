package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/generate/local"
)

// apiError is an error as OpenAI's API tells it.
type apiError struct {
	status  int
	code    string // machine-readable, may be empty
	param   string // the field at fault, may be empty
	message string
}

func (e *apiError) Error() string { return e.message }

// statusClosed is what nginx calls the answer to a client that has gone; it
// appears in logs and metrics only.
const statusClosed = 499

func badField(param, format string, args ...any) error {
	return &apiError{status: http.StatusBadRequest, param: param, message: fmt.Sprintf(format, args...)}
}

// asAPI says what an error is to a client.
func asAPI(err error) *apiError {
	var a *apiError
	var tooLarge *http.MaxBytesError
	var template *chat.TemplateError
	switch {
	case errors.As(err, &a):
		return a
	case errors.As(err, &tooLarge):
		return &apiError{status: http.StatusRequestEntityTooLarge, code: "request_too_large",
			message: fmt.Sprintf("the body is longer than %d bytes, which is this server's limit", tooLarge.Limit)}
	case errors.Is(err, errBusy):
		return &apiError{status: http.StatusTooManyRequests, code: "rate_limit_exceeded", message: err.Error() + "; try again later"}
	case errors.Is(err, errClosing):
		return &apiError{status: http.StatusServiceUnavailable, code: "shutting_down", message: err.Error()}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &apiError{status: statusClosed, code: "client_closed_request", message: "the request was cancelled"}
	case errors.Is(err, local.ErrTooLong):
		return &apiError{status: http.StatusBadRequest, code: "context_length_exceeded", param: "messages", message: err.Error()}
	case errors.Is(err, local.ErrMemory):
		return &apiError{status: http.StatusBadRequest, code: "context_length_exceeded", param: "max_tokens", message: err.Error()}
	case errors.Is(err, local.ErrNoTemplate):
		return &apiError{status: http.StatusBadRequest, code: "no_chat_template", param: "messages",
			message: "this model has no chat template; use /v1/completions, or start the server with --chat-template"}
	case errors.As(err, &template), errors.Is(err, generate.ErrRequest), errors.Is(err, local.ErrStuck):
		return &apiError{status: http.StatusBadRequest, message: err.Error()}
	}
	return &apiError{status: http.StatusInternalServerError, code: "internal_error", message: err.Error()}
}

// kind is OpenAI's error type.
func (e *apiError) kind() string {
	switch {
	case e.status == http.StatusUnauthorized:
		return "authentication_error"
	case e.status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case e.status < 500:
		return "invalid_request_error"
	}
	return "server_error"
}

// body is the error's JSON.
func (e *apiError) body() map[string]any {
	null := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	return map[string]any{"error": map[string]any{"message": e.message, "type": e.kind(), "param": null(e.param), "code": null(e.code)}}
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, err error) {
	e := asAPI(err)
	switch e.status {
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", strconv.Itoa(s.metrics.retryAfter(s.scheduler.load())))
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	noteError(w, e)
	writeJSON(w, e.status, e.body())
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		// Numbers that JSON does not have: a model's fault.
		status = http.StatusInternalServerError
		b, _ = json.Marshal((&apiError{status: status, code: "internal_error", message: err.Error()}).body())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
}
