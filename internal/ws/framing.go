package ws

import (
	"encoding/binary"

	"github.com/windrose-edc/windrose/internal/loop"
)

// framing is the server's end of a connection whose handshake is done: a loop.Framing. Owned by the connection's loop.
type framing struct {
	decoder
	s *Server
}

// Unframe implements loop.Framing. Every ping is answered (RFC 6455, 5.5.2, 5.5.3).
func (f *framing) Unframe(b, reply []byte) (data, replies []byte, err error) {
	data, e := f.feed(b, func(p []byte) { reply = appendPong(reply, p) })
	if e != nil {
		err = e
	}
	f.ctl = shed(f.ctl)
	return data, reply, err
}

// shed gives the buffer of control frames back when it is empty: most connections never need it again.
func shed(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func appendPong(b, payload []byte) []byte {
	return append(append(b, finBit|opPong, byte(len(payload))), payload...)
}

// Frame implements loop.Framing: one binary message, unmasked.
func (f *framing) Frame(b []byte) int {
	n, h := len(b)-loop.FrameRoom, loop.FrameRoom
	switch {
	case n <= 125:
		h -= 2
		b[h+1] = byte(n)
	case n < 1<<16:
		h -= 4
		b[h+1] = 126
		binary.BigEndian.PutUint16(b[h+2:], uint16(n))
	default:
		h -= 10
		b[h+1] = 127
		binary.BigEndian.PutUint64(b[h+2:], uint64(n))
	}
	b[h] = finBit | opBinary
	return h
}

// Bye implements loop.Framing. A close frame of the peer is answered with its own code (5.5.1).
func (f *framing) Bye(b []byte, why error) []byte {
	code := codeOf(why, f.s.o.Code)
	f.s.ended(code)
	text := ""
	if e, ok := asError(why); ok && !e.Remote {
		text = e.Text
	}
	return appendClose(b, code, text)
}
