package serve

import (
	"log/slog"
	"net/http"
	"time"
)

// An entry is what is remembered of a request, for the log and the metrics.
type entry struct {
	start   time.Time
	client  string
	model   modelName
	stream  bool
	samples int
	usage   usage
	err     *apiError
	content bool // keep the texts
	asked   []slog.Attr
	answers []string
}

// recorder keeps the entry of a request beside its response.
type recorder struct {
	http.ResponseWriter
	entry  entry
	status int
}

// Unwrap lets http.ResponseController flush and set deadlines.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	if status == statusClosed {
		return // nobody reads it
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.status == statusClosed {
		return len(b), nil
	}
	return r.ResponseWriter.Write(b)
}

func entryOf(w http.ResponseWriter) *entry { return &w.(*recorder).entry }

func noteError(w http.ResponseWriter, e *apiError) { entryOf(w).err = e }

func (e *entry) noteBody(b *body) {
	e.stream, e.samples = b.Stream, b.samples()
	if !e.content {
		return
	}
	if len(b.Messages) > 0 {
		text, _ := marshal(b.Messages) // they have been JSON
		e.asked = append(e.asked, slog.String("messages", string(text)))
	} else {
		e.asked = append(e.asked, slog.String("prompt", string(b.Prompt)))
	}
}

func (e *entry) noteAnswer(text string) {
	if e.content {
		e.answers = append(e.answers, text)
	}
}

// done counts and logs a request that has been answered.
func (s *Server) done(rec *recorder, r *http.Request) {
	e := &rec.entry
	took := time.Since(e.start)
	status := rec.status
	if status == 0 {
		status = http.StatusOK
	}
	if e.err != nil {
		status = e.err.status
	}
	s.metrics.request(r.Pattern, status, e, took)
	if open(r.URL.Path) && status < 400 || r.URL.Path == "/metrics" {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", status),
		slog.String("client", e.client), slog.String("took", took.Round(time.Millisecond).String()),
	}
	if e.model.name != "" {
		attrs = append(attrs, slog.String("model", e.model.String()))
	}
	if e.usage.Total > 0 {
		attrs = append(attrs, slog.Int("prompt_tokens", e.usage.Prompt), slog.Int("completion_tokens", e.usage.Completion))
	}
	level := slog.LevelInfo
	if e.err != nil {
		if status >= 500 {
			level = slog.LevelError
		}
		what := e.err.code
		if what == "" || status >= 500 || e.content {
			what = e.err.message
		}
		attrs = append(attrs, slog.String("error", what))
	}
	attrs = append(attrs, e.asked...)
	if len(e.answers) > 0 {
		attrs = append(attrs, slog.Any("answers", e.answers))
	}
	s.log.LogAttrs(r.Context(), level, "request", attrs...)
}
