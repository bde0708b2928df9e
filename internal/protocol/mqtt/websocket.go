package mqtt

import (
	"context"
	"net"
	"net/url"

	"github.com/windrose-edc/windrose/internal/protocol/mqtt/wire"
	"github.com/windrose-edc/windrose/internal/ws"
)

// Subprotocols are the names under which MQTT is spoken over WebSocket: that of the specification [MQTT-6.0.0-3], and
// what clients of MQTT 3.1 say.
func Subprotocols() []string { return []string{"mqtt", "mqttv3.1"} }

// CloseCode is the close code of WebSocket for an error that ended a connection; 0: none of its own.
func CloseCode(err error) ws.Code {
	switch reasonOf(err) {
	case endClient, endEOF:
		return ws.Normal
	case endStopped:
		return ws.GoingAway
	case endProtocol:
		return ws.ProtocolError
	case endOther:
		return 0
	}
	return ws.Policy
}

// dialWebSocket opens a WebSocket on a connection, at the client's end.
func dialWebSocket(ctx context.Context, conn net.Conn, u *url.URL, v wire.Version) (net.Conn, error) {
	o := ws.ClientOptions{Host: u.Host, Path: u.RequestURI(), Protocols: Subprotocols()[:1]}
	if u.Path == "" {
		o.Path = "/mqtt"
	}
	if v == wire.V31 {
		o.Protocols = []string{"mqttv3.1", "mqtt"}
	}
	c, err := ws.Client(ctx, conn, o)
	if err != nil {
		return nil, err
	}
	return c, nil
}
