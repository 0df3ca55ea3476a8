package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Serve answers on a listener until ctx ends, and closes both. Requests that
// are under way or wait then have drain to finish; those that come are refused.
// It returns nil if all were answered.
func (s *Server) Serve(ctx context.Context, l net.Listener, drain time.Duration) error {
	hard, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	h := &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return hard },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	if s.pair != nil {
		s.scheduler.warm(modelName{nameExPO, s.pair.Alpha})
	}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(l) }()
	defer s.Close()
	select {
	case err := <-failed:
		cancel(errClosing)
		return err
	case <-ctx.Done():
	}
	s.scheduler.stop()
	patience, stop := context.WithTimeout(hard, drain)
	defer stop()
	err := h.Shutdown(patience)
	if err != nil {
		// Whoever is still there is told, and cut off.
		cancel(errClosing)
		told := make(chan struct{})
		go func() { defer close(told); s.inFlight.Wait() }()
		select {
		case <-told:
		case <-time.After(5 * time.Second):
		}
		h.Close()
		err = errors.New("serve: some requests were cut off; they took longer than the server waits for at its end")
	}
	<-failed
	s.inFlight.Wait()
	return err
}
