package admin

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// guard is what every request passes: method, Host, the bound on requests at once, and the headers of every answer.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")

		rec := &recorder{ResponseWriter: w, code: http.StatusOK, left: MaxAnswer}
		defer func() {
			if c := s.handled[string('0'+byte(rec.code/100))+"xx"]; c != nil {
				c.Inc()
			}
		}()
		if !s.hostAllowed(r) {
			s.refused["host"].Inc()
			problem(rec, r, http.StatusMisdirectedRequest, "this address answers to localhost and loopback addresses only: open it as http://localhost:PORT/")
			return
		}
		if s.o.Upgrade != nil && s.o.Upgrade(rec, r) {
			return
		}
		if err := s.origin.Check(r); err != nil {
			s.refused["origin"].Inc()
			problem(rec, r, http.StatusForbidden, "a web page of another origin may not change anything here")
			return
		}
		_, pattern := s.mux.Handler(r)
		need, known := s.need[pattern]
		if !known { // the specification of the API
			need.role = Viewer
		}
		if r.URL.Path != "/livez" {
			slots := s.requests
			if need.stream {
				slots, rec.left = s.streams, math.MaxInt
				c := http.NewResponseController(w)
				_ = errors.Join(c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{})) // a writer without them has no deadlines either
			}
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			default:
				s.refused["busy"].Inc()
				h.Set("Retry-After", "1")
				problem(rec, r, http.StatusServiceUnavailable, "too many admin requests at once: try again in a second")
				return
			}
		}
		who, code, why := s.identify(r)
		if code == 0 || need.role == None {
			code, why = allowed(who, need.role)
		}
		if code != 0 {
			s.refuse(rec, r, who, code, why)
			return
		}
		next.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), callerKey{}, who)))
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.log.Info("admin write", "caller", who.Name, "role", who.Role.String(), "remote", who.Remote, "method", r.Method, "path", r.URL.Path, "status", rec.code)
		}
	})
}

// refuse answers who may not ask.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, who Caller, code int, why string) {
	switch code {
	case http.StatusUnauthorized:
		s.refused["token"].Inc()
		w.Header().Add("WWW-Authenticate", `Bearer realm="windrose"`)
		w.Header().Add("WWW-Authenticate", `Basic realm="windrose: any name, a token as the password"`)
		s.log.Info("admin request refused", "remote", who.Remote, "method", r.Method, "path", r.URL.Path, "reason", "token")
	case http.StatusTooManyRequests:
		s.refused["throttled"].Inc()
		w.Header().Set("Retry-After", "60")
	default:
		s.refused["role"].Inc()
		s.log.Info("admin request refused", "caller", who.Name, "remote", who.Remote, "method", r.Method, "path", r.URL.Path, "reason", "role")
	}
	problem(w, r, code, why)
}

// hostAllowed refuses a Host header that a rebinding name would bring. On a loopback address: loopback literals,
// localhost and what Options.Hosts names. Elsewhere: everything, unless Options.Hosts says what.
func (s *Server) hostAllowed(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if slices.ContainsFunc(s.o.Hosts, func(allowed string) bool { return strings.EqualFold(allowed, host) }) {
		return true
	}
	if _, ok := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); ok {
		return true // no browser comes this way
	}
	loopback := host == "localhost" || strings.HasSuffix(host, ".localhost")
	ip, err := netip.ParseAddr(host)
	if err == nil && ip.Unmap().IsLoopback() {
		loopback = true
	}
	if loopback {
		return true
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok && !local.IP.IsLoopback() {
		return len(s.o.Hosts) == 0 || err == nil // an address is not a name: nobody can rebind it
	}
	return false
}

// recorder remembers the status code, and bounds the bytes of an answer that is no stream. Owned by the goroutine of its
// request.
type recorder struct {
	http.ResponseWriter
	code  int
	wrote bool
	left  int // bytes
}

// errAnswer is what a handler gets that answers too much; its client sees the connection close.
var errAnswer = errors.New("answer is too large")

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) {
	if !r.wrote {
		r.code, r.wrote = code, true
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	r.wrote = true
	if r.left -= len(p); r.left < 0 {
		return 0, errAnswer
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// Flush implements http.Flusher, for streams.
func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() } // a writer without it has nothing to flush
