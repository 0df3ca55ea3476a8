package serve

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// guard checks who asks, bounds what is read, and takes notes.
func (s *Server) guard(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.inFlight.Add(1)
		defer s.inFlight.Done()
		rec := &recorder{ResponseWriter: w, entry: entry{start: time.Now(), content: s.logContent}}
		rec.entry.client = s.clientOf(r)
		defer s.done(rec, r)
		h := rec.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if s.localHost && !isLocal(r.Host) {
			s.fail(rec, &apiError{status: http.StatusForbidden, code: "host_not_allowed",
				message: "this server listens on this machine only, and " + strconv.Quote(r.Host) + " is another name; use 127.0.0.1 or localhost"})
			return
		}
		if allowed := s.cors(rec, r); !allowed {
			if err := cross.Check(r); err != nil {
				s.fail(rec, &apiError{status: http.StatusForbidden, code: "origin_not_allowed",
					message: "requests from pages of other origins are refused; --cors allows one"})
				return
			}
		} else if r.Method == http.MethodOptions {
			rec.WriteHeader(http.StatusNoContent)
			return
		}
		if !s.mayAsk(r, &rec.entry) {
			s.fail(rec, &apiError{status: http.StatusUnauthorized, code: "invalid_api_key", message: "the API key is missing or wrong"})
			return
		}
		if err := s.readAll(rec, r); err != nil {
			s.fail(rec, err)
			return
		}
		next.ServeHTTP(rec, r)
	})
}

// readTimeout is how long a client may take to send a body.
const readTimeout = time.Minute

// readAll reads a request's body, up to the limit. From its end on net/http
// watches for the client to go away; that must have no deadline.
func (s *Server) readAll(rec *recorder, r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	c := http.NewResponseController(rec.ResponseWriter)
	c.SetReadDeadline(time.Now().Add(readTimeout))
	b, err := io.ReadAll(http.MaxBytesReader(rec.ResponseWriter, r.Body, s.limits.Body))
	c.SetReadDeadline(time.Time{})
	r.Body = io.NopCloser(bytes.NewReader(b))
	return err
}

// cors answers for origins that are allowed, and reports whether r is of one.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || len(s.origins) == 0 {
		return false
	}
	w.Header().Add("Vary", "Origin")
	if !slices.Contains(s.origins, origin) && !slices.Contains(s.origins, "*") {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	h.Set("Access-Control-Max-Age", "600")
	return true
}

// isLocal reports whether a Host header means this machine.
func isLocal(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// open are paths that need no key: whether the server lives, and the page,
// which asks for one.
func open(path string) bool {
	return path == "/health" || !strings.HasPrefix(path, "/v1/") && !strings.HasPrefix(path, "/api/") && path != "/metrics"
}

// mayAsk checks the key. Who has one is a client of its own.
func (s *Server) mayAsk(r *http.Request, e *entry) bool {
	if len(s.keys) == 0 || open(r.URL.Path) {
		return true
	}
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(key)))
	found := -1
	for i := range s.keys {
		if subtle.ConstantTimeCompare(sum[:], s.keys[i][:]) == 1 {
			found = i
		}
	}
	if !ok || found < 0 {
		return false
	}
	if len(s.keys) > 1 {
		e.client = "key " + strconv.Itoa(found+1)
	}
	return true
}

// clientOf is who shares the machine with others: an address.
func (s *Server) clientOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// decode reads a request of our own API.
func decode(r *http.Request, v any) error {
	err := json.NewDecoder(r.Body).Decode(v)
	if err == nil {
		return nil
	}
	if a := asAPI(err); a.status != http.StatusInternalServerError {
		return err
	}
	return badField("", "%v", err)
}
