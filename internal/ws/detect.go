package ws

import (
	"bytes"

	"github.com/windrose-edc/windrose/internal/loop"
)

// detector is a connection of which it is not known yet whether it speaks WebSocket or the protocol without it: the
// first bytes tell. No protocol that is carried begins as a GET request does (MQTT with 0x10, AMQP with its name). Owned by its loop.
type detector struct {
	*opening // keeps the time
}

func newDetector(s *Server, c *loop.Conn) *detector {
	d := &detector{newOpening(s, c)}
	d.unknown = true
	return d
}

var get = []byte("GET ")

// Data implements loop.Handler.
func (d *detector) Data(b []byte) (int, error) {
	n := min(len(b), len(get))
	switch {
	case !bytes.Equal(b[:n], get[:n]):
		d.c.Loop().Disarm(&d.timer)
		h := d.s.next(d.c)
		if h == nil {
			return 0, errRefused
		}
		d.c.SetHandler(h)
	case n == len(get):
		d.unknown = false
		d.c.SetHandler(d.opening)
	}
	return 0, nil
}
