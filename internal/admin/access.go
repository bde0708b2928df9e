package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// Role is what a caller may do; each includes those below it.
type Role uint8

// The roles.
const (
	None     Role = iota // the probes, nothing else
	Viewer               // see
	Operator             // act on what runs: kick, drain, replay, tap
	Admin                // change what runs: configuration, purge
)

var roleNames = [...]string{"none", "viewer", "operator", "admin"}

// String is the word of the configuration and of tokens.
func (r Role) String() string { return roleNames[r&3] }

// ParseRole reads the word of a role that can be given: viewer, operator or admin.
func ParseRole(s string) (Role, error) {
	for r := Viewer; r <= Admin; r++ {
		if s == r.String() {
			return r, nil
		}
	}
	return None, fmt.Errorf("unknown role %q: viewer, operator or admin", s)
}

// Caller is who asks. Immutable.
type Caller struct {
	Name   string // "socket", "loopback", or "token NAME"
	Role   Role
	Remote string // address, "" by the socket
}

type callerKey struct{}

// callerOf is who asks in the request of ctx.
func callerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// identify says who asks. By the unix socket its file mode has decided; a loopback address admits as Options.Loopback
// says; a token gives its own role on both. A loopback connection that names somebody behind it (a proxy's header) is
// treated as one from elsewhere. code is not 0 where a token was shown that is none.
func (s *Server) identify(r *http.Request) (c Caller, code int, why string) {
	c.Remote = r.RemoteAddr
	switch local := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.UnixAddr:
		c = Caller{Name: "socket", Role: Admin}
	case *net.TCPAddr:
		if local.IP.IsLoopback() && !forwarded(r) {
			c.Name, c.Role = "loopback", s.o.Loopback
		}
	}
	secret := shown(r)
	if secret == "" {
		return c, 0, ""
	}
	now := time.Now()
	if name, role := s.tokens.check(secret, now); role != None {
		return Caller{Name: "token " + name, Role: role, Remote: r.RemoteAddr}, 0, ""
	}
	if !s.attempts.fail(r.RemoteAddr, now) {
		return Caller{Remote: r.RemoteAddr}, http.StatusTooManyRequests, "too many wrong tokens from this address: try again in a minute"
	}
	return Caller{Remote: r.RemoteAddr}, http.StatusUnauthorized, "this token is not valid here, or its time has passed"
}

// shown is the token that a request shows: as a bearer, or as the password of a browser's dialogue.
func shown(r *http.Request) string {
	h := r.Header.Get("Authorization")
	if scheme, rest, ok := strings.Cut(h, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest)
	}
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	return h
}

func forwarded(r *http.Request) bool {
	for _, h := range [...]string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(h) != "" {
			return true
		}
	}
	return false
}

// allowed says why a caller may not ask something; 0 is that it may.
func allowed(c Caller, need Role) (code int, why string) {
	switch {
	case c.Role >= need:
		return 0, ""
	case c.Role == None:
		return http.StatusUnauthorized, "beyond the unix socket and loopback a token is needed: Authorization: Bearer TOKEN (windrose token create makes one)"
	case strings.HasPrefix(c.Name, "token "):
		return http.StatusForbidden, fmt.Sprintf("this needs the role %s, the token has %s", need, c.Role)
	}
	return http.StatusForbidden, fmt.Sprintf("this needs the role %s; without a token this address gives %s: use the unix socket, a token, or node.admin_loopback", need, c.Role)
}
