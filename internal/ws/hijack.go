package ws

import (
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/windrose-edc/windrose/internal/loop"
)

// Take lets a connection in that a server of HTTP gave away: loop.Listener.Take.
type Take func(nc *net.TCPConn, early []byte, accept func(*loop.Conn) loop.Handler) error

// Wants says whether a request that came to a server of HTTP asks for a WebSocket of this Server: by its path, which is
// not /, for that is the page of the server.
func (s *Server) Wants(r *http.Request) bool {
	return r.TLS == nil && r.URL.Path != "/" && slices.Contains(s.terms.paths, r.URL.Path)
}

// Upgrade answers such a request. A good one takes its connection away from the server of HTTP and gives it to a loop, so
// that nothing of that server is left with it.
func (s *Server) Upgrade(w http.ResponseWriter, r *http.Request, take Take) {
	h := head{}
	for name, values := range r.Header {
		for _, v := range values {
			h.fields = append(h.fields, field{strings.ToLower(name), v})
		}
	}
	h.fields = append(h.fields, field{"host", r.Host})
	t := s.terms
	if len(t.origins) == 0 { // what answers there asks nobody who comes from this machine: pages of others must not
		// https too: a proxy may speak TLS before it, and paho for Python says https whatever it speaks.
		t.origins = []string{"http://" + r.Host, "https://" + r.Host}
	}
	a, refusal := t.request(r.Method, r.URL.RequestURI(), r.Proto, &h)
	if refusal == nil && (r.ContentLength != 0 || len(r.TransferEncoding) > 0) {
		refusal = malformed("a request that opens a WebSocket has no body")
	}
	if refusal != nil {
		s.refused[refusal.Reason].Inc()
		refusal.answer(w)
		return
	}
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refusal = malformed("this connection cannot be upgraded")
		s.refused[refusal.Reason].Inc()
		refusal.answer(w)
		return
	}
	defer func() { _ = nc.Close() }() // the loop has a descriptor of its own
	tcp := tcpOf(nc)
	if tcp == nil {
		s.refused[refusedMalformed].Inc()
		return
	}
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered()) // what is there is there
	accept := func(c *loop.Conn) loop.Handler {
		c.SetOut(a.append(c.Out()))
		return s.frame(c)
	}
	if err := take(tcp, slices.Clone(early), accept); err != nil {
		return // counted by the listener
	}
}

// tcpOf finds the TCP connection in what surrounds it; nil: there is none.
func tcpOf(c net.Conn) *net.TCPConn {
	for {
		switch t := c.(type) {
		case *net.TCPConn:
			return t
		case interface{ NetConn() net.Conn }:
			c = t.NetConn()
		default:
			return nil
		}
	}
}

// answer is append for a server of HTTP.
func (r *Refusal) answer(w http.ResponseWriter) {
	h := w.Header()
	for line := range strings.SplitSeq(r.extra, "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			h.Set(name, value)
		}
	}
	h.Set("Connection", "close")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(r.Status)
	_, _ = w.Write([]byte(r.Text + "\n")) // the peer may be gone
}
