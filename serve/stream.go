package serve

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// writeTimeout is how long a client may take for one piece before it counts as
// gone.
const writeTimeout = 30 * time.Second

// An eventStream writes server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type eventStream struct {
	w     http.ResponseWriter
	began bool
}

func (s *eventStream) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.line(b)
}

func (s *eventStream) line(b []byte) error {
	if !s.began {
		s.began = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
		s.w.WriteHeader(http.StatusOK)
	}
	c := http.NewResponseController(s.w)
	c.SetWriteDeadline(time.Now().Add(writeTimeout))
	buf := make([]byte, 0, len(b)+8)
	buf = append(append(append(buf, "data: "...), b...), "\n\n"...)
	if _, err := s.w.Write(buf); err != nil {
		return err
	}
	return c.Flush()
}

// stream answers piece by piece. head, if it is not nil, are the choices of the
// first event; choices makes those of a piece, nil for nothing to tell.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, b *body, e *entry, name modelName, qs []question, env *envelope, head []chatChoice, choices func(piece) any) {
	n := b.samples()
	out := &eventStream{w: w}
	// The connection may be used again.
	defer http.NewResponseController(w).SetWriteDeadline(time.Time{})
	var text strings.Builder
	event := func(c any) error {
		env.Choices = c
		err := out.send(env)
		env.PromptIDs = nil
		return err
	}
	for p, err := range s.answer(r.Context(), e, name, qs, n, true) {
		if err != nil {
			if !out.began {
				s.fail(w, err)
				return
			}
			a := asAPI(err)
			noteError(w, a)
			if out.send(a.body()) == nil {
				out.line([]byte("[DONE]"))
			}
			return
		}
		if s.logContent {
			text.WriteString(p.delta.Text)
		}
		if p.delta.Response != nil {
			e.usage.add(p.delta.Response, p.index%n == 0)
		}
		if !out.began && head != nil {
			if err := event(head); err != nil {
				noteError(w, &apiError{status: statusClosed, message: err.Error()})
				return
			}
		}
		c := choices(p)
		if c == nil {
			continue
		}
		env.Usage = nil
		if b.StreamOptions.ContinuousUsage {
			env.Usage = &e.usage
		}
		if err := event(c); err != nil {
			noteError(w, &apiError{status: statusClosed, message: err.Error()})
			return
		}
	}
	e.noteAnswer(text.String())
	if b.StreamOptions.IncludeUsage {
		env.Usage = &e.usage
		if event([]int{}) != nil {
			return
		}
	}
	out.line([]byte("[DONE]"))
}
