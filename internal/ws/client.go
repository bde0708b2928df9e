package ws

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxPiece bounds the payload of one frame that a client sends, and with it its scratch buffer: the payload is masked
// in a copy, for it belongs to the caller.
const maxPiece = 64 << 10

// closeWait is how long the close frame of a client may take.
const closeWait = time.Second

// ClientOptions say what a client asks for. Immutable.
type ClientOptions struct {
	Host      string   // for the Host field: host or host:port
	Path      string   // with its query; "" is /
	Protocols []string // subprotocols, the preferred one first; the server must choose one
}

// ClientConn is the client's end of a WebSocket connection as a net.Conn: what is written goes out in binary messages,
// what is read is the payload of those that come. One goroutine may read, which owns what is for reading; any may write, close
// and set deadlines: the rest is guarded by mu.
type ClientConn struct {
	net.Conn
	protocol string
	dec      decoder // owned by the reader
	early    []byte  // came together with the answer to the handshake; owned by the reader
	err      error   // owned by the reader

	mu      sync.Mutex // guards what follows
	scratch []byte
	said    bool // the close frame was sent

	owing sync.Mutex // guards owed
	owed  []byte     // payload of the ping that is still to be answered, the last one; nil: none
}

// Client opens a WebSocket on conn, which it takes over when it succeeds. ctx bounds the handshake (RFC 6455, 4.1).
func Client(ctx context.Context, conn net.Conn, o ClientOptions) (*ClientConn, error) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	path := o.Path
	if path == "" {
		path = "/"
	}
	if !visible(path) || strings.ContainsAny(path, " \t") || !visible(o.Host) {
		return nil, errors.New("websocket: path or host cannot be sent")
	}
	ask := "GET " + path + " HTTP/1.1\r\nHost: " + o.Host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + key +
		"\r\nSec-WebSocket-Version: " + version + "\r\nSec-WebSocket-Protocol: " + strings.Join(o.Protocols, ", ") + "\r\n\r\n"
	late := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	answer, early, err := exchange(conn, ask)
	if !late() {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("websocket handshake: %w", err)
	}
	protocol, err := checkAnswer(answer, key, o.Protocols)
	if err != nil {
		return nil, fmt.Errorf("websocket handshake: %w", err)
	}
	return &ClientConn{Conn: conn, protocol: protocol, dec: decoder{client: true}, early: early}, nil
}

// exchange sends the request and reads the head of the answer; early is what came behind it.
func exchange(conn net.Conn, ask string) (answer, early []byte, err error) {
	if _, err := io.WriteString(conn, ask); err != nil {
		return nil, nil, err
	}
	b := make([]byte, 0, 1024)
	for scanned := 0; ; {
		n, err := conn.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if end := headEnd(b, scanned); end > 0 {
			return b[:end], b[end:], nil
		}
		scanned = len(b)
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, nil, err
		case len(b) > maxHead:
			return nil, nil, errors.New("the head of the answer is too long")
		case len(b) == cap(b):
			b = slices.Grow(b, len(b))
		}
	}
}

// checkAnswer says whether the server opened the WebSocket as it was asked to (4.1, the client's checks).
func checkAnswer(raw []byte, key string, offered []string) (protocol string, err error) {
	h, ok := parseHead(raw)
	part := strings.SplitN(h.line, " ", 3)
	if !ok || len(part) < 2 || !strings.HasPrefix(part[0], "HTTP/1.") {
		return "", errors.New("the answer is not HTTP")
	}
	accept, _, twice := h.one("sec-websocket-accept")
	protocol, _, doubled := h.one("sec-websocket-protocol")
	switch _, extended, _ := h.one("sec-websocket-extensions"); {
	case part[1] != "101":
		return "", fmt.Errorf("the server answers %s", strings.Join(part[1:], " "))
	case !h.has("upgrade", "websocket") || !h.has("connection", "upgrade"):
		return "", errors.New("the answer is no upgrade to WebSocket")
	case twice || accept != acceptKey(key):
		return "", errors.New("Sec-WebSocket-Accept is wrong")
	case extended:
		return "", errors.New("the server chose an extension that was not offered")
	case doubled || !slices.Contains(offered, protocol):
		return "", errors.New("the server chose no subprotocol that was offered")
	}
	return protocol, nil
}

// Subprotocol is what the server chose.
func (c *ClientConn) Subprotocol() string { return c.protocol }

// Read implements net.Conn. At the end it says io.EOF where the server closed with 1000 or 1001, else an *Error.
func (c *ClientConn) Read(p []byte) (int, error) {
	for {
		if c.err != nil {
			return 0, c.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		n := copy(p, c.early)
		if c.early = c.early[n:]; n == 0 {
			var err error
			if n, err = c.Conn.Read(p); n == 0 && err != nil {
				return 0, err // perhaps a deadline: the next call may succeed
			}
		}
		data, err := c.dec.feed(p[:n], c.pong)
		n = copy(p, data)
		if err != nil {
			c.end(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// end keeps what reading ends with, and answers it.
func (c *ClientConn) end(e *Error) {
	c.err = e
	if e.Remote && (e.Code == Normal || e.Code == GoingAway) {
		c.err = io.EOF
	}
	_ = c.SetWriteDeadline(time.Now().Add(closeWait)) // so that a writer that is stuck gives the lock back
	c.mu.Lock()
	defer c.unlock()
	c.sayClose(e.Code)
}

// sayClose sends a close frame, once; whether it arrives is not known. mu is held.
func (c *ClientConn) sayClose(code Code) {
	if c.said {
		return
	}
	c.said = true
	_ = c.SetWriteDeadline(time.Now().Add(closeWait))
	payload := []byte{byte(code >> 8), byte(code)}
	if code == NoCode {
		payload = nil
	}
	_ = c.write(opClose, payload)
}

// pong answers a ping without waiting for a writer: the server may not read before we do. What comes while somebody
// writes is answered behind that, the last of several (5.5.3).
func (c *ClientConn) pong(payload []byte) {
	c.owing.Lock()
	c.owed = append([]byte{}, payload...)
	c.owing.Unlock()
	if c.mu.TryLock() {
		c.unlock()
	}
}

// unlock gives mu back and leaves no ping unanswered.
func (c *ClientConn) unlock() {
	for {
		c.owing.Lock()
		p := c.owed
		c.owed = nil
		c.owing.Unlock()
		if p != nil {
			_ = c.write(opPong, p) // where writing fails, reading will too
		}
		c.mu.Unlock()
		c.owing.Lock()
		more := c.owed != nil
		c.owing.Unlock()
		if !more || !c.mu.TryLock() {
			return
		}
	}
}

// Write implements net.Conn: binary messages of up to 64 KiB.
func (c *ClientConn) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.unlock()
	for len(p) > 0 {
		piece := p[:min(len(p), maxPiece)]
		if err := c.write(opBinary, piece); err != nil {
			return n, err
		}
		n += len(piece)
		p = p[len(piece):]
	}
	return n, nil
}

// write sends one frame, masked with a new key (5.3). mu is held.
func (c *ClientConn) write(op byte, payload []byte) error {
	if c.said && op != opClose {
		return net.ErrClosed
	}
	b := append(c.scratch[:0], finBit|op)
	switch n := len(payload); {
	case n <= 125:
		b = append(b, maskBit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, maskBit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, maskBit|127), uint64(n))
	}
	var key [4]byte
	_, _ = rand.Read(key[:]) // never fails
	b = append(b, key[:]...)
	at := len(b)
	b = append(b, payload...)
	mask(b[at:], payload, binary.LittleEndian.Uint32(key[:]))
	c.scratch = b
	_, err := c.Conn.Write(b)
	return err
}

// Close implements net.Conn. It sends a close frame and does not wait for the answer (7.1.1 lets it).
func (c *ClientConn) Close() error {
	_ = c.SetWriteDeadline(time.Now().Add(closeWait)) // so that a writer that is stuck gives the lock back
	c.mu.Lock()
	c.sayClose(Normal)
	c.unlock()
	return c.Conn.Close()
}
