package mqtt

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
)

// makePrivate makes a connection of MQTT 3.1.1 say that it is a bridge, as mosquitto's own bridges do: bit 0x80 of the
// protocol level. Such a broker then leaves out what came by the same connection and keeps retain flags. The bit is set
// below the client, in the first packet that it writes; so TLS is done here, too.
func makePrivate(o *ClientOptions) error {
	u, secure, err := clientURL(o.URL)
	if err != nil {
		return err
	}
	var conf *tls.Config
	if secure {
		conf = o.TLS.Clone()
		if conf.ServerName == "" {
			conf.ServerName = u.Hostname()
		}
		u.Scheme = "mqtt"
		o.URL = u.String()
	}
	o.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if conf != nil {
			t := tls.Client(conn, conf)
			if err := t.HandshakeContext(ctx); err != nil {
				conn.Close()
				return nil, err
			}
			conn = t
		}
		return &privateConn{Conn: conn}, nil
	}
	return nil
}

// privateConn sets the bridge bit in the CONNECT that is its first write. Owned by the client that writes.
type privateConn struct {
	net.Conn
	begun bool
}

// Write implements net.Conn.
func (c *privateConn) Write(b []byte) (int, error) {
	if c.begun {
		return c.Conn.Write(b)
	}
	c.begun = true
	return c.Conn.Write(withBridgeBit(b))
}

// CloseWrite passes on to the connection below, where that can do it.
func (c *privateConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// withBridgeBit returns the CONNECT in b with the bridge bit set; anything else as it is.
func withBridgeBit(b []byte) []byte {
	const bit = 0x80
	first, body, n, err := wire.Next(b, 0)
	if err != nil || n == 0 || wire.KindOf(first) != wire.CONNECT || len(body) < 2 {
		return b
	}
	at := n - len(body) + 2 + int(body[0])<<8 + int(body[1]) // behind the protocol name
	if at >= n {
		return b
	}
	out := append([]byte(nil), b...)
	out[at] |= bit
	return out
}
