package ws

import (
	"crypto/sha1" //nolint:gosec // RFC 6455, 4.2.2 names it; nothing rests on its strength
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// version is the one that is spoken (RFC 6455, 4.1).
const version = "13"

// Refusal is why a request did not become a connection. Immutable.
type Refusal struct {
	Status int
	Reason string // the word of the metric
	Text   string // for the peer, without what it sent
	extra  string // further header fields, each with its line end
}

// Error implements error.
func (r *Refusal) Error() string { return "websocket handshake refused: " + r.Text }

// The refusals, by the word of the metric.
const (
	refusedMalformed   = "malformed"
	refusedTooLarge    = "too_large"
	refusedTimeout     = "timeout"
	refusedMethod      = "method"
	refusedPath        = "path"
	refusedNoUpgrade   = "no_upgrade"
	refusedVersion     = "version"
	refusedOrigin      = "origin"
	refusedSubprotocol = "subprotocol"
)

// refusalReasons are all of them.
func refusalReasons() []string {
	return []string{refusedMalformed, refusedTooLarge, refusedTimeout, refusedMethod, refusedPath, refusedNoUpgrade, refusedVersion, refusedOrigin,
		refusedSubprotocol}
}

var statusText = map[int]string{400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
	426: "Upgrade Required", 431: "Request Header Fields Too Large"}

func malformed(text string) *Refusal {
	return &Refusal{Status: 400, Reason: refusedMalformed, Text: text}
}

// terms are what a listener asks of a request. Immutable.
type terms struct {
	paths     []string
	origins   []string // empty: all
	protocols []string // subprotocols that are spoken; one of them must be offered
}

// accepted is what the answer to a good request says. Immutable.
type accepted struct {
	key      string // Sec-WebSocket-Accept
	protocol string
}

// check reads a complete request: RFC 6455, 4.1 and 4.2.1.
func (t *terms) check(raw []byte) (accepted, *Refusal) {
	h, ok := parseHead(raw)
	if !ok {
		return accepted{}, malformed("this is not an HTTP request")
	}
	part := strings.Split(h.line, " ")
	if len(part) != 3 || !isToken(part[0]) || !strings.HasPrefix(part[2], "HTTP/") {
		return accepted{}, malformed("this is not an HTTP request")
	}
	return t.request(part[0], part[1], part[2], &h)
}

func (t *terms) request(method, target, proto string, h *head) (a accepted, r *Refusal) {
	if method != "GET" {
		return a, &Refusal{Status: 405, Reason: refusedMethod, Text: "only GET, to open a WebSocket", extra: "Allow: GET\r\n"}
	}
	u, err := url.ParseRequestURI(target)
	if err != nil || u.Path == "" && u.Host == "" || u.Fragment != "" {
		return a, malformed("the request target cannot be read")
	}
	if host, there, twice := h.one("host"); twice || (!there || host == "") && proto != "HTTP/1.0" {
		return a, malformed("the Host field must be there, once")
	}
	if _, there, _ := h.one("transfer-encoding"); there {
		return a, malformed("a request that opens a WebSocket has no body")
	}
	if n, there, twice := h.one("content-length"); twice || there && n != "0" {
		return a, malformed("a request that opens a WebSocket has no body")
	}
	path := u.Path
	if path == "" {
		path = "/"
	}
	if !slices.Contains(t.paths, path) {
		return a, &Refusal{Status: 404, Reason: refusedPath, Text: "nothing is here; the path of the WebSocket is another"}
	}
	if !h.has("upgrade", "websocket") {
		return a, upgradeRequired(refusedNoUpgrade, "this address speaks WebSocket")
	}
	if !h.has("connection", "upgrade") || proto != "HTTP/1.1" {
		return a, malformed("Upgrade needs Connection: Upgrade and HTTP/1.1")
	}
	if v, there, twice := h.one("sec-websocket-version"); twice {
		return a, malformed("Sec-WebSocket-Version must be there once")
	} else if !there || v != version {
		return a, upgradeRequired(refusedVersion, "the version of WebSocket that is spoken here is "+version) // 4.2.2
	}
	key, _, twice := h.one("sec-websocket-key")
	if nonce, err := base64.StdEncoding.Strict().DecodeString(key); twice || err != nil || len(nonce) != 16 {
		return a, malformed("Sec-WebSocket-Key must be 16 bytes in base64, once")
	}
	if r := t.origin(h); r != nil {
		return a, r
	}
	if a.protocol = t.subprotocol(h); a.protocol == "" {
		return a, &Refusal{Status: 400, Reason: refusedSubprotocol, // [MQTT-6.0.0-3]
			Text: "Sec-WebSocket-Protocol must offer one of: " + strings.Join(t.protocols, ", ")}
	}
	a.key = acceptKey(key)
	return a, nil
}

// origin refuses web pages of others: only browsers send the field (10.2).
func (t *terms) origin(h *head) *Refusal {
	o, there, twice := h.one("origin")
	if twice {
		return malformed("Origin must be there once")
	}
	if !there || len(t.origins) == 0 {
		return nil
	}
	for _, allowed := range t.origins {
		if allowed == "*" || strings.EqualFold(allowed, o) {
			return nil
		}
	}
	return &Refusal{Status: 403, Reason: refusedOrigin, Text: "pages of this origin are not admitted"}
}

// subprotocol is the first one offered that is spoken here (1.9: the client's order is its preference).
func (t *terms) subprotocol(h *head) string {
	for _, p := range h.list("sec-websocket-protocol") {
		if slices.Contains(t.protocols, p) {
			return p
		}
	}
	return ""
}

func upgradeRequired(reason, text string) *Refusal {
	return &Refusal{Status: 426, Reason: reason, Text: text, extra: "Upgrade: websocket\r\nSec-WebSocket-Version: " + version + "\r\n"}
}

// acceptKey proves that the key was read (4.2.2, 5.4).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see the import
	return base64.StdEncoding.EncodeToString(sum[:])
}

// append writes the answer to a good request.
func (a *accepted) append(b []byte) []byte {
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	b = append(b, a.key...)
	b = append(b, "\r\nSec-WebSocket-Protocol: "...)
	b = append(b, a.protocol...)
	return append(b, "\r\n\r\n"...)
}

// append writes the answer to a request that is refused; the connection ends behind it.
func (r *Refusal) append(b []byte) []byte {
	connection := "close"
	if r.Status == 426 {
		connection = "Upgrade, close" // RFC 9110, 7.8 and 15.5.22
	}
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = append(b, statusText[r.Status]...)
	b = append(b, "\r\nConnection: "...)
	b = append(b, connection...)
	b = append(b, "\r\n"...)
	b = append(b, r.extra...)
	b = append(b, "Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.Text)+1), 10)
	b = append(b, "\r\n\r\n"...)
	b = append(b, r.Text...)
	return append(b, '\n')
}
